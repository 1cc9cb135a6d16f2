//! The one place where this process reads the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use platbook_protocol::TimeMs;

/// Milliseconds since the Unix epoch that never fall within a process.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    last: Arc<AtomicU64>,
}

impl Clock {
    /// The time that is stamped into commands: never falls within a process.
    pub(crate) fn now(&self) -> TimeMs {
        let now = self.wall().0;
        TimeMs(self.last.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// The wall clock as it is.
    pub(crate) fn wall(&self) -> TimeMs {
        #[allow(clippy::disallowed_methods, reason = "this is the process's one clock")]
        let now = std::time::SystemTime::now();
        let elapsed = now.duration_since(std::time::UNIX_EPOCH);
        TimeMs(elapsed.map_or(0, |elapsed| elapsed.as_millis() as u64))
    }
}
