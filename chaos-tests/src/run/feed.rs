//! The operator's feed while the run goes on: real sales through a queue that shuffles, duplicates
//! and resurrects, spread over the length of the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::operator::queue::BATCH_MAX;
use crate::operator::{Messages, Queue, now_ms};
use crate::{Cluster, Error, restart};

/// A short run does not send faster than this, in messages a second.
const RATE_MAX: f64 = 100.0;

/// What is fed.
#[derive(Debug)]
pub struct Feed {
    /// The messages; as many as the time allows.
    pub messages: Messages,
    /// Where the feed's journal is: the directory of the cluster.
    pub dir: PathBuf,
    /// ZIPs to compare, besides those of the messages.
    pub zips: Vec<String>,
}

/// A running feed. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Feeding {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<u64, Error>>,
    dir: PathBuf,
    zips: Vec<String>,
}

impl Feeding {
    /// Sends the messages over `length`.
    pub(super) fn start(cluster: &Cluster, feed: Feed, length: Duration) -> Feeding {
        let stop = Arc::new(AtomicBool::new(false));
        let rate = (feed.messages.remaining() as f64 / length.as_secs_f64().max(1.0)).min(RATE_MAX);
        let every = Duration::from_secs_f64(BATCH_MAX as f64 / rate.max(1.0));
        let (queue, stopped) = (Queue::of(cluster), Arc::clone(&stop));
        let task = tokio::spawn(send(queue, feed.messages, every, stopped));
        Feeding { stop, task, dir: feed.dir, zips: feed.zips }
    }

    /// ZIPs in which its listings are.
    pub(super) fn zips(&self) -> &[String] {
        &self.zips
    }

    /// Waits until everything that was sent has been taken from the queue, and compares every ZIP.
    pub(super) async fn end(mut self, cluster: &mut Cluster) -> Result<String, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = (&mut self.task).await;
        let sent = ended.map_err(|panic| Error::Malformed {
            what: "the feed".to_string(),
            reason: panic.to_string(),
        })??;
        restart::drain(cluster, &Queue::of(cluster)).await?;
        let compared = restart::compare(cluster, &self.dir, &self.zips, sent).await?;
        Ok(format!(
            "feed: {sent} messages; {} listings in {} ZIPs right byte for byte, {} in quarantine",
            compared.listings, compared.zips, compared.quarantined
        ))
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(
    queue: Queue,
    mut messages: Messages,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> Result<u64, Error> {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let batch = messages.batch(now_ms(), BATCH_MAX);
        if batch.is_empty() {
            break;
        }
        queue.send(&batch).await?;
        sent += batch.len() as u64;
    }
    Ok(sent)
}
