//! The one place where this process reads the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use platbook_protocol::TimeMs;

/// The wall clock of one node. Clones are the same clock.
#[derive(Clone, Default)]
pub struct Clock {
    last: Arc<AtomicU64>,
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Sets how far this clock is ahead of the system's, in milliseconds: a machine whose clock is
    /// wrong, for tests.
    pub fn set_ahead(&self, ms: i64) {
        self.ahead_ms.store(ms, Ordering::Relaxed);
    }

    /// The time that is stamped into commands: never falls within a process.
    pub(crate) fn now(&self) -> TimeMs {
        let now = self.wall().0;
        TimeMs(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// The wall clock as it is, in milliseconds since the Unix epoch.
    pub(crate) fn wall(&self) -> TimeMs {
        #[allow(clippy::disallowed_methods, reason = "this is the process's one clock")]
        let now = std::time::SystemTime::now();
        let elapsed = now.duration_since(std::time::UNIX_EPOCH);
        let ms = elapsed.map_or(0, |elapsed| elapsed.as_millis() as u64);
        TimeMs(ms.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)))
    }
}
