//! Real files, a real thread.

use super::*;
use crate::log::OsFiles;

fn open_at(directory: &std::path::Path) -> Result<SharedLog, LogError> {
    let config = LogConfig { writer: WriterKind::Thread, ..config() };
    SharedLog::open(config, Arc::new(OsFiles::try_new(directory).unwrap()))
}

#[tokio::test]
async fn real_files_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open_at(&path).unwrap();
    append(&group(&log, 1), records(1, 0..100, 1000)).await.unwrap();
    assert!(OsFiles::try_new(&path).is_err(), "the directory is locked");
    log.close().await.unwrap();

    let log = open_at(&path).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(read_all(&group(&log, 1)), records(1, 0..100, 1000));
    group(&log, 1).purge(1, 50).await.unwrap();
    append(&group(&log, 1), records(2, 100..120, 1000)).await.unwrap();
    assert!(log.collect(TimeMs(0)).unwrap().segments > 1);
    log.close().await.unwrap();

    let log = open_at(&path).unwrap();
    let wanted = [records(1, 51..100, 1000), records(2, 100..120, 1000)].concat();
    assert_eq!(read_all(&group(&log, 1)), wanted);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_groups_share_rounds() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_at(directory.path()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for replica in 1..=16 {
        let group = group(&log, replica);
        tasks.spawn(async move {
            for index in 0..50 {
                append(&group, records(1, index..index + 1, 300)).await.unwrap();
            }
            group
        });
    }
    while let Some(group) = tasks.join_next().await {
        assert_eq!(read_all(&group.unwrap()), records(1, 0..50, 300));
    }
    let counters = log.counters();
    assert!(counters.syncs < 16 * 50, "{counters:?}");
    log.close().await.unwrap();
}
