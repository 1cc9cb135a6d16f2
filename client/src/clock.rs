//! The client's one look at the wall clock: the `sent` of writes that a caller did not stamp.

use std::time::{SystemTime, UNIX_EPOCH};

use platbook_protocol::TimeMs;

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "this is the client's one clock")]
pub(crate) fn now() -> TimeMs {
    // A clock before 1970 is as good as none; the router's skew checks refuse what follows.
    TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}
