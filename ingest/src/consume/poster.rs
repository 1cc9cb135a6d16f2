//! The second stage: batches for the router, and what becomes of each of their messages.
//!
//! Nothing lingers: an idle poster sends what comes at once, and a busy one gathers while its
//! requests are under way. A batch is sent until it is answered; where a request fails in a way
//! that may be a message's doing, its halves are sent by themselves, down to the one message.

use std::time::Duration;

use platbook_client::error::chain;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::ingester::Ingest;
use super::message::{Pending, Refused, Settled};
use super::verdict::{self, Failure, Verdict};
use super::visibility;

/// Most messages in one request.
const BATCH_MESSAGES_MAX: usize = 1_024;
/// Bytes after which a request is closed.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Requests under way at a time.
const REQUESTS_MAX: usize = 4;
/// A busy message is visible again after so long, in seconds: the newer one is nearly done.
const BUSY_SECONDS: u32 = 2;
/// A message that the store could not take is visible again after so long, in seconds.
const LATER_SECONDS: u32 = 10;
/// A message that failed is visible again after so long, in seconds.
const FAILED_SECONDS: u32 = 30;
/// First pause before a batch is sent again; it doubles. The client has retried until its
/// deadline before.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where the poster puts what it is done with.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    pub(super) refused: mpsc::Sender<Refused>,
    pub(super) settled: mpsc::Sender<Settled>,
}

/// Posts until there are no more lines.
pub(super) async fn run(ingest: Ingest, mut lines: mpsc::Receiver<Pending>, outlets: Outlets) {
    let room = std::sync::Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut requests = JoinSet::new();
    loop {
        let permit = std::sync::Arc::clone(&room).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let Some(first) = lines.recv().await else { break };
        let mut bytes = first.line.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MESSAGES_MAX
            && bytes < BATCH_BYTES_MAX
            && let Ok(next) = lines.try_recv()
        {
            bytes += next.line.len();
            batch.push(next);
        }
        let (ingest, outlets) = (ingest.clone(), outlets.clone());
        requests.spawn(async move {
            post(&ingest, &outlets, batch).await;
            drop(permit);
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

async fn post(ingest: &Ingest, outlets: &Outlets, batch: Vec<Pending>) {
    let mut work = vec![batch];
    let mut backoff = BACKOFF_MIN;
    while let Some(mut batch) = work.pop() {
        let lines: Vec<u8> = batch.iter().flat_map(|pending| &pending.line).copied().collect();
        let error = match ingest.router.post(lines).will_resend().await {
            Ok(answer) => {
                backoff = BACKOFF_MIN;
                ingest.stats.on_answer(&answer);
                let verdicts = verdict::of_answer(&answer, batch.len());
                settle(ingest, outlets, batch, verdicts).await;
                continue;
            }
            Err(error) => error,
        };
        ingest.stats.post_errors.add(1);
        match verdict::of_error(&error) {
            Failure::Again => {
                let error = chain(&error);
                warn!(error, messages = batch.len(), "batch is sent again");
                ingest.stats.on_router_away();
                work.push(batch);
            }
            Failure::Suspicious { .. } if batch.len() > 1 => {
                let error = chain(&error);
                debug!(error, messages = batch.len(), "batch is halved");
                let tail = batch.split_off(batch.len() / 2);
                work.extend([tail, batch]);
                continue;
            }
            Failure::Suspicious { code, detail } => {
                let verdict = Verdict::Failed { code, detail };
                settle(ingest, outlets, batch, vec![verdict]).await;
                continue;
            }
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Sends each message of a batch where its verdict says.
async fn settle(ingest: &Ingest, outlets: &Outlets, batch: Vec<Pending>, verdicts: Vec<Verdict>) {
    let (mut busy, mut later, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (pending, verdict) in batch.into_iter().zip(verdicts) {
        let Pending { message, object, share, .. } = pending;
        let id = &message.message_id;
        match verdict {
            Verdict::Done => {
                if let Some(object) = object {
                    ingest.applied_objects.insert(&object);
                }
                let handles = ingest.held.finish(id);
                // The acker ends last; where it is gone the drain was cut, and the message comes
                // again.
                let _ = outlets.settled.send(Settled { handles, share }).await;
            }
            Verdict::Busy => busy.extend(ingest.held.release(id, true)),
            Verdict::Later => later.extend(ingest.held.release(id, true)),
            Verdict::Failed { code, detail }
                if ingest.held.counted(&message) >= ingest.config.receives_max =>
            {
                let detail = format!("failed {} times: {detail}", message.receive_count);
                let refused = Refused { message, code, detail, share };
                // As above.
                let _ = outlets.refused.send(refused).await;
            }
            Verdict::Failed { code, detail } => {
                warn!(message = id, code, detail, "message failed and will come again");
                failed.extend(ingest.held.release(id, false));
            }
            Verdict::Refused { code, detail } => {
                let refused = Refused { message, code, detail, share };
                // As above.
                let _ = outlets.refused.send(refused).await;
            }
        }
    }
    ingest.stats.busy.add(busy.len() as u64);
    ingest.stats.later.add((later.len() + failed.len()) as u64);
    visibility::set(ingest, &busy, BUSY_SECONDS).await;
    visibility::set(ingest, &later, LATER_SECONDS).await;
    visibility::set(ingest, &failed, FAILED_SECONDS).await;
}
