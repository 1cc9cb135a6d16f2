//! Snapshots and their installation.

use bytes::Bytes;
use platbook_protocol::codec;
use platbook_protocol::rpc::QuarantineRecord;

use super::recovery::crash;
use super::*;
use crate::error::StoreError;
use crate::store::StreamError;
use crate::store::stream::{Frame, next_frame};

/// A shard with something of every kind.
fn source() -> Fixture {
    let mut f = Fixture::new();
    f.push(EntryBody::Membership(Bytes::from_static(b"voters")));
    let record = codec::encode(&QuarantineRecord {
        code: "bad".to_string(),
        detail: String::new(),
        body: b"body".to_vec(),
        attributes: Vec::new(),
        sent: TimeMs(NOW),
        quarantined: TimeMs(NOW),
    });
    f.op(NOW, Op::Quarantine { message_id: "m", record: &record });
    for i in 0..60u64 {
        let id = format!("id-{i}");
        let frame = vec![i as u8; 500];
        let zip = if i % 2 == 0 { ZIP_A } else { ZIP_B };
        f.ops(
            NOW + i,
            &[admit(&id, upsert(zip, NOW + i, &frame)), write(&id, zip, at(NOW + i), &frame)],
        );
    }
    f.ops(
        NOW + HOUR,
        &[
            admit("id-0", Message::Delete { sent: TimeMs(NOW + HOUR) }),
            erase("id-0", ZIP_A, at(NOW + HOUR)),
            Op::Sweep { collect_max: 9 },
        ],
    );
    f
}

fn stream(f: &Fixture, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut snapshot = f.shard.snapshot().unwrap();
    std::iter::from_fn(|| snapshot.next_chunk(bytes_max).unwrap()).collect()
}

fn install(f: &Fixture, chunks: &[Vec<u8>]) -> Result<(), StoreError> {
    let mut installer = f.shard.install_in_files_of(16 << 10)?;
    for chunk in chunks {
        installer.write(chunk)?;
    }
    let installed = installer.finish()?;
    assert_eq!(installed.position, f.shard.applied().position);
    assert_eq!(installed.membership, f.shard.applied().membership);
    Ok(())
}

/// A replica that lags, with rows that the source does not have any more.
fn target() -> Fixture {
    let mut f = Fixture::new();
    f.op(NOW, write("gone", ZIP_A, at(NOW), b"gone"));
    f.op(NOW, write("id-2", ZIP_A, 1, b"old"));
    f.op(NOW, erase("marker", ZIP_B, at(NOW)));
    f
}

#[test]
fn an_installed_snapshot_has_the_content_of_its_source_and_goes_on_like_it() {
    let (mut from, to) = (source(), target());
    install(&to, &stream(&from, 1000)).unwrap();
    assert_eq!(to.shard.content_hash().unwrap(), from.shard.content_hash().unwrap());
    assert_eq!(to.shard.applied(), from.shard.applied());
    // Effects belong to a log that this replica does not have.
    assert_eq!(to.shard.effects(0..u64::MAX, 10).unwrap(), []);
    assert_eq!(to.shard.row(ZIP_A, "gone", false).unwrap(), None);

    from.op(NOW + HOUR, write("id-2", ZIP_A, at(NOW + HOUR), b"later"));
    to.shard.apply(vec![from.log.last().unwrap().clone()]).unwrap();
    assert_eq!(to.hash(), from.hash());
    assert_eq!(to.shard.effects(0..u64::MAX, 10).unwrap().len(), 1);
    // The owner stays.
    let store = to.store.clone();
    drop(to.shard);
    store.shard(SHARD, Some(ALL), REPLICA).unwrap();
}

#[test]
fn a_stream_may_be_cut_into_chunks_anywhere() {
    let (from, to) = (source(), target());
    let whole = stream(&from, 3000).concat();
    let pieces: Vec<Vec<u8>> = whole.chunks(7).map(<[u8]>::to_vec).collect();
    install(&to, &pieces).unwrap();
    assert_eq!(to.hash(), from.hash());
}

#[test]
fn a_snapshot_is_of_its_moment() {
    let mut from = source();
    let hash = from.hash();
    let mut snapshot = from.shard.snapshot().unwrap();
    let position = snapshot.position();
    assert_eq!(snapshot.membership(), from.shard.applied().membership.as_ref());
    let mut chunks = vec![snapshot.next_chunk(1000).unwrap().unwrap()];
    for i in 0..30u64 {
        let id = format!("id-{i}");
        from.op(NOW + 2 * HOUR, write(&id, ZIP_A, at(NOW + 2 * HOUR), b"later"));
    }
    chunks.extend(std::iter::from_fn(|| snapshot.next_chunk(1000).unwrap()));
    let to = target();
    install(&to, &chunks).unwrap();
    assert_eq!(to.hash(), hash);
    assert_eq!(to.shard.applied().position, position);
}

#[test]
fn a_damaged_snapshot_is_refused_and_nothing_is_installed() {
    let (from, to) = (source(), target());
    let chunks = stream(&from, 3000);
    let before = to.hash();
    let refused = |chunks: &[Vec<u8>]| {
        let failed = install(&to, chunks).expect_err("a damaged snapshot was installed");
        assert_eq!(to.hash(), before);
        match failed {
            StoreError::Snapshot { source, .. } => source,
            other => panic!("{other}"),
        }
    };
    for cut in 0..chunks.len() {
        refused(&chunks[..cut]);
        let mut without = chunks.clone();
        without.remove(cut);
        refused(&without);
        let mut doubled = chunks.clone();
        doubled.insert(cut, chunks[cut].clone());
        refused(&doubled);
        let mut damaged = chunks.clone();
        let middle = damaged[cut].len() / 2;
        damaged[cut][middle] ^= 1;
        refused(&damaged);
    }
    let mut swapped = chunks.clone();
    swapped.swap(2, 3);
    refused(&swapped);
    let mut trailing = chunks.clone();
    trailing.push(vec![0]);
    assert_eq!(refused(&trailing), StreamError::Truncated);
    install(&to, &chunks).unwrap();
}

#[test]
fn a_snapshot_of_another_shard_or_of_foreign_keys_is_refused() {
    let (from, to) = (source(), target());
    let mut chunks = stream(&from, 1 << 20);
    let slots = Some(SlotRange { first: Slot(0), last: Slot(7) });
    let foreign = Frame::Head { shard: SHARD, slots }.encode();
    let head = std::mem::replace(&mut chunks[0], foreign);
    let failed = install(&to, &chunks).unwrap_err();
    assert!(matches!(failed, StoreError::Snapshot { source: StreamError::WrongShard { .. }, .. }));

    chunks[0] = head;
    let Ok(Some((Frame::Entries(payload), _))) = next_frame(&chunks[1], 0) else { panic!() };
    let mut payload = payload.to_vec();
    // The shard's number in the first key.
    payload[8 + 4] ^= 1;
    chunks[1] = Frame::Entries(&payload).encode();
    let failed = install(&to, &chunks).unwrap_err();
    assert!(matches!(failed, StoreError::Snapshot { source: StreamError::Key { entry: 0 }, .. }));
}

#[test]
fn a_crash_leaves_the_old_state_or_the_new_one() {
    let (from, to) = (source(), target());
    to.store.flush().unwrap();
    let (old, new) = (to.hash(), from.hash());
    let mut installer = to.shard.install_in_files_of(16 << 10).unwrap();
    for chunk in stream(&from, 3000) {
        installer.write(&chunk).unwrap();
    }
    let (crashed, dir) = crash(&to);
    assert_eq!(crashed.hash(), old);
    // What was received before the crash is cleared.
    assert_eq!(std::fs::read_dir(dir.join("incoming")).unwrap().count(), 0);
    installer.finish().unwrap();
    let (crashed, _) = crash(&to);
    assert_eq!(crashed.hash(), new);
    assert_eq!(crashed.shard.flushed().unwrap(), from.shard.applied().position);
}

#[test]
fn an_empty_shard_and_the_system_shard_travel_too() {
    let (mut from, to) = (Fixture::of(ShardId::SYSTEM, None), Fixture::of(ShardId::SYSTEM, None));
    let refused = install(&to, &stream(&from, 100)).unwrap_err();
    assert!(matches!(refused, StoreError::Snapshot { source: StreamError::NoState, .. }));
    from.push(EntryBody::Blank);
    install(&to, &stream(&from, 100)).unwrap();
    assert_eq!(to.hash(), from.hash());
}

#[test]
fn an_installation_that_is_given_up_leaves_nothing_behind() {
    let to = target();
    let before = to.hash();
    let installer = to.shard.install().unwrap();
    let incoming = to.dir.path().join("incoming");
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 1);
    drop(installer);
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    assert_eq!(to.hash(), before);
}
