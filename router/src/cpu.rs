//! Work that would keep the reactor busy, on as many threads as there are cores.

use std::sync::Arc;

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
        let job = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        job.await.map_err(|error| WorkLost { reason: error.to_string() })
    }
}
