//! Waiting for a condition, never for time.

use std::time::{Duration, Instant};

use crate::Error;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until `look` gives `Ok`; after `deadline` its last complaint is the error.
pub async fn until<T, E: ToString>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, Error> {
    let from = Instant::now();
    loop {
        let last = match look().await {
            Ok(found) => return Ok(found),
            Err(complaint) => complaint.to_string(),
        };
        if from.elapsed() >= deadline {
            return Err(Error::Waited { what: what.to_string(), waited: deadline, last });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
