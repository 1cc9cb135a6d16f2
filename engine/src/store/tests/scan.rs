//! Reading a ZIP.

use std::sync::atomic::{AtomicBool, Ordering};

use platbook_protocol::rpc::scan;

use super::*;
use crate::store::RowScan;

/// A row of a scan: id, revision, summary, frame.
type ScannedRow = (String, u64, Vec<u8>, Vec<u8>);

/// Everything that a scan gives, and whether the limit stopped it.
fn drain(scan: &mut RowScan, bytes_max: usize) -> (Vec<ScannedRow>, bool) {
    let mut bytes = Vec::new();
    while let Some(chunk) = scan.next_chunk(bytes_max).unwrap() {
        bytes.extend(chunk);
    }
    let mut rows = Vec::new();
    let mut rest = bytes.as_slice();
    while rest[0] == scan::ROW {
        let number = |at: usize, len: usize| {
            rest[at..at + len].iter().rev().fold(0, |n: u64, byte| n << 8 | u64::from(*byte))
        };
        let revision = number(3, 8);
        let lens = [number(1, 2), number(11, 2), number(13, 4)].map(|len| len as usize);
        rest = &rest[scan::ROW_HEAD_BYTES..];
        let mut take = |len: usize| {
            let (part, tail) = rest.split_at(len);
            rest = tail;
            part.to_vec()
        };
        let [id, summary, frame] = lens.map(&mut take);
        rows.push((String::from_utf8(id).unwrap(), revision, summary, frame));
    }
    assert_eq!((rest[0], rest.len()), (scan::END, 2));
    (rows, rest[1] == 1)
}

fn ids(rows: &[ScannedRow]) -> Vec<&str> {
    rows.iter().map(|row| row.0.as_str()).collect()
}

fn all() -> crate::store::Keep {
    Box::new(|_| true)
}

#[test]
fn a_scan_gives_the_live_rows_of_its_zip_in_order_whatever_the_chunks() {
    let mut f = Fixture::new();
    for id in ["b", "a", "c", "\u{10ffff}"] {
        f.op(NOW, write(id, ZIP_A, at(NOW), id.as_bytes()));
    }
    f.op(NOW, write("x", ZIP_B, at(NOW), b"x"));
    f.op(NOW, erase("b", ZIP_A, at(NOW) + 1));
    for bytes_max in [1, 30, 1 << 20] {
        let mut scan = f.shard.scan(ZIP_A, None, all(), None).unwrap();
        assert_eq!(scan.state(), f.shard.zip_state(ZIP_A).unwrap());
        let (rows, limited) = drain(&mut scan, bytes_max);
        assert_eq!(ids(&rows), ["a", "c", "\u{10ffff}"]);
        assert!(!limited);
        let first = ("a".to_string(), at(NOW), b"summary".to_vec(), b"a".to_vec());
        assert_eq!(rows[0], first);
    }
    let mut empty = f.shard.scan(Zip::Unknown, None, all(), None).unwrap();
    assert_eq!(drain(&mut empty, 100), (Vec::new(), false));
}

#[test]
fn a_scan_goes_on_behind_an_id_and_says_whether_more_may_wait() {
    let mut f = Fixture::new();
    for id in ["a", "aa", "b", "c"] {
        f.op(NOW, write(id, ZIP_A, at(NOW), id.as_bytes()));
    }
    let page = |after, limit| {
        let mut scan = f.shard.scan(ZIP_A, after, all(), Some(limit)).unwrap();
        let (rows, limited) = drain(&mut scan, 100);
        (rows.into_iter().map(|row| row.0).collect::<Vec<_>>(), limited)
    };
    assert_eq!(page(None, 2), (vec!["a".to_string(), "aa".to_string()], true));
    assert_eq!(page(Some("aa"), 2), (vec!["b".to_string(), "c".to_string()], false));
    assert_eq!(page(Some("c"), 2), (Vec::new(), false));
    assert_eq!(page(None, 0), (Vec::new(), true));
}

#[test]
fn only_rows_that_are_wanted_count_towards_the_limit() {
    let mut f = Fixture::new();
    for (id, summary) in [("a", b"no"), ("b", b"ok"), ("c", b"no"), ("d", b"ok")] {
        let body = Body { summary, frame: b"frame" };
        let (revision, digest) = (Revision(at(NOW)), digest(b"frame"));
        f.op(NOW, Op::Write { id, zip: ZIP_A, revision, digest, body });
    }
    let keep: crate::store::Keep = Box::new(|summary| summary == b"ok");
    let mut scan = f.shard.scan(ZIP_A, None, keep, Some(2)).unwrap();
    let (rows, limited) = drain(&mut scan, 1);
    assert_eq!(ids(&rows), ["b", "d"]);
    assert!(!limited);
}

#[test]
fn a_scan_under_writes_sees_one_state() {
    const ROWS: u64 = 50;
    let mut f = Fixture::new();
    let ids_of: Vec<String> = (0..ROWS).map(|i| format!("{i:03}")).collect();
    let generation = |f: &mut Fixture, g: u64| {
        let frame = g.to_le_bytes();
        let ops: Vec<Op<'_>> =
            ids_of.iter().map(|id| write(id, ZIP_A, at(NOW + g), &frame)).collect();
        f.ops(NOW + g, &ops);
    };
    generation(&mut f, 1);
    let shard = f.shard.clone();
    let stop = AtomicBool::new(false);
    let scans = std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let mut scans = 0;
            while scans < 20 || !stop.load(Ordering::Relaxed) {
                let mut scan = shard.scan(ZIP_A, None, all(), None).unwrap();
                let state = scan.state();
                let (rows, _) = drain(&mut scan, 64);
                let seen = &rows[0].3;
                assert!(rows.iter().all(|row| row.3 == *seen), "two generations in one scan");
                assert_eq!(rows.len() as u64, ROWS);
                let seen = u64::from_le_bytes(seen.as_slice().try_into().unwrap());
                assert_eq!(state.seq.0, seen * ROWS, "rows and seq of two moments");
                assert_eq!(state.count, ROWS);
                scans += 1;
            }
            scans
        });
        for g in 2..200 {
            generation(&mut f, g);
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(scans >= 20);
}
