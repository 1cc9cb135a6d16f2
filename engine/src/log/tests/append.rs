//! Appending, reading and coming back.

use super::*;

#[tokio::test]
async fn what_was_synced_is_there_after_a_power_loss() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let (a, b) = (group(&log, 1), group(&log, 2));
    a.save_vote(Bytes::from_static(b"vote")).await.unwrap();
    append(&a, records(1, 0..3, 100)).await.unwrap();
    append(&b, records(4, 10..12, 2000)).await.unwrap();
    let files = files.lose_power(1);

    let log = open(&files).unwrap();
    assert_eq!(log.groups(), [(ReplicaId(1), ShardId(1)), (ReplicaId(2), ShardId(1))]);
    let state = group(&log, 1).state();
    assert_eq!(state.vote.as_deref(), Some(b"vote".as_slice()));
    assert_eq!((state.purged, state.last), (None, Some((1, 2))));
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..3, 100));
    assert_eq!(read_all(&group(&log, 2)), records(4, 10..12, 2000));
    assert_eq!(*group(&log, 2).durable_index().borrow(), Some(11));
}

#[tokio::test]
async fn records_are_readable_before_they_are_synced() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    let called = Arc::new(AtomicUsize::new(0));
    let calls = || called.load(Ordering::SeqCst);
    a.append(records(1, 0..3, 100), counts(&called)).await;
    assert_eq!(read_all(&a), records(1, 0..3, 100));
    assert_eq!((calls(), *a.durable_index().borrow()), (0, None));
    append(&a, records(1, 3..4, 10)).await.unwrap();
    assert_eq!((calls(), *a.durable_index().borrow()), (1, Some(3)));
}

#[tokio::test]
async fn one_round_serves_all_groups() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let before = log.counters();
    let called = Arc::new(AtomicUsize::new(0));
    let calls = || called.load(Ordering::SeqCst);
    for replica in 1..=8 {
        group(&log, replica).append(records(1, 0..2, 50), counts(&called)).await;
    }
    append(&group(&log, 9), records(1, 0..1, 50)).await.unwrap();
    assert_eq!(calls(), 8);
    let after = log.counters();
    assert_eq!((after.rounds - before.rounds, after.syncs - before.syncs), (1, 1));
}

#[tokio::test]
async fn truncation_and_new_entries_are_recovered_in_order() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..6, 100)).await.unwrap();
    a.truncate_after(Some(2)).await.unwrap();
    assert_eq!(a.state().last, Some((1, 2)));
    assert_eq!(*a.durable_index().borrow(), Some(2));
    append(&a, records(2, 3..5, 100)).await.unwrap();
    let wanted = [records(1, 0..3, 100), records(2, 3..5, 100)].concat();
    assert_eq!(read_all(&a), wanted);
    let log = open(&files.lose_power(3)).unwrap();
    assert_eq!(read_all(&group(&log, 1)), wanted);
}

#[tokio::test]
async fn segments_roll_and_footers_bring_everything_back() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    for index in 0..100 {
        append(&a, records(1, index..index + 1, 1000)).await.unwrap();
    }
    assert!(log.counters().segments > 6);
    assert_eq!(read_all(&a), records(1, 0..100, 1000));
    let log = open(&files.lose_power(3)).unwrap();
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..100, 1000));
    assert_eq!(log.recovery().footers, log.recovery().segments - 1);
}
