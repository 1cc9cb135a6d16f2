//! How a bulk write went.

use std::sync::{Mutex, PoisonError};

use crate::answer::BulkAnswer;
use crate::config::BULK_FAILURES_MAX;
use crate::error::WriteError;

/// How a bulk write went, in counts of messages.
#[derive(Clone, Debug, Default)]
#[must_use = "it tells whether everything was written"]
#[non_exhaustive]
pub struct BulkReport {
    /// Changed a listing.
    pub applied: u64,
    /// Same body, newer time.
    pub unchanged: u64,
    /// Had been done before; so count messages that were sent again after an unknown outcome.
    pub duplicate: u64,
    /// Something newer was known.
    pub stale: u64,
    /// Recorded, but two clocks disagree about them.
    pub suspect: u64,
    /// Surely not done.
    pub not_done: u64,
    /// Nobody knows; sending the same messages again finds out.
    pub unknown: u64,
    /// The first failures that nobody awaited: the number of the message in the order in which
    /// they were pushed, from 1, and why. At most 100.
    pub failures: Vec<(u64, WriteError)>,
}

impl BulkReport {
    /// Whether every message is done and durable.
    pub fn is_complete(&self) -> bool {
        self.not_done == 0 && self.unknown == 0
    }

    /// Messages that are done and durable.
    pub fn done(&self) -> u64 {
        self.applied + self.unchanged + self.duplicate + self.stale + self.suspect
    }
}

/// A report in the making, shared by the requests under way.
#[derive(Debug, Default)]
pub(super) struct Reporting(Mutex<BulkReport>);

impl Reporting {
    pub(super) fn on_answer(&self, answer: &BulkAnswer) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        report.applied += answer.applied;
        report.unchanged += answer.unchanged;
        report.duplicate += answer.duplicate;
        report.stale += answer.stale;
        report.suspect += answer.suspect;
    }

    pub(super) fn on_failure(&self, is_unknown: bool) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is_unknown {
            true => report.unknown += 1,
            false => report.not_done += 1,
        }
    }

    /// Notes a failure that nobody awaits.
    pub(super) fn on_unawaited(&self, number: u64, error: WriteError) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if report.failures.len() < BULK_FAILURES_MAX {
            report.failures.push((number, error));
        }
    }

    pub(super) fn take(&self) -> BulkReport {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        report.failures.sort_unstable_by_key(|(number, _)| *number);
        std::mem::take(&mut *report)
    }
}
