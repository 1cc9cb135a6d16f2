//! Appending, reading and coming back.

use super::*;
use crate::log::faults::Faults;

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

/// Rolls, truncates, purges and collects; stops when the disk does. Tells how many entries were
/// acknowledged in each group.
async fn busy(files: &FaultyFiles) -> [u64; 2] {
    let mut acked = [0; 2];
    let Ok(log) = open(files) else { return acked };
    for index in 0..24 {
        for (position, replica) in [1, 2].into_iter().enumerate() {
            let group = group(&log, replica);
            if append(&group, records(1, index..index + 1, 900)).await.is_err() {
                return acked;
            }
            acked[position] = index + 1;
        }
        if index % 8 == 7 {
            drop(group(&log, 1).purge(1, index - 4).await);
            drop(group(&log, 2).purge(1, index).await);
            drop(group(&log, 2).save_vote(Bytes::from_static(b"vote")).await);
            drop(log.collect(TimeMs(0)));
        }
    }
    acked
}

#[tokio::test]
async fn a_crash_at_any_change_of_the_disk_loses_nothing_acknowledged() {
    for stops_in in 0.. {
        let mut acked = [0; 2];
        for seed in 0..8 {
            let files = FaultyFiles::new();
            let stops_in = Some(stops_in);
            files.set_faults(Faults { stops_in, ..Faults::default() });
            acked = busy(&files).await;
            let log = open(&files.lose_power(seed)).unwrap();
            for (position, replica) in [1, 2].into_iter().enumerate() {
                let (seen, state) = (read_all(&group(&log, replica)), group(&log, replica).state());
                let end = state.last.map_or(0, |(_, last)| last + 1);
                assert!(end >= acked[position], "stopped in {stops_in:?}, seed {seed}");
                let start = state.purged.map_or(0, |(_, purged)| purged + 1);
                assert_eq!(seen, records(1, start..end, 900));
            }
        }
        if acked == [24, 24] {
            assert!(stops_in > 100);
            return;
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 5..6, 10)).await.unwrap();
    let gap = append(&a, records(1, 7..8, 10)).await.err();
    assert!(matches!(gap, Some(LogError::NotContiguous { expected: 6, found: 7, .. })), "{gap:?}");
    let large = append(&a, records(1, 6..7, 4097)).await.err();
    assert!(matches!(large, Some(LogError::TooLarge { bytes: 4097, .. })), "{large:?}");
    let large = a.save_vote(Bytes::from(vec![0; 2000])).await.err();
    assert!(matches!(large, Some(LogError::TooLarge { bytes: 2000, .. })), "{large:?}");
    append(&a, Vec::new()).await.unwrap();
    assert_eq!(read_all(&a), records(1, 5..6, 10));
    assert_eq!(a.state().vote, None);
}

#[tokio::test]
async fn reads_stop_at_their_limit_but_return_one_record() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    append(&group(&log, 1), records(1, 0..10, 100)).await.unwrap();
    let cold = open(&files.fork()).unwrap();
    for log in [log, cold] {
        let a = group(&log, 1);
        assert_eq!(a.read(2..9, 350).unwrap(), records(1, 2..5, 100));
        assert_eq!(a.read(2..9, 0).unwrap(), records(1, 2..3, 100));
        assert_eq!(a.read(8..20, 1000).unwrap(), records(1, 8..10, 100));
        assert_eq!(a.read(10..20, 1000).unwrap(), []);
    }
}

#[tokio::test]
async fn the_tail_keeps_to_its_limit_and_all_groups_stay_readable() {
    let files = FaultyFiles::new();
    let config = LogConfig { tail_bytes_max: 5000, ..config() };
    let log = SharedLog::open(config, Arc::new(files.clone())).unwrap();
    for index in 0..20 {
        for replica in 1..=3 {
            append(&group(&log, replica), records(1, index..index + 1, 500)).await.unwrap();
            assert!(log.counters().tail_bytes <= 5000);
        }
    }
    for replica in 1..=3 {
        assert_eq!(read_all(&group(&log, replica)), records(1, 0..20, 500));
    }
    drop(log);
}

/// Every piece of work is a round of its own.
fn thin_rounds(files: &FaultyFiles) -> SharedLog {
    let config = LogConfig { round_bytes_max: 1, tail_bytes_max: 1, ..config() };
    SharedLog::open(config, Arc::new(files.clone())).unwrap()
}

#[tokio::test]
async fn the_durable_index_never_counts_what_a_queued_truncation_drops() {
    let files = FaultyFiles::new();
    let log = thin_rounds(&files);
    let a = group(&log, 1);
    append(&a, records(1, 0..2, 10)).await.unwrap();
    let durable = a.durable_index();
    let (sender, seen) = oneshot::channel();
    let look = Box::new(move |_| sender.send(*durable.borrow()).unwrap());
    a.append(records(1, 2..5, 10), look).await;
    a.truncate_after(Some(0)).await.unwrap();
    append(&a, records(2, 1..3, 10)).await.unwrap();
    // Entries 2 to 4 of term 1 were synced then, but no longer wanted.
    assert_eq!(seen.await.unwrap(), Some(0));
    assert_eq!(*a.durable_index().borrow(), Some(2));
}

#[tokio::test]
async fn entries_behind_a_queued_truncation_stay_in_memory() {
    let files = FaultyFiles::new();
    let log = thin_rounds(&files);
    let a = group(&log, 1);
    append(&a, records(1, 0..4, 10)).await.unwrap();
    let (sender, hung) = oneshot::channel();
    let disk = files.clone();
    let hang = Box::new(move |_| {
        disk.set_faults(Faults { sync_delay: std::time::Duration::MAX, ..Faults::default() });
        sender.send(()).unwrap();
    });
    group(&log, 2).append(records(1, 0..1, 10), hang).await;
    a.truncate_after(Some(0)).await.unwrap();
    a.append(records(2, 1..4, 10), Box::new(|_| ())).await;
    hung.await.unwrap();
    tokio::task::yield_now().await;
    // On disk the entries of term 1 are still what is synced at these indexes.
    let wanted = [records(1, 0..1, 10), records(2, 1..4, 10)].concat();
    assert_eq!(read_all(&a), wanted);
}
