//! Reading everything again, slowly: what the disk has lost is found while other nodes have it.
//!
//! A pass reads the log's sealed segments and the tables of every shard within half the period, and
//! at least [`BYTES_PER_SECOND_MIN`]. A restart begins a new pass. Blocks that are in the cache
//! were checked when they were read from disk.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use platbook_protocol::TimeMs;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::blocking::blocking;
use crate::node::Node;
use crate::shard::Shard;

/// A pass is never slower, however little there is to read.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of tables read at once.
const STEP_BYTES: u64 = 1 << 20;

/// What passes have come to. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrub {
    progress: Arc<Mutex<Progress>>,
}

/// Numbers to watch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes read since the start.
    pub(crate) bytes: u64,
    /// Whole passes since the start.
    pub(crate) passes: u64,
    /// When the last whole pass ended.
    pub(crate) finished: Option<TimeMs>,
}

impl Scrub {
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.lock().expect("no code panics while it holds this lock")
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().expect("no code panics while it holds this lock"));
    }
}

/// Runs until the node stops, or until something is found: a damaged node is to be rebuilt.
pub(crate) async fn run(node: Arc<Node>) {
    let Some(period) = node.config().scrub_period() else { return };
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    // Without its replicas there would be little to read.
    while node.replicas_missing() > 0 {
        if node.shutdown().run_until_cancelled(looks.tick()).await.is_none() {
            return;
        }
    }
    while !node.shutdown().is_cancelled() {
        let begun = Instant::now();
        let pass = Pass { node: &node, pace: bytes_per_second(&node, period) };
        if let Err(damage) = pass.run().await {
            return node.health().on_damage(damage);
        }
        if node.shutdown().is_cancelled() {
            return;
        }
        node.scrub().change(|progress| {
            progress.passes += 1;
            progress.finished = Some(node.clock().now());
        });
        info!(took_s = begun.elapsed().as_secs(), "scrub found nothing");
        let rest = tokio::time::sleep_until(begun + period);
        node.shutdown().run_until_cancelled(rest).await;
    }
}

/// Fast enough to be through in half the period.
fn bytes_per_second(node: &Node, period: Duration) -> u64 {
    let disk = node.disk();
    let total = disk.log.counters().disk_bytes + disk.store.counters().file_bytes;
    (total / (period.as_secs() / 2).max(1)).max(BYTES_PER_SECOND_MIN)
}

struct Pass<'a> {
    node: &'a Node,
    /// Bytes a second.
    pace: u64,
}

impl Pass<'_> {
    /// Reads everything once; an error says what is damaged.
    async fn run(&self) -> Result<(), String> {
        let log = self.node.disk().log.clone();
        for number in log.sealed_segments() {
            let log = log.clone();
            let read = blocking(move || log.scrub(number)).await;
            // A panic or a shutdown is no damage of the disk.
            let Ok(read) = read else { return Ok(()) };
            if self.count(read.map_err(|e| format!("log: {e}"))?).await.is_none() {
                return Ok(());
            }
        }
        for shard in self.node.shards().all() {
            self.tables(&shard).await?;
        }
        Ok(())
    }

    async fn tables(&self, shard: &Shard) -> Result<(), String> {
        let mut from: Option<Vec<u8>> = None;
        loop {
            let store = shard.store().clone();
            let read = blocking(move || store.scrub(from.as_deref(), STEP_BYTES));
            let Ok(read) = read.await else { return Ok(()) };
            let step = match read {
                Err(error) if error.is_damage() => {
                    return Err(format!("tables of shard {}: {error}", shard.id()));
                }
                Err(error) => {
                    debug!(shard = %shard.id(), %error, "shard not scrubbed");
                    return Ok(());
                }
                Ok(step) => step,
            };
            let goes_on = self.count(step.bytes).await;
            match (goes_on, step.next) {
                (Some(()), Some(next)) => from = Some(next),
                (None, _) | (_, None) => return Ok(()),
            }
        }
    }

    /// Counts, and waits as long as these bytes may take; `None` when the node stops.
    async fn count(&self, bytes: u64) -> Option<()> {
        self.node.scrub().change(|progress| progress.bytes += bytes);
        let pause = Duration::from_secs_f64(bytes as f64 / self.pace as f64);
        self.node.shutdown().run_until_cancelled(tokio::time::sleep(pause)).await
    }
}
