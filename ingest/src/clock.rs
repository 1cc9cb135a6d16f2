//! The process's one look at the wall clock.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use platbook_protocol::TimeMs;

/// Tells the wall time, never going back; tests put their own time in.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimeMs + Send + Sync>);

impl Clock {
    /// The machine's clock, read once; from then on the monotonic clock carries it, so that a
    /// step of the wall clock cannot end or stretch a visibility timeout.
    #[allow(clippy::disallowed_methods, reason = "this is the process's one `Clock`")]
    pub fn system() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Instant::now();
        Clock(Arc::new(move || TimeMs((wall + start.elapsed()).as_millis() as u64)))
    }

    /// A clock that answers what `tell` says.
    pub fn from_fn(tell: impl Fn() -> TimeMs + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(tell))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> TimeMs {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
