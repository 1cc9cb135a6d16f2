//! Work that would keep the reactor busy, on as many threads as there are cores.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// A cheap handle to the places for such work.
#[derive(Clone)]
pub(crate) struct Cpu {
    /// One for each core: more would only wait for each other.
    places: Arc<Semaphore>,
}

/// The work panicked, or the process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("work was lost: {reason}")]
pub(crate) struct WorkLost {
    reason: String,
}

impl Cpu {
    /// One place for each core.
    pub(crate) fn new() -> Cpu {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Cpu { places: Arc::new(Semaphore::new(cores)) }
    }

    /// Runs `work` in its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkLost> {
        let place = self.places.clone().acquire_owned().await;
        blocking(move || {
            let done = work();
            drop(place);
            done
        })
        .await
    }
}

/// Runs `work` on a thread where it may take its time. On a runtime of one thread, which is that of
/// a simulation or a small test, it runs in place: which thread is first would be chance.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WorkLost> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| WorkLost { reason: error.to_string() })
}
