//! When a reader of changes is told that what it has not read will soon be given up: pure.

use std::time::Duration;

use platbook_engine::follow::Reach;
use platbook_protocol::Seq;

/// What limits the log. A reader is warned when its next change is in the last quarter of its life:
/// by its age, or by its place in a log that is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// How long entries are kept.
    pub(super) retention: Duration,
    /// Bytes up to which the log grows.
    pub(super) log_bytes_max: u64,
}

/// The last part of a life, of so many.
const PARTS: u64 = 4;

impl Warning {
    /// Whether [`Warning::is_due`] is worth being asked: without a look at the disk.
    pub(super) fn may_be_due(self, age_ms: u64, log_bytes: u64) -> bool {
        self.is_old(age_ms) || self.is_nearly_full(log_bytes)
    }

    /// Whether a reader is warned whose next change is `next`, decided `age_ms` ago.
    pub(super) fn is_due(self, reach: Reach, next: Seq, age_ms: u64, log_bytes: u64) -> bool {
        let kept = (reach.newest.0 + 1).saturating_sub(reach.oldest.0);
        let ahead = next.0.saturating_sub(reach.oldest.0);
        self.is_old(age_ms) || (self.is_nearly_full(log_bytes) && ahead < kept / PARTS)
    }

    fn is_old(self, age_ms: u64) -> bool {
        let retention_ms = self.retention.as_millis();
        u128::from(age_ms) > retention_ms - retention_ms / u128::from(PARTS)
    }

    fn is_nearly_full(self, log_bytes: u64) -> bool {
        log_bytes > self.log_bytes_max - self.log_bytes_max / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_of_a_change_s_life_is_told() {
        let warning = Warning { retention: Duration::from_secs(400), log_bytes_max: 4_000 };
        let reach = Reach { oldest: Seq(101), newest: Seq(500) };
        let is_due = |next, age_s: u64, log_bytes| {
            let is_due = warning.is_due(reach, Seq(next), age_s * 1_000, log_bytes);
            assert!(!is_due || warning.may_be_due(age_s * 1_000, log_bytes));
            is_due
        };
        assert!(!is_due(101, 300, 3_000), "neither old nor in a full log");
        assert!(is_due(101, 301, 0));
        assert!(is_due(499, 301, 0), "its age alone gives it up");
        assert!(is_due(101, 0, 3_001) && is_due(200, 0, 3_001));
        assert!(!is_due(201, 0, 3_001), "three quarters of the log go before it");
        let forever = Warning { retention: Duration::MAX, ..warning };
        assert!(!forever.may_be_due(u64::MAX, 0));
    }
}
