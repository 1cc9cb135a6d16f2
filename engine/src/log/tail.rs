//! The newest records of one group, kept in memory.
//!
//! Records are readable here as soon as they are appended; only synced ones may leave.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::group::Record;

/// What a record costs in memory besides its payload, roughly.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Consecutive records up to the group's last. `total` counts the bytes of all groups' tails.
pub(crate) struct Tail {
    records: VecDeque<Stamped>,
    total: Arc<AtomicUsize>,
}

struct Stamped {
    /// Order of appending over all groups, so that the oldest can leave first.
    stamp: u64,
    record: Record,
}

fn cost(record: &Record) -> usize {
    RECORD_OVERHEAD_BYTES + record.payload.len()
}

impl Tail {
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Tail {
        Tail { records: VecDeque::new(), total }
    }

    /// The first index that is kept, if any is.
    pub(crate) fn first(&self) -> Option<u64> {
        self.records.front().map(|s| s.record.index)
    }

    /// When the first record that is kept was appended.
    pub(crate) fn first_stamp(&self) -> Option<u64> {
        self.records.front().map(|s| s.stamp)
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Record> {
        let position = usize::try_from(index.checked_sub(self.first()?)?).ok()?;
        self.records.get(position).map(|s| &s.record)
    }

    /// Takes a record whose index follows the last one.
    pub(crate) fn push(&mut self, stamp: u64, record: Record) {
        self.total.fetch_add(cost(&record), Ordering::Relaxed);
        self.records.push_back(Stamped { stamp, record });
    }

    /// Keeps what lies before `end`.
    pub(crate) fn truncate(&mut self, end: u64) {
        while let Some(last) = self.records.pop_back_if(|s| s.record.index >= end) {
            self.forget(&last);
        }
    }

    /// Drops what lies before `start`.
    pub(crate) fn drop_before(&mut self, start: u64) {
        while let Some(first) = self.records.pop_front_if(|s| s.record.index < start) {
            self.forget(&first);
        }
    }

    /// Drops what was appended at `stamp` or before, as far as `durable`.
    pub(crate) fn evict(&mut self, stamp: u64, durable: u64) {
        let leaves = |s: &mut Stamped| s.stamp <= stamp && s.record.index <= durable;
        while let Some(first) = self.records.pop_front_if(leaves) {
            self.forget(&first);
        }
    }

    fn forget(&self, stamped: &Stamped) {
        self.total.fetch_sub(cost(&stamped.record), Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
