//! The first stage: long polls, and what each message says.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::ingester::Ingest;
use super::message::{Content, Pending, Refused, Settled, read};
use super::room::Share;
use super::visibility;
use crate::queue::{FetchError, POLL_WAIT_SECONDS, Received};

/// First pause after a failed poll; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A pointed-to object that is missing or out of reach is looked for again after so long, in
/// seconds.
const OBJECT_RETRY_SECONDS: u32 = 60;

/// Where a poller puts what it finds.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    pub(super) lines: mpsc::Sender<Pending>,
    pub(super) refused: mpsc::Sender<Refused>,
    pub(super) settled: mpsc::Sender<Settled>,
}

/// Polls until the ingester stops.
pub(super) async fn run(ingest: Ingest, outlets: Outlets) {
    let mut backoff = BACKOFF_MIN;
    // At first it only matters whether the queue answers: that of an empty one is not waited for.
    let mut wait_seconds = 0;
    loop {
        let polled = async {
            let share = ingest.room.for_poll().await;
            let visibility = ingest.config.visibility_seconds;
            (share, ingest.queue.receive(wait_seconds, visibility).await)
        };
        // What a poll that is given up would have brought becomes visible again by itself.
        let (share, received) = tokio::select! {
            polled = polled => polled,
            () = ingest.stopping.cancelled() => return,
        };
        match received {
            Ok(messages) => {
                backoff = BACKOFF_MIN;
                wait_seconds = POLL_WAIT_SECONDS;
                ingest.stats.on_polled();
                take(&ingest, &outlets, messages, share).await;
            }
            Err(error) => {
                drop(share);
                wait_seconds = 0;
                ingest.stats.poll_errors.add(1);
                warn!(%error, "poll failed");
                tokio::select! {
                    () = sleep(backoff) => {}
                    () = ingest.stopping.cancelled() => return,
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

async fn take(ingest: &Ingest, outlets: &Outlets, messages: Vec<Received>, mut share: Share) {
    let now = Instant::now();
    let hidden_until = now + visibility::period(&ingest.config);
    ingest.stats.received.add(messages.len() as u64);
    // All clocks start before the first message is looked at.
    let is_new = |message: &Received| ingest.held.insert(message, now, hidden_until);
    let mut fresh = messages;
    fresh.retain(is_new);
    for message in fresh {
        take_one(ingest, outlets, message, &mut share).await;
    }
}

async fn take_one(ingest: &Ingest, outlets: &Outlets, message: Received, share: &mut Share) {
    let sequence = ingest.config.sequence_attribute.as_deref();
    let content = read(&ingest.parser, &message, message.body.as_bytes(), sequence);
    let (content, object) = match content {
        Ok(Content::Pointer { bucket, key }) => {
            let object = format!("{bucket}/{key}");
            match ingest.bodies.fetch(&bucket, &key).await {
                Ok(body) => (read(&ingest.parser, &message, &body, sequence), Some(object)),
                Err(error) => {
                    return on_unfetched(ingest, outlets, message, &object, error, share).await;
                }
            }
        }
        content => (content, None),
    };
    match content {
        Ok(Content::Line(line)) => {
            let share = share.for_message(message.body.len().max(line.len()));
            let pending = Pending { message, line, object, share };
            // The later stages end after this one; where a channel is closed the drain was cut,
            // and everything that is still held is given back.
            let _ = outlets.lines.send(pending).await;
        }
        Ok(Content::Pointer { .. }) => {
            let detail = "the object is a pointer again".to_string();
            quarantine(outlets, message, detail, share).await;
        }
        Err(error) => {
            let share = share.for_message(message.body.len());
            // As above.
            let _ = outlets.refused.send(Refused::new(message, &error, share)).await;
        }
    }
}

async fn on_unfetched(
    ingest: &Ingest,
    outlets: &Outlets,
    message: Received,
    object: &str,
    error: FetchError,
    share: &mut Share,
) {
    match error {
        // The extended client deletes the object with the message: a late copy finds nothing.
        FetchError::Missing if ingest.applied_objects.contains(object) => {
            let share = share.for_message(message.body.len());
            let handles = ingest.held.finish(&message.message_id);
            // As above.
            let _ = outlets.settled.send(Settled { handles, share }).await;
        }
        FetchError::Unavailable { reason } => {
            warn!(object, reason, "pointed-to object cannot be fetched");
            release(ingest, &message, true).await;
        }
        FetchError::Missing | FetchError::Refused { .. } | FetchError::TooLarge => {
            let detail = format!("{object}: {error}");
            if ingest.held.counted(&message) >= ingest.config.receives_max {
                quarantine(outlets, message, detail, share).await;
            } else {
                release(ingest, &message, false).await;
            }
        }
    }
}

async fn quarantine(outlets: &Outlets, message: Received, detail: String, share: &mut Share) {
    let share = share.for_message(message.body.len());
    // As above.
    let _ = outlets.refused.send(Refused::missing(message, detail, share)).await;
}

async fn release(ingest: &Ingest, message: &Received, is_excused: bool) {
    let handles = ingest.held.release(&message.message_id, is_excused);
    visibility::set(ingest, &handles, OBJECT_RETRY_SECONDS).await;
}
