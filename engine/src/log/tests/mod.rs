//! Claims about the whole log. Claims about one part stand with that part.

mod append;
mod collect;
mod damage;
mod disk_faults;
mod golden;
mod model;
mod os;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use platbook_protocol::{ReplicaId, ShardId, TimeMs};
use tokio::sync::oneshot;

use super::faults::FaultyFiles;
use super::{Flushed, GroupLog, LogConfig, LogError, Record, SharedLog, WriterKind};

/// Small segments, so that a few records fill one; a task as writer, so that runs repeat.
pub(super) fn config() -> LogConfig {
    LogConfig {
        identity: 7,
        segment_bytes: 16 * 1024,
        tail_bytes_max: 1024 * 1024,
        writer: WriterKind::Task,
        ..LogConfig::default()
    }
}

pub(super) fn open(files: &FaultyFiles) -> Result<SharedLog, LogError> {
    SharedLog::open(config(), Arc::new(files.clone()))
}

pub(super) fn group(log: &SharedLog, replica: u64) -> GroupLog {
    log.group(ReplicaId(replica), ShardId(1))
}

pub(super) fn record(term: u64, index: u64, bytes: usize) -> Record {
    let fill = (term.wrapping_mul(31) ^ index) as u8;
    Record { term, index, kind: 2, payload: Bytes::from(vec![fill; bytes]) }
}

pub(super) fn records(term: u64, range: std::ops::Range<u64>, bytes: usize) -> Vec<Record> {
    range.map(|index| record(term, index, bytes)).collect()
}

/// Appends and waits for the sync.
pub(super) async fn append(group: &GroupLog, records: Vec<Record>) -> Result<(), LogError> {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    group.append(records, done).await;
    receiver.await.expect("the log always answers")
}

/// Everything that a group's readers see.
pub(super) fn read_all(group: &GroupLog) -> Vec<Record> {
    group.read(0..u64::MAX, usize::MAX).expect("the log reads")
}

/// A callback that counts in `called` that it was called with success.
pub(super) fn counts(called: &Arc<AtomicUsize>) -> Flushed {
    let called = called.clone();
    Box::new(move |result: Result<(), LogError>| {
        if result.is_ok() {
            called.fetch_add(1, Ordering::SeqCst);
        }
    })
}
