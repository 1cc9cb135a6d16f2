//! Keeps held messages hidden from other consumers, and gives back those that are not to be held.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::ingester::Ingest;
use crate::config::IngestConfig;
use crate::queue::BATCH_ENTRIES_MAX;

/// Looks at what is held so many times in one visibility timeout.
const LOOKS: u32 = 4;

/// Calls at a time.
const CALLS_MAX: usize = 8;

/// How long a delivery hides a message.
pub(super) fn period(config: &IngestConfig) -> Duration {
    Duration::from_secs(u64::from(config.visibility_seconds))
}

/// Hides held messages again before they become visible, until it is dropped.
pub(super) async fn keep_hidden(ingest: Ingest) {
    let period = period(&ingest.config);
    let mut ticks = interval(period / LOOKS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        // Half of the period is left for this look to fail, and for one more.
        let due = ingest.held.due(now, now + period / 2);
        stream::iter(due.chunks(BATCH_ENTRIES_MAX))
            .for_each_concurrent(CALLS_MAX, |chunk| hide(&ingest, chunk, period))
            .await;
    }
}

async fn hide(ingest: &Ingest, chunk: &[(String, String)], period: Duration) {
    let handles: Vec<&str> = chunk.iter().map(|(_, handle)| handle.as_str()).collect();
    let asked = Instant::now();
    match ingest.queue.change_visibility(&handles, ingest.config.visibility_seconds).await {
        // An entry fails where a newer delivery is out already: its handle comes with it.
        Ok(failed) => {
            for (index, (id, _)) in chunk.iter().enumerate() {
                if !failed.iter().any(|entry| entry.index == index) {
                    ingest.held.extend(id, asked + period);
                    ingest.stats.extended.add(1);
                }
            }
        }
        Err(error) => warn!(%error, messages = chunk.len(), "cannot hide messages longer"),
    }
}

/// Makes messages visible in so many seconds. Where that fails, they come when their timeout ends.
pub(super) async fn set(ingest: &Ingest, handles: &[String], seconds: u32) {
    for chunk in handles.chunks(BATCH_ENTRIES_MAX) {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        if let Err(error) = ingest.queue.change_visibility(&chunk, seconds).await {
            debug!(%error, messages = chunk.len(), "cannot give messages back early");
        }
    }
}
