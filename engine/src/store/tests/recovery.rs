//! Crashes: a directory copied while the store is open holds what a crash would leave, for
//! nothing is in the page cache only once it was flushed, and memtables are not in it at all.

use std::fs;
use std::path::{Path, PathBuf};

use super::model::random_entries;
use super::*;
use crate::store::node::REPLAY_MAX;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

/// The store as a crash now would leave it, and where it lives.
pub(super) fn crash(f: &Fixture) -> (Fixture, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    // Else a compaction could delete files under the copy.
    f.shard.inner.db().wait_for_background_work().unwrap();
    copy(f.dir.path(), dir.path());
    let store = Store::open(config(&dir)).unwrap();
    let shard = store.shard(f.shard.id(), f.shard.inner.slots, REPLICA).unwrap();
    let path = dir.path().to_path_buf();
    (Fixture { dir, store, shard, log: f.log.clone() }, path)
}

/// Index of the entry behind a position.
fn next_index(position: Option<Position>) -> usize {
    position.map_or(0, |position| position.index as usize + 1)
}

#[test]
fn after_a_crash_at_any_entry_the_log_from_the_flushed_position_gives_the_same_state() {
    let mut f = Fixture::new();
    let mut lost = 0;
    for (i, body) in random_entries(11, 24).into_iter().enumerate() {
        f.push(body);
        if i % 7 == 3 {
            f.store.flush().unwrap();
        }
        let flushed = f.shard.flushed().unwrap();
        let (crashed, _) = crash(&f);
        assert_eq!(crashed.shard.applied().position, flushed, "after entry {i}");
        let from = next_index(flushed);
        lost += usize::from(from < f.log.len());
        crashed.shard.apply(f.log[from..].to_vec()).unwrap();
        assert_eq!(crashed.shard.content_hash().unwrap(), f.shard.content_hash().unwrap());
        assert_eq!(crashed.shard.applied(), f.shard.applied());
        let effects = |f: &Fixture| f.shard.effects(0..u64::MAX, 1000).unwrap();
        assert_eq!(effects(&crashed), effects(&f), "after entry {i}");
    }
    assert!(lost > 15, "the crashes lost nothing, so nothing was tested");
}

#[test]
fn a_crash_keeps_a_prefix_also_when_memtables_were_flushed_by_their_size() {
    let mut f = Fixture::new();
    let frame = vec![7; 128 << 10];
    for i in 0..40u64 {
        let id = format!("{i}");
        f.op(NOW + i, write(&id, ZIP_A, at(NOW + i), &frame));
    }
    f.store.flush().unwrap();
    for i in 40..50u64 {
        let id = format!("{i}");
        f.op(NOW + i, write(&id, ZIP_A, at(NOW + i), &frame));
    }
    let (crashed, _) = crash(&f);
    let flushed = crashed.shard.applied().position;
    assert!(flushed.is_some_and(|position| (39..49).contains(&position.index)));
    crashed.shard.apply(f.log[next_index(flushed)..].to_vec()).unwrap();
    assert_eq!(crashed.hash(), f.hash());
}

#[test]
fn much_memory_does_not_put_off_what_a_crash_would_replay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig { memtable_bytes: 4 << 30, ..config(&dir) }).unwrap();
    let shard = store.shard(SHARD, Some(ALL), REPLICA).unwrap();
    let mut f = Fixture { dir, store, shard, log: Vec::new() };
    let frame = vec![7; 1 << 20];
    for i in 0..100u64 {
        f.op(NOW + i, write(&i.to_string(), ZIP_A, at(NOW + i), &frame));
    }
    f.store.shared.db.wait_for_background_work().unwrap();
    let flushed = f.shard.flushed().unwrap().map(|position| position.index);
    assert!(flushed >= Some(60), "100 MiB were written, flushed up to {flushed:?}");
}

/// Small listings fill a memtable so slowly that a node which was killed again and again replayed
/// more every time, and its shards waited for it.
#[test]
fn many_small_operations_are_not_left_to_be_replayed() {
    let mut f = Fixture::new();
    let entries = 2 * REPLAY_MAX / 3;
    for i in 0..entries {
        f.push(ops_body(NOW + i, &[write(&(i % 100).to_string(), ZIP_A, at(NOW + i), b"{}")]));
    }
    f.store.shared.db.wait_for_background_work().unwrap();
    let flushed = f.shard.flushed().unwrap().map(|position| position.index);
    assert!(flushed >= Some(REPLAY_MAX / 2 - 1), "{entries} entries, flushed up to {flushed:?}");
}

#[test]
fn a_clean_close_loses_nothing() {
    let mut f = Fixture::new();
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    let (hash, applied) = (f.hash(), f.shard.applied());
    let Fixture { dir, store, shard, .. } = f;
    store.close().unwrap();
    drop(shard);
    let store = Store::open(config(&dir)).unwrap();
    let shard = store.shard(SHARD, Some(ALL), REPLICA).unwrap();
    assert_eq!(shard.content_hash().unwrap().1, hash);
    assert_eq!(shard.applied(), applied);
    assert_eq!(shard.flushed().unwrap(), applied.position);
}

#[test]
fn shards_of_one_store_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir)).unwrap();
    let ranges = SlotRange::partition(4);
    let shards: Vec<ShardStore> = (0..4u32)
        .map(|i| store.shard(ShardId(i + 1), Some(ranges[i as usize]), REPLICA).unwrap())
        .collect();
    let bodies = random_entries(5, 30);
    for shard in &shards {
        for (index, body) in bodies.iter().enumerate() {
            let position = Position { term: 1, index: index as u64 };
            shard.apply(vec![Entry { position, body: body.clone() }]).unwrap();
        }
    }
    let hashes: Vec<u128> = shards.iter().map(|s| s.content_hash().unwrap().1).collect();
    shards[1].destroy().unwrap();
    assert_eq!(shards[1].applied(), Default::default());
    for i in [0, 2, 3] {
        assert_eq!(shards[i].content_hash().unwrap().1, hashes[i]);
    }
}
