//! Many writes: batched, several requests under way, and no more held than a limit.
//!
//! Reading order: [`Message`], one write; [`Bulk`], where they are pushed; `sender`, what carries
//! them; `verdict`, what an answer says of each; [`BulkReport`], how it went.

mod message;
mod report;
mod sender;
mod verdict;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use platbook_protocol::ListingId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::message::Message;
pub use self::report::BulkReport;
use self::sender::Entry;
use crate::client::Client;
use crate::config::{BULK_MESSAGE_BYTES_MIN, BULK_QUEUE_MESSAGES};
use crate::error::{ArgumentError, AttemptError, Unknown, WriteError};

/// Settings of a bulk write, with good defaults.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `start`"]
pub struct BulkBuilder {
    client: Client,
    batch_lines: usize,
    batch_bytes: usize,
    in_flight: usize,
    held_bytes_max: usize,
    deadline: Duration,
    is_resent: bool,
}

impl BulkBuilder {
    pub(crate) fn new(client: Client) -> BulkBuilder {
        BulkBuilder {
            client,
            batch_lines: 512,
            batch_bytes: 1 << 20,
            in_flight: 4,
            held_bytes_max: 32 << 20,
            deadline: Duration::from_secs(60),
            is_resent: false,
        }
    }

    /// Most messages in one request; 512 by default.
    pub fn batch_lines(self, lines: usize) -> BulkBuilder {
        BulkBuilder { batch_lines: lines.max(1), ..self }
    }

    /// Bytes after which a request is closed; 1 MiB by default.
    pub fn batch_bytes(self, bytes: usize) -> BulkBuilder {
        BulkBuilder { batch_bytes: bytes, ..self }
    }

    /// Requests under way at a time; 4 by default.
    pub fn in_flight(self, requests: usize) -> BulkBuilder {
        BulkBuilder { in_flight: requests.max(1), ..self }
    }

    /// Bytes of messages that may wait or be under way; 32 MiB by default. Whoever pushes more
    /// waits.
    pub fn held_bytes_max(self, bytes: usize) -> BulkBuilder {
        BulkBuilder { held_bytes_max: bytes, ..self }
    }

    /// How long a batch may take, with all its retries; 60 s by default.
    pub fn deadline(self, deadline: Duration) -> BulkBuilder {
        BulkBuilder { deadline, ..self }
    }

    /// The caller promises to push each message again, with the same time, until it is done, even
    /// after a crash of its own: then the store need not keep the bodies of unfinished messages.
    pub fn will_resend(self) -> BulkBuilder {
        BulkBuilder { is_resent: true, ..self }
    }

    /// Starts to take messages. Must be called on a Tokio runtime.
    pub fn start(self) -> Bulk {
        let bytes = self.held_bytes_max.clamp(BULK_MESSAGE_BYTES_MIN, Semaphore::MAX_PERMITS);
        let bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(bytes_max as usize));
        let (entries, entries_out) = mpsc::channel(BULK_QUEUE_MESSAGES);
        let sending = tokio::spawn(sender::run(self, entries_out));
        Bulk { entries, room, bytes_max, pushed: AtomicU64::new(0), sending }
    }
}

/// Takes messages and writes them, many at a time.
///
/// Pushing waits while as much is held as may be: that is the backpressure. Each push gives an
/// [`Ack`] that may be awaited, or dropped; [`Bulk::finish`] waits for all and reports. Messages of
/// the same listing in one bulk are ordered as any others are: by the operator's clock in the
/// listing, then by the time they were meant, to the millisecond.
///
/// Dropped without `finish`, it still sends what was pushed, for as long as its runtime runs.
///
/// ```no_run
/// # async fn f(client: platbook_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let bulk = client.bulk().in_flight(8).start();
/// for price in [410_000, 420_000] {
///     let body = format!(r#"{{"ListingKey":"{price}","PostalCode":"98103"}}"#);
///     bulk.put(body).await?; // waits while too much is under way
/// }
/// let deleted = bulk.delete("7129300520").await?;
/// deleted.await?; // this one is durable
/// let report = bulk.finish().await;
/// assert!(report.is_complete(), "{report:?}");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Bulk {
    entries: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    bytes_max: u32,
    pushed: AtomicU64,
    sending: JoinHandle<BulkReport>,
}

impl Bulk {
    /// Pushes an upsert; see [`Message::upsert`].
    pub async fn put(&self, listing: impl Into<Bytes>) -> Result<Ack, ArgumentError> {
        Ok(self.push(&Message::upsert(listing)?).await)
    }

    /// Pushes a delete.
    pub async fn delete<I>(&self, id: I) -> Result<Ack, ArgumentError>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        Ok(self.push(&Message::delete(id)?).await)
    }

    /// Pushes a message that the caller keeps, to push it again where it ends as unknown. Dropped
    /// while it waits, it has pushed nothing.
    pub async fn push(&self, message: &Message) -> Ack {
        let line = message.line();
        let bytes = line.len().max(BULK_MESSAGE_BYTES_MIN);
        // What is larger than all there is goes alone.
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let room = self.room.clone().acquire_many_owned(share).await;
        let room = room.expect("the semaphore is never closed");
        let (ended, ack) = oneshot::channel();
        // Its receiver ends before this only with the runtime; then the ack says so.
        if let Ok(place) = self.entries.reserve().await {
            let number = self.pushed.fetch_add(1, Ordering::Relaxed) + 1;
            place.send(Entry { number, line, ended, room });
        }
        Ack { ended: ack }
    }

    /// Waits until every message is settled.
    pub async fn finish(self) -> BulkReport {
        let pushed = self.pushed.load(Ordering::Relaxed);
        drop(self.entries);
        match self.sending.await {
            Ok(report) => report,
            // Lost with its task, so that nothing can be said of any message.
            Err(_) => BulkReport { unknown: pushed, ..BulkReport::default() },
        }
    }
}

/// Tells how a pushed message ended; may be dropped.
#[derive(Debug)]
pub struct Ack {
    ended: oneshot::Receiver<Result<(), WriteError>>,
}

impl Future for Ack {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.ended).poll(cx).map(|ended| {
            ended.unwrap_or_else(|_| {
                let last = AttemptError::Abandoned;
                Err(Unknown { attempts: 0, last, write: None }.into())
            })
        })
    }
}
