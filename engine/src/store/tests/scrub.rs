//! A scrub reads everything, in steps, and finds what a table lost.

use std::fs;

use super::*;
use crate::error::StoreError;

fn filled() -> Fixture {
    let mut f = Fixture::new();
    for i in 0..400 {
        let (id, frame) = (format!("id-{i}"), [i as u8; 900]);
        let message = upsert(ZIP_A, NOW + i, &frame);
        f.ops(NOW + i, &[admit(&id, message), write(&id, ZIP_A, at(NOW + i), &frame)]);
    }
    f.store.flush().unwrap();
    f
}

/// Scrubs in steps of `bytes_min`; returns how many, and the bytes read.
fn scrub(f: &Fixture, bytes_min: u64) -> Result<(u32, u64), StoreError> {
    let (mut steps, mut total, mut from) = (0, 0, None);
    loop {
        let step = f.shard.scrub(from.as_deref(), bytes_min)?;
        steps += 1;
        total += step.bytes;
        match step.next {
            Some(next) => from = Some(next),
            None => return Ok((steps, total)),
        }
    }
}

#[test]
fn steps_of_any_size_read_the_same() {
    let f = filled();
    let (steps, whole) = scrub(&f, u64::MAX).unwrap();
    assert_eq!(steps, 1);
    assert!(whole > 400 * 900);
    let (steps, total) = scrub(&f, 10_000).unwrap();
    assert!(steps > 30, "{steps} steps");
    assert_eq!(total, whole, "nothing is read twice or left out");
}

#[test]
fn a_flipped_byte_in_a_table_is_found() {
    let f = filled();
    let tables: Vec<_> = fs::read_dir(f.dir.path().join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    assert!(!tables.is_empty());
    for table in tables {
        let mut bytes = fs::read(&table).unwrap();
        bytes[1000] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
    let found = scrub(&f, 10_000).unwrap_err();
    assert!(matches!(found, StoreError::Database { .. }), "{found}");
}
