//! Sends files of messages to a queue, in batches, several requests at a time.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::SendConfig;
use crate::error::SendError;
use crate::lines::{LineError, Lines};
use crate::queue::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, QueueClient};

/// Batches read ahead.
const BATCHES_AHEAD: usize = 64;
/// A batch that the queue does not take for so long ends the sending.
const BATCH_DEADLINE: Duration = Duration::from_secs(60);
/// First pause before a batch is sent again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// After a shutdown, requests under way have so long to end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How far sending has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Messages that the queue has taken.
    pub sent: u64,
    /// Bytes read of the files as they are, packed or not.
    pub bytes_read: u64,
    /// Bytes of all files; `None` with standard input.
    pub bytes_total: Option<u64>,
    /// Time since the start.
    pub elapsed: Duration,
}

/// What was sent in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages that the queue has taken.
    pub messages: u64,
    /// Whether `shutdown` ended it early.
    pub is_cut_short: bool,
}

#[derive(Debug, Default)]
struct Totals {
    sent: AtomicU64,
    bytes_read: Arc<AtomicU64>,
}

/// Sends all files, then returns. A message may arrive twice where an answer of the queue was
/// lost. `progress` is called some times a second; see [`terminal_progress`].
pub async fn send(
    config: SendConfig,
    shutdown: CancellationToken,
    mut progress: impl FnMut(&Progress),
) -> Result<Sent, SendError> {
    let queue = QueueClient::connect(&config.queue).await;
    let totals = Arc::new(Totals::default());
    let bytes_total = Lines::total_bytes(&config.files);
    let start = Instant::now();
    let (mut batches, reader) = read(config.files.clone(), Arc::clone(&totals.bytes_read))?;
    let room = Arc::new(Semaphore::new(config.concurrency.max(1)));
    let mut requests: JoinSet<Result<(), SendError>> = JoinSet::new();
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut due = start;
    let mut tell = |totals: &Totals| {
        progress(&Progress {
            sent: totals.sent.load(Ordering::Relaxed),
            bytes_read: totals.bytes_read.load(Ordering::Relaxed),
            bytes_total,
            elapsed: start.elapsed(),
        });
    };
    let mut is_at_end = false;
    while !(is_at_end && requests.is_empty()) {
        let next = async {
            sleep_until(due).await;
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit.expect("the semaphore is never closed"), batches.recv().await)
        };
        tokio::select! {
            (permit, batch) = next, if !is_at_end => match batch {
                None => is_at_end = true,
                Some(batch) => {
                    due = due_after(due, batch.bodies.len(), config.rate);
                    let (queue, totals) = (queue.clone(), Arc::clone(&totals));
                    requests.spawn(async move {
                        let outcome = send_batch(&queue, batch, &totals).await;
                        drop(permit);
                        outcome
                    });
                }
            },
            Some(ended) = requests.join_next() => flatten(ended)?,
            _ = ticks.tick() => tell(&totals),
            () = shutdown.cancelled() => {
                let end = async { while requests.join_next().await.is_some() {} };
                // What is cut here may be sent or not: the caller knows that it is cut short.
                let _ = timeout(DRAIN_MAX, end).await;
                let messages = totals.sent.load(Ordering::Relaxed);
                return Ok(Sent { messages, is_cut_short: true });
            }
        }
    }
    tell(&totals);
    reader.await.expect("reading files does not panic")?;
    Ok(Sent { messages: totals.sent.load(Ordering::Relaxed), is_cut_short: false })
}

/// Messages for one request.
struct Batch {
    bodies: Vec<String>,
}

type Reading = oneshot::Receiver<Result<(), LineError>>;

/// Reads on a thread of its own: reading standard input may never end, and must not hold up the
/// end of the process.
fn read(
    files: Vec<PathBuf>,
    bytes_read: Arc<AtomicU64>,
) -> Result<(mpsc::Receiver<Batch>, Reading), SendError> {
    let (batches, incoming) = mpsc::channel(BATCHES_AHEAD);
    let (done, reading) = oneshot::channel();
    std::thread::Builder::new()
        .name("feed-send".to_string())
        .spawn(move || {
            let read = read_all(Lines::new(files, bytes_read), &batches);
            // Nobody waits for it where the sending was cut short.
            let _ = done.send(read);
        })
        .map_err(SendError::Thread)?;
    Ok((incoming, reading))
}

/// Gathers batches until nobody takes them any more.
fn read_all(mut lines: Lines, batches: &mpsc::Sender<Batch>) -> Result<(), LineError> {
    let mut bodies = Vec::new();
    let mut bytes = 0;
    while let Some(line) = lines.try_next()? {
        if bodies.len() == BATCH_ENTRIES_MAX || bytes + line.text.len() > BATCH_BYTES_MAX {
            let batch = Batch { bodies: std::mem::take(&mut bodies) };
            if !batch.bodies.is_empty() && batches.blocking_send(batch).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
        bytes += line.text.len();
        bodies.push(line.text);
    }
    if !bodies.is_empty() {
        // Nobody takes it where the sending has ended early.
        let _ = batches.blocking_send(Batch { bodies });
    }
    Ok(())
}

/// When the next batch may go. Behind schedule means that the queue is the limit: nothing is
/// caught up in a burst.
fn due_after(due: Instant, messages: usize, rate: u32) -> Instant {
    match rate {
        0 => due,
        rate => {
            let pause = Duration::from_secs_f64(messages as f64 / f64::from(rate));
            due.max(Instant::now() - PROGRESS_EVERY) + pause
        }
    }
}

/// A progress line on standard error, if that is a terminal.
pub fn terminal_progress() -> impl FnMut(&Progress) {
    let mut err = std::io::stderr();
    let is_terminal = err.is_terminal();
    move |progress| {
        if !is_terminal {
            return;
        }
        let rate = progress.sent as f64 / progress.elapsed.as_secs_f64().max(0.001);
        let percent = match progress.bytes_total {
            Some(total) if total > 0 => format!("{:>3}%  ", progress.bytes_read * 100 / total),
            _ => String::new(),
        };
        let line = format!("\r\x1b[K{percent}{} messages sent, {rate:.0}/s", progress.sent);
        // A terminal that went away takes nothing from the sending.
        let _ = err.write_all(line.as_bytes()).and_then(|()| err.flush());
    }
}

fn flatten(ended: Result<Result<(), SendError>, tokio::task::JoinError>) -> Result<(), SendError> {
    ended.expect("a request neither panics nor is it aborted while it is waited for")
}

/// Sends one batch until the queue has taken all of it.
async fn send_batch(queue: &QueueClient, batch: Batch, totals: &Totals) -> Result<(), SendError> {
    let mut left: Vec<String> = batch.bodies;
    let deadline = Instant::now() + BATCH_DEADLINE;
    let mut backoff = BACKOFF_MIN;
    loop {
        let bodies: Vec<&str> = left.iter().map(String::as_str).collect();
        match queue.send(&bodies).await {
            Ok(failed) => {
                totals.sent.fetch_add((left.len() - failed.len()) as u64, Ordering::Relaxed);
                if let Some(first) = failed.iter().find(|entry| entry.is_senders_fault) {
                    let count = failed.iter().filter(|entry| entry.is_senders_fault).count();
                    let first = format!("{}: {}", first.code, first.message);
                    return Err(SendError::Refused { count: count as u64, first });
                }
                if failed.is_empty() {
                    return Ok(());
                }
                let again: Vec<usize> = failed.iter().map(|entry| entry.index).collect();
                let mut index = 0..;
                left.retain(|_| index.next().is_some_and(|i: usize| again.contains(&i)));
            }
            Err(error) if error.retryable() && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
