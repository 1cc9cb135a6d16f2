//! A disk that refuses, lies, dawdles or is full.

use std::time::Duration;

use super::*;
use crate::log::faults::Faults;

async fn poisoned_by(faults: Faults) -> (FaultyFiles, SharedLog) {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    append(&group(&log, 1), records(1, 0..2, 100)).await.unwrap();
    files.set_faults(faults);
    let error = append(&group(&log, 1), records(1, 2..4, 100)).await.err();
    assert!(matches!(error, Some(LogError::Poisoned { .. })), "{error:?}");
    assert!(log.fault().borrow().is_some());
    // The disk is well again; the log does not try.
    files.set_faults(Faults::default());
    let counts = files.counts();
    let error = append(&group(&log, 2), records(1, 0..1, 100)).await.err();
    assert!(matches!(error, Some(LogError::Poisoned { .. })), "{error:?}");
    let error = group(&log, 1).save_vote(Bytes::new()).await.err();
    assert!(matches!(error, Some(LogError::Poisoned { .. })), "{error:?}");
    assert!(group(&log, 1).purge(1, 1).await.is_err());
    assert!(log.collect(TimeMs(0)).is_err());
    assert!(log.clone().close().await.is_err());
    assert_eq!((files.counts().writes, files.counts().syncs), (counts.writes, counts.syncs));
    (files, log)
}

#[tokio::test]
async fn a_failed_sync_poisons_the_whole_log_for_good() {
    let (files, _log) = poisoned_by(Faults { sync_fails_in: Some(0), ..Faults::default() }).await;
    // The pages are clean in memory, and on no disk: what a restart shows it must first secure.
    let log = open(&files).unwrap();
    let seen = read_all(&group(&log, 1));
    assert_eq!(seen, records(1, 0..4, 100));
    let log = open(&files.lose_power(0)).unwrap();
    assert_eq!(read_all(&group(&log, 1)), seen);
}

#[tokio::test]
async fn a_failed_write_poisons_the_whole_log_for_good() {
    let (files, _log) = poisoned_by(Faults { write_fails_in: Some(0), ..Faults::default() }).await;
    let log = open(&files).unwrap();
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..2, 100));
}

#[tokio::test]
async fn a_full_disk_poisons_when_the_next_segment_is_needed_and_loses_nothing() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    files.set_faults(Faults { bytes_max: Some(20 * 1024), ..Faults::default() });
    let mut synced = 0;
    while append(&a, records(1, synced..synced + 1, 1000)).await.is_ok() {
        synced += 1;
    }
    assert!(synced >= 8);
    assert!(log.fault().borrow().as_deref().is_some_and(|f| f.contains("allocate")));
    let files = files.lose_power(0);
    let log = open(&files).unwrap();
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..synced, 1000));
    append(&group(&log, 1), records(1, synced..synced + 1, 1000)).await.unwrap();
}

#[tokio::test]
async fn a_spare_that_found_no_room_is_made_when_there_is_some() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    files.set_faults(Faults { bytes_max: Some(20 * 1024), ..Faults::default() });
    append(&a, records(1, 0..9, 1000)).await.unwrap();
    files.set_faults(Faults::default());
    append(&a, records(1, 9..20, 1000)).await.unwrap();
    assert_eq!(read_all(&a), records(1, 0..20, 1000));
}

#[tokio::test]
async fn a_read_error_fails_that_read_only() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    append(&group(&log, 1), records(1, 0..2, 100)).await.unwrap();
    let files = files.lose_power(0);
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    files.set_faults(Faults { reads_fail: true, ..Faults::default() });
    assert!(matches!(a.read(0..2, usize::MAX), Err(LogError::Io { action: "read", .. })));
    append(&a, records(1, 2..3, 100)).await.unwrap();
    assert_eq!(a.read(2..3, usize::MAX).unwrap(), records(1, 2..3, 100));
    files.set_faults(Faults::default());
    assert_eq!(read_all(&a), records(1, 0..3, 100));
}

#[tokio::test]
async fn a_read_error_at_the_start_refuses() {
    let files = FaultyFiles::new();
    drop(open(&files).unwrap());
    files.set_faults(Faults { reads_fail: true, ..Faults::default() });
    assert!(matches!(open(&files), Err(LogError::Io { .. })));
}

#[tokio::test]
async fn nothing_is_told_while_a_sync_does_not_return() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    files.set_faults(Faults { sync_delay: Duration::MAX, ..Faults::default() });
    let called = Arc::new(AtomicUsize::new(0));
    a.append(records(1, 0..1, 100), counts(&called)).await;
    while log.counters().round_us_now == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((called.load(Ordering::SeqCst), *a.durable_index().borrow()), (0, None));
    assert_eq!(read_all(&a), records(1, 0..1, 100));
    assert_eq!(*log.fault().borrow(), None);
}

#[tokio::test]
async fn submitting_waits_while_the_queue_is_full() {
    let files = FaultyFiles::new();
    let config = LogConfig { queue_bytes_max: 1000, ..config() };
    let log = SharedLog::open(config, Arc::new(files.clone())).unwrap();
    let a = group(&log, 1);
    files.set_faults(Faults { sync_delay: Duration::from_millis(1), ..Faults::default() });
    let called = Arc::new(AtomicUsize::new(0));
    // Greater than the whole queue: goes alone.
    a.append(records(1, 0..2, 2000), counts(&called)).await;
    assert_eq!(called.load(Ordering::SeqCst), 0);
    a.append(records(1, 2..3, 500), counts(&called)).await;
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_sync_that_lied_is_a_loss_but_never_an_invention() {
    let files = FaultyFiles::new();
    let log = open(&files).unwrap();
    let a = group(&log, 1);
    append(&a, records(1, 0..2, 100)).await.unwrap();
    files.set_faults(Faults { syncs_lie: true, ..Faults::default() });
    for index in 2..6 {
        append(&a, records(1, index..index + 1, 100)).await.unwrap();
    }
    drop(log);
    for seed in 0..50 {
        let files = files.fork_at_power_loss(seed);
        match open(&files) {
            Ok(log) => {
                let seen = read_all(&group(&log, 1));
                assert!(seen.len() >= 2);
                assert_eq!(seen, records(1, 0..seen.len() as u64, 100));
            }
            // A later round arrived and an earlier one did not.
            Err(error) => assert!(matches!(error, LogError::Corrupt { .. }), "{error:?}"),
        }
    }
}

#[test]
fn a_writer_that_is_cancelled_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let files = FaultyFiles::new();
    let first = runtime();
    let log = first.block_on(async { open(&files).unwrap() });
    let called = Arc::new(AtomicUsize::new(0));
    first.block_on(group(&log, 1).append(records(1, 0..1, 10), counts(&called)));
    drop(first);
    let error = runtime().block_on(append(&group(&log, 1), records(1, 1..2, 10))).err();
    assert!(matches!(error, Some(LogError::Poisoned { .. })), "{error:?}");
    assert_eq!(called.load(Ordering::SeqCst), 0);
}
