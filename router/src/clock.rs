//! The router's one look at the wall clock.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use platbook_protocol::TimeMs;

/// Tells the wall time; tests put their own time in.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimeMs + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "this is the router's one `Clock`")]
    pub fn system() -> Clock {
        Clock(Arc::new(|| {
            // A clock before 1970 is as good as none; the skew checks will refuse what follows.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            TimeMs(since.as_millis() as u64)
        }))
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
