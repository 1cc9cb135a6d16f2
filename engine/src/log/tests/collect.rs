//! Space comes back, and never too early.

use super::*;
use crate::log::segment;

/// Group 1 fills segments; group 2 wrote once, long ago.
async fn a_laggard_and_a_writer(files: &FaultyFiles) -> SharedLog {
    let log = open(files).unwrap();
    group(&log, 2).save_vote(Bytes::from_static(b"two")).await.unwrap();
    append(&group(&log, 2), records(1, 0..3, 100)).await.unwrap();
    for index in 0..100 {
        append(&group(&log, 1), records(1, index..index + 1, 1000)).await.unwrap();
    }
    log
}

async fn synced(log: &SharedLog) {
    group(log, 1).save_vote(Bytes::from_static(b"one")).await.unwrap();
}

#[tokio::test]
async fn purged_segments_go_and_the_rest_stays() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..100, 1000)).await.unwrap();
    let before = log.counters();
    assert_eq!(log.collect(TimeMs(0)).unwrap().segments, 0);
    a.purge(1, 79).await.unwrap();
    synced(&log).await;
    let collected = log.collect(TimeMs(0)).unwrap();
    assert!(collected.segments >= 5, "{collected:?}");
    let after = log.counters();
    assert_eq!(before.segments - after.segments, collected.segments as u64);
    assert!(after.disk_bytes < before.disk_bytes);
    assert!(files.bytes(&segment::name(1)).is_none());
    assert_eq!(read_all(&a), records(1, 80..100, 1000));
    let log = open(&files.lose_power(0)).unwrap();
    let a = group(&log, 1);
    assert_eq!((a.state().purged, a.state().last), (Some((1, 79)), Some((1, 99))));
    assert_eq!(a.state().vote.as_deref(), Some(b"one".as_slice()));
    assert_eq!(read_all(&a), records(1, 80..100, 1000));
}

#[tokio::test]
async fn a_purge_that_is_not_synced_frees_nothing() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..100, 1000)).await.unwrap();
    a.purge(1, 99).await.unwrap();
    assert_eq!(a.state().purged, Some((1, 99)));
    assert_eq!(log.collect(TimeMs(0)).unwrap().segments, 0);
    let log = open(&files.lose_power(0)).unwrap();
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..100, 1000));
}

#[tokio::test]
async fn one_quiet_group_does_not_pin_the_log() {
    let files = FaultyFiles::new();
    let log = a_laggard_and_a_writer(&files).await;
    group(&log, 1).purge(1, 99).await.unwrap();
    synced(&log).await;
    let collected = log.collect(TimeMs(0)).unwrap();
    assert_eq!((collected.segments, collected.reappended), (0, 3));
    synced(&log).await;
    assert!(log.collect(TimeMs(0)).unwrap().segments >= 5);
    assert_eq!(log.counters().reappended, 3);
    assert_eq!(read_all(&group(&log, 2)), records(1, 0..3, 100));
    append(&group(&log, 2), records(1, 3..4, 100)).await.unwrap();
    for _ in 0..2 {
        let log = open(&files.lose_power(5)).unwrap();
        assert_eq!(read_all(&group(&log, 2)), records(1, 0..4, 100));
        assert_eq!(group(&log, 2).state().vote.as_deref(), Some(b"two".as_slice()));
    }
}

#[tokio::test]
async fn a_moved_entry_never_comes_back_from_a_truncation() {
    let files = FaultyFiles::new();
    let log = a_laggard_and_a_writer(&files).await;
    group(&log, 1).purge(1, 99).await.unwrap();
    synced(&log).await;
    assert_eq!(log.collect(TimeMs(0)).unwrap().reappended, 3);
    // Queued behind the copies.
    group(&log, 2).truncate_after(Some(0)).await.unwrap();
    append(&group(&log, 2), records(2, 1..3, 50)).await.unwrap();
    assert!(log.collect(TimeMs(0)).unwrap().segments >= 5);
    let wanted = [records(1, 0..1, 100), records(2, 1..3, 50)].concat();
    assert_eq!(read_all(&group(&log, 2)), wanted);
    let log = open(&files.lose_power(5)).unwrap();
    assert_eq!(read_all(&group(&log, 2)), wanted);
}

#[tokio::test]
async fn one_call_appends_no_more_than_its_share() {
    let files = FaultyFiles::new();
    let config = LogConfig { reappend_bytes_max: 250, ..config() };
    let log = SharedLog::open(config, Arc::new(files.clone())).unwrap();
    append(&group(&log, 2), records(1, 0..3, 100)).await.unwrap();
    append(&group(&log, 1), records(1, 0..100, 1000)).await.unwrap();
    group(&log, 1).purge(1, 99).await.unwrap();
    synced(&log).await;
    assert_eq!(log.collect(TimeMs(0)).unwrap().reappended, 2);
    synced(&log).await;
    assert_eq!(log.collect(TimeMs(0)).unwrap().reappended, 1);
}

#[tokio::test]
async fn a_log_that_is_too_great_tells_who_holds_it_and_removes_nothing() {
    let files = FaultyFiles::new();
    let config = LogConfig { log_bytes_max: 40 * 1024, ..config() };
    let log = SharedLog::open(config, Arc::new(files.clone())).unwrap();
    append(&group(&log, 1), records(1, 0..100, 1000)).await.unwrap();
    append(&group(&log, 2), records(1, 0..1, 100)).await.unwrap();
    let collected = log.collect(TimeMs(0)).unwrap();
    assert_eq!(collected.segments, 0);
    let [held] = collected.held_back.as_slice() else { panic!("{collected:?}") };
    assert_eq!((held.replica, held.shard), (ReplicaId(1), ShardId(1)));
    let (term, index) = held.purge_to;
    group(&log, 1).purge(term, index).await.unwrap();
    synced(&log).await;
    let collected = log.collect(TimeMs(0)).unwrap();
    assert!(collected.held_back.is_empty(), "{collected:?}");
    assert!(log.counters().disk_bytes <= 40 * 1024);
}

#[tokio::test]
async fn a_log_that_is_too_old_tells_who_holds_it_and_keeps_what_is_young() {
    const HOUR: u64 = 60 * 60 * 1000;
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    append(&group(&log, 1), records(1, 0..50, 1000)).await.unwrap();
    append(&group(&log, 2), records(1, 0..1, 100)).await.unwrap();
    files.set_time(TimeMs(20 * HOUR));
    append(&group(&log, 1), records(1, 50..100, 1000)).await.unwrap();
    assert!(log.collect(TimeMs(24 * HOUR)).unwrap().held_back.is_empty());

    let collected = log.collect(TimeMs(25 * HOUR)).unwrap();
    assert_eq!(collected.segments, 0, "only a purge says that nobody needs it");
    let held = collected.held_back;
    let of = |replica| held.iter().find(|held| held.replica == ReplicaId(replica));
    let (_, index) = of(1).expect("group 1 wrote first").purge_to;
    assert!((30..50).contains(&index), "{held:?}");
    group(&log, 1).purge(1, index).await.unwrap();
    if let Some(held) = of(2) {
        group(&log, 2).purge(held.purge_to.0, held.purge_to.1).await.unwrap();
    }
    synced(&log).await;
    let collected = log.collect(TimeMs(25 * HOUR)).unwrap();
    assert!(collected.segments >= 2 && collected.held_back.is_empty(), "{collected:?}");
    assert_eq!(read_all(&group(&log, 1)), records(1, index + 1..100, 1000));

    // The newest segment is never old: entries will follow.
    let collected = log.collect(TimeMs(100 * HOUR)).unwrap();
    let (_, index) = collected.held_back[0].purge_to;
    assert!(index < 99, "{collected:?}");
}

#[tokio::test]
async fn a_removed_group_is_gone_and_its_space_comes_back() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..100, 1000)).await.unwrap();
    append(&group(&log, 2), records(1, 0..1, 100)).await.unwrap();
    log.remove_group(ReplicaId(1)).unwrap();
    assert!(matches!(append(&a, records(1, 100..101, 1)).await, Err(LogError::Removed { .. })));
    assert!(matches!(a.read(0..1, 1), Err(LogError::Removed { .. })));
    assert!(matches!(a.save_vote(Bytes::new()).await, Err(LogError::Removed { .. })));
    group(&log, 2).save_vote(Bytes::new()).await.unwrap();
    assert!(log.collect(TimeMs(0)).unwrap().segments >= 5);
    let log = open(&files.lose_power(0)).unwrap();
    assert_eq!(log.groups(), [(ReplicaId(2), ShardId(1))]);
}

#[tokio::test]
async fn a_copy_of_an_entry_that_is_gone_is_never_queued() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..6, 10)).await.unwrap();
    let stale = read_all(&a);
    a.truncate_after(Some(3)).await.unwrap();
    append(&a, records(2, 4..5, 10)).await.unwrap();
    a.purge(1, 1).await.unwrap();
    // Of 0 to 5 only 2 and 3 are what they were.
    assert_eq!(log.queue_moved(&a.group, stale).unwrap(), 2);
    synced(&log).await;
    let wanted = [records(1, 2..4, 10), records(2, 4..5, 10)].concat();
    assert_eq!(read_all(&a), wanted);
    let log = open(&files.lose_power(0)).unwrap();
    assert_eq!(read_all(&group(&log, 1)), wanted);
}
