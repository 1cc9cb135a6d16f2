//! What cannot be applied goes to the router's quarantine, and only then off the queue.

use std::time::Duration;

use platbook_client::admin::QuarantinePut;
use platbook_client::error::chain;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::ingester::Ingest;
use super::message::{Refused, Settled};
use super::verdict::{self, Failure};
use super::visibility;

/// Most messages in one request.
const BATCH_MESSAGES_MAX: usize = 100;
/// Bytes after which a request is closed.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// A message that the quarantine does not take is visible again after so long, in seconds.
const NOT_TAKEN_SECONDS: u32 = 60;
/// First pause before a request is sent again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Puts messages into quarantine until there are no more.
pub(super) async fn run(
    ingest: Ingest,
    mut refused: mpsc::Receiver<Refused>,
    settled: mpsc::Sender<Settled>,
) {
    while let Some(first) = refused.recv().await {
        let mut bytes = first.message.body.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MESSAGES_MAX
            && bytes < BATCH_BYTES_MAX
            && let Ok(next) = refused.try_recv()
        {
            bytes += next.message.body.len();
            batch.push(next);
        }
        put(&ingest, &settled, batch).await;
    }
}

async fn put(ingest: &Ingest, settled: &mpsc::Sender<Settled>, batch: Vec<Refused>) {
    let mut work = vec![batch];
    let mut backoff = BACKOFF_MIN;
    while let Some(mut batch) = work.pop() {
        let puts: Vec<QuarantinePut> = batch.iter().map(Refused::to_put).collect();
        let error = match ingest.router.admin().quarantine_put(&puts).await {
            Ok(()) => {
                backoff = BACKOFF_MIN;
                for Refused { message, code, share, .. } in batch {
                    info!(message = message.message_id, code, "message is in quarantine");
                    ingest.stats.quarantined.add(1);
                    let handles = ingest.held.finish(&message.message_id);
                    // The acker ends last; where it is gone the drain was cut.
                    let _ = settled.send(Settled { handles, share }).await;
                }
                continue;
            }
            Err(error) => error,
        };
        let is_full = error.problem().is_some_and(|problem| problem.code == "quarantine_full");
        match verdict::of_error(&error) {
            Failure::Again if !is_full => {
                let error = chain(&error);
                warn!(error, messages = batch.len(), "quarantine is tried again");
                work.push(batch);
            }
            Failure::Suspicious { .. } if batch.len() > 1 => {
                let tail = batch.split_off(batch.len() / 2);
                work.extend([tail, batch]);
                continue;
            }
            Failure::Again | Failure::Suspicious { .. } => {
                let error = chain(&error);
                error!(error, messages = batch.len(), "quarantine does not take messages");
                ingest.stats.quarantine_refused.add(batch.len() as u64);
                let release = |r: &Refused| ingest.held.release(&r.message.message_id, true);
                let handles: Vec<String> = batch.iter().flat_map(release).collect();
                drop(batch);
                visibility::set(ingest, &handles, NOT_TAKEN_SECONDS).await;
                continue;
            }
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
