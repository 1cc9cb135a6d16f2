//! Work that blocks: reads and writes of tables, removal of segments.

use tokio::runtime::{Handle, RuntimeFlavor};

/// The work panicked, or the runtime ended before it was done.
#[derive(Debug, thiserror::Error)]
#[error("work was lost: {reason}")]
pub(crate) struct WorkLost {
    reason: String,
}

/// Runs `work` on a thread where it may block. On a runtime of one thread, which is that of a
/// simulation or a small test, it runs in place: which thread is first would be chance.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkLost> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| WorkLost { reason: error.to_string() })
}
