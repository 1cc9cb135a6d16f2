//! Sends files of messages to a queue, in batches, several requests at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::SendConfig;
use crate::error::SendError;
use crate::queue::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, QueueClient};

/// Batches read ahead.
const BATCHES_AHEAD: usize = 64;
/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// A batch that the queue does not take for so long ends the sending.
const BATCH_DEADLINE: Duration = Duration::from_secs(60);
/// First pause before a batch is sent again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
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

struct Batch {
    bodies: Vec<String>,
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
    let bytes_total = total_bytes(&config.files);
    let start = Instant::now();
    let (batches, mut incoming) = mpsc::channel(BATCHES_AHEAD);
    let files = config.files.clone();
    let bytes_read = Arc::clone(&totals.bytes_read);
    let reader = tokio::task::spawn_blocking(move || read_all(&files, &bytes_read, &batches));
    let room = Arc::new(Semaphore::new(config.concurrency.max(1)));
    let mut requests: JoinSet<Result<(), SendError>> = JoinSet::new();
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut due = start;
    let mut is_cut_short = false;
    let mut tell = |totals: &Totals| {
        progress(&Progress {
            sent: totals.sent.load(Ordering::Relaxed),
            bytes_read: totals.bytes_read.load(Ordering::Relaxed),
            bytes_total,
            elapsed: start.elapsed(),
        });
    };
    loop {
        let next = async {
            sleep_until(due).await;
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit.expect("the semaphore is never closed"), incoming.recv().await)
        };
        let (permit, batch) = tokio::select! {
            next = next => next,
            Some(ended) = requests.join_next() => {
                flatten(ended)?;
                continue;
            }
            _ = ticks.tick() => {
                tell(&totals);
                continue;
            }
            () = shutdown.cancelled() => {
                is_cut_short = true;
                break;
            }
        };
        let Some(batch) = batch else { break };
        if config.rate > 0 {
            // Behind schedule means that the queue is the limit: don't catch up in a burst.
            let pause = Duration::from_secs_f64(batch.bodies.len() as f64 / f64::from(config.rate));
            due = due.max(Instant::now() - PROGRESS_EVERY) + pause;
        }
        let (queue, totals) = (queue.clone(), Arc::clone(&totals));
        requests.spawn(async move {
            let outcome = send_batch(&queue, batch, &totals).await;
            drop(permit);
            outcome
        });
    }
    // Ends the reader where it was cut short.
    drop(incoming);
    while let Some(ended) = requests.join_next().await {
        flatten(ended)?;
    }
    tell(&totals);
    let read = reader.await.expect("reading files does not panic");
    if !is_cut_short {
        read?;
    }
    Ok(Sent { messages: totals.sent.load(Ordering::Relaxed), is_cut_short })
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

fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    let size = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| meta.len());
    files.iter().map(size).sum()
}

fn read_all(
    files: &[PathBuf],
    bytes_read: &Arc<AtomicU64>,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), SendError> {
    let mut bodies = Vec::new();
    let mut bytes = 0;
    for path in files {
        let mut lines = open(path, bytes_read)?;
        let mut number = 0;
        while let Some(line) = next_line(&mut lines, path, number)? {
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            if bodies.len() == BATCH_ENTRIES_MAX || bytes + line.len() > BATCH_BYTES_MAX {
                let batch = Batch { bodies: std::mem::take(&mut bodies) };
                if !batch.bodies.is_empty() && batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
            bytes += line.len();
            bodies.push(line);
        }
    }
    if !bodies.is_empty() {
        // Nobody takes it where the sending has ended early.
        let _ = batches.blocking_send(Batch { bodies });
    }
    Ok(())
}

fn next_line(
    lines: &mut impl BufRead,
    path: &Path,
    number: u64,
) -> Result<Option<String>, SendError> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let read = read.map_err(|source| SendError::Read { path: path.to_owned(), source })?;
    if read == 0 {
        return Ok(None);
    }
    let bad = |reason: &str| SendError::BadLine {
        path: path.to_owned(),
        line: number + 1,
        reason: reason.to_string(),
    };
    if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(bad("longer than 16 MiB"));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| bad("not UTF-8"))
}

fn open(path: &Path, bytes_read: &Arc<AtomicU64>) -> Result<Box<dyn BufRead>, SendError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let fail = |source| SendError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let file = BufReader::new(Counted { inner: file, bytes: Arc::clone(bytes_read) });
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        Some("zst") => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(fail)?;
            Box::new(BufReader::new(decoder))
        }
        _ => Box::new(file),
    })
}

/// Counts the bytes that pass.
struct Counted {
    inner: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}
