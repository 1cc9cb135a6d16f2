//! What the node watches about itself: disk space, the log's health, the clocks of its peers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use platbook_protocol::rpc::{Clock as ClockCall, ClockAnswer};
use tokio::sync::SetOnce;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::blocking::blocking;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::node::Node;
use crate::rpc::client;
use crate::{pace, replicas};

const DISK_INTERVAL: Duration = Duration::from_secs(1);
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);
const CLOCK_TIMEOUT: Duration = Duration::from_secs(1);
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// A node whose clock is further than this from the median of all gives its leaderships up.
const CLOCK_OFFSET_MS_MAX: i64 = 10_000;
/// Free share above the minimum at which a read-only node writes again, in percent points.
const DISK_RECOVERY_PERCENT: u64 = 2;
const LEADERSHIP_TIMEOUT: Duration = Duration::from_secs(2);
const GIB: u64 = 1 << 30;

/// Flags that others read.
#[derive(Clone, Default)]
pub(crate) struct Health {
    read_only: Arc<AtomicBool>,
    nobody_takes_over: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
    clock_offset_ms: Arc<AtomicI64>,
    leaderships_received: Arc<AtomicU64>,
    damage: Arc<SetOnce<String>>,
    disk_slow: Arc<AtomicBool>,
    log_lost: Arc<SetOnce<String>>,
}

impl Health {
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Whether this node kept leaderships although its disk is full: no other node would take them.
    pub(crate) fn nobody_takes_over(&self) -> bool {
        self.nobody_takes_over.load(Ordering::Relaxed)
    }

    pub(crate) fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms.load(Ordering::Relaxed)
    }

    /// Whether the log's disk is too slow for a leader.
    pub(crate) fn is_disk_slow(&self) -> bool {
        self.disk_slow.load(Ordering::Relaxed)
    }

    pub(crate) fn set_disk_slow(&self, is_slow: bool) {
        self.disk_slow.store(is_slow, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Notes that a leader handed over to a replica of this node.
    pub(crate) fn on_leadership_received(&self) {
        self.leaderships_received.fetch_add(1, Ordering::Relaxed);
    }

    /// How often leaders handed over to replicas of this node. Every other election was somebody's
    /// fault.
    pub(crate) fn leaderships_received(&self) -> u64 {
        self.leaderships_received.load(Ordering::Relaxed)
    }

    /// Notes what the disk has lost. The node goes on as a follower, but leads nothing any more.
    pub(crate) fn on_damage(&self, what: String) {
        if self.damage.set(what.clone()).is_ok() {
            error!(damage = %what, "this node's disk is damaged: it has to be rebuilt");
        }
    }

    /// Notes that entries are gone which this node had acknowledged: it has to stop, for good.
    pub(crate) fn on_log_lost(&self, what: String) {
        // The first one is enough.
        let _ = self.log_lost.set(what);
    }

    /// Waits until that is noted, and tells it.
    pub(crate) async fn log_lost(&self) -> &str {
        self.log_lost.wait().await
    }

    /// Waits until something is found, and tells it.
    pub(crate) async fn damaged(&self) -> &str {
        self.damage.wait().await
    }

    /// What the disk has lost, if anything was found.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Whether this node should lead anything.
    pub(crate) fn may_lead(&self) -> bool {
        !self.is_read_only()
            && !self.is_draining()
            && self.damage().is_none()
            && !self.is_disk_slow()
            && self.clock_offset_ms().abs() <= CLOCK_OFFSET_MS_MAX
    }
}

/// How the node's memory is divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) block_cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
    pub(crate) log_tail_bytes: u64,
    pub(crate) request_bytes: u64,
}

impl Memory {
    /// Divides `max`, or half of what the machine or its cgroup has.
    pub(crate) fn divide(max: Option<u64>) -> Memory {
        let max = max.or_else(|| memory_available().map(|found| found / 2)).unwrap_or(GIB);
        let max = max.max(128 << 20);
        Memory {
            block_cache_bytes: max * 40 / 100,
            memtable_bytes: max * 25 / 100,
            log_tail_bytes: max * 15 / 100,
            request_bytes: max * 10 / 100,
        }
    }
}

fn memory_available() -> Option<u64> {
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = cgroup.and_then(|text| text.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
    });
    match (limit, machine) {
        (Some(limit), Some(machine)) => Some(limit.min(machine)),
        (found, None) | (None, found) => found,
    }
}

/// As configured, or a tenth of the disk, from 1 to 64 GiB.
pub(crate) fn log_bytes_max(config: &NodeConfig, path: &Path) -> u64 {
    let tenth = || disk_space(path).map_or(GIB, |(_, total)| (total / 10).clamp(GIB, 64 * GIB));
    config.log_bytes_max.unwrap_or_else(tenth)
}

/// As configured; 0 hours: for as long as there is room.
pub(crate) fn log_retention(config: &NodeConfig) -> Duration {
    match config.log_retention_hours {
        0 => Duration::MAX,
        hours => Duration::from_secs(u64::from(hours) * 60 * 60),
    }
}

/// Free and total bytes of the file system under `path`.
fn disk_space(path: &Path) -> Option<(u64, u64)> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    let block = found.fragment_size();
    Some((found.blocks_available() * block, found.blocks() * block))
}

/// Starts the watchers.
pub(crate) fn start(node: &Arc<Node>) {
    node.spawn(watch_log(node.clone()));
    node.spawn(watch_lies(node.clone()));
    node.spawn(watch_damage(node.clone()));
    node.spawn(watch_disk(node.clone()));
    node.spawn(pace::watch(node.clone()));
    node.spawn(watch_clocks(node.clone()));
    node.spawn(trim(node.clone()));
}

async fn watch_log(node: Arc<Node>) {
    let mut fault = node.disk().log.fault();
    let broken = fault.wait_for(Option::is_some);
    if let Some(Ok(found)) = node.shutdown().run_until_cancelled(broken).await {
        let reason = found.clone().unwrap_or_default();
        drop(found);
        node.poison(reason);
    }
}

/// Stops the node for good once it was told that its log lost what it had acknowledged.
async fn watch_lies(node: Arc<Node>) {
    let what = node.health().log_lost().await.to_string();
    let (noted, lost) = (node.clone(), what.clone());
    let noted = blocking(move || noted.data().mark_log_lost(&lost)).await;
    // Where even that cannot be written, its leader tells it again.
    if !matches!(noted, Ok(Ok(()))) {
        error!(?noted, "not noted that the log lost entries");
    }
    node.poison(NodeError::LogLost { what }.to_string());
}

/// Sees to it that the node leads nothing after a restart either: what was lost may be met late.
async fn watch_damage(node: Arc<Node>) {
    let what = node.health().damaged().await.to_string();
    let noted = node.clone();
    let noted = blocking(move || noted.data().mark_damaged(&what)).await;
    if !matches!(noted, Ok(Ok(()))) {
        warn!(?noted, "not noted that the disk is damaged");
    }
}

async fn watch_disk(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(DISK_INTERVAL);
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(reason) = node.disk().store.background_error() {
            return node.poison(format!("store: {reason}"));
        }
        let Some((free, total)) = disk_space(node.data().path()) else { continue };
        let percent = free * 100 / total.max(1);
        let least = u64::from(node.config().disk_free_percent_min);
        let was = node.health().is_read_only();
        let is = percent < least || (was && percent < least + DISK_RECOVERY_PERCENT);
        node.health().read_only.store(is, Ordering::Relaxed);
        match (was, is) {
            (false, true) => error!(free, total, "disk is nearly full: this node is read-only"),
            (true, false) => info!(free, total, "disk has room again: this node takes writes"),
            (true, true) | (false, false) => {}
        }
        let mut leads = false;
        if is || node.health().damage().is_some() {
            replicas::hand_all_over(&node, Instant::now() + LEADERSHIP_TIMEOUT).await;
            leads = node.shards().all().iter().any(|shard| shard.group().is_leader());
        }
        node.health().nobody_takes_over.store(leads, Ordering::Relaxed);
    }
}

/// Measures the distance of this clock to its peers' and gives leaderships up when it is off.
async fn watch_clocks(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(CLOCK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(map) = node.directory().map() else { continue };
        let mut offsets = vec![0];
        for peer in map.nodes.iter().filter(|peer| peer.id != node.config().node()) {
            match offset_to(&node, &peer.address).await {
                Ok(offset) => offsets.push(offset),
                Err(error) => debug!(peer = %peer.id, %error, "clock not compared"),
            }
        }
        let own = distance_to_median(&mut offsets);
        node.health().clock_offset_ms.store(own, Ordering::Relaxed);
        if own.abs() > CLOCK_OFFSET_MS_MAX {
            warn!(offset_ms = own, "this clock is off: giving leaderships up");
            replicas::hand_all_over(&node, Instant::now() + LEADERSHIP_TIMEOUT).await;
        }
    }
}

/// How far the peer's clock is ahead of ours, assuming that both ways take equally long.
async fn offset_to(node: &Node, address: &str) -> Result<i64, client::CallError> {
    let before = node.clock().wall();
    let asked = client::call(node.directory(), address, "/rpc/clock", &ClockCall {}, CLOCK_TIMEOUT);
    let answer: ClockAnswer = asked.await?;
    let after = node.clock().wall();
    Ok(answer.now.0 as i64 - (before.0 / 2 + after.0 / 2) as i64)
}

/// Distance of our clock (0) to the median of all, ours included.
fn distance_to_median(offsets: &mut [i64]) -> i64 {
    offsets.sort_unstable();
    let median = match offsets {
        [] => 0,
        // With two clocks nobody knows which one is right; the half is as good as any.
        [a, b] => (*a + *b) / 2,
        many => many[many.len() / 2],
    };
    -median
}

/// Gives up log that nobody needs any more: applied, flushed, and beyond what is kept.
async fn trim(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(TRIM_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        let (log, now) = (node.disk().log.clone(), node.clock().now());
        let collected = blocking(move || log.collect(now)).await;
        let held_back = match collected {
            Ok(Ok(collected)) => collected.held_back,
            Ok(Err(error)) => {
                warn!(%error, "log not collected");
                continue;
            }
            Err(_) => return,
        };
        if held_back.is_empty() {
            continue;
        }
        replicas::purge(&node, &held_back).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_clock_of_three_sees_itself_and_the_others_do_not() {
        assert_eq!(distance_to_median(&mut [0, -30_000, -30_001]), 30_000);
        assert_eq!(distance_to_median(&mut [0, 30_000, 2]), -2);
        assert_eq!(distance_to_median(&mut [0]), 0);
    }

    #[test]
    fn memory_is_divided_without_rest_for_surprises() {
        let memory = Memory::divide(Some(GIB));
        let sum = memory.block_cache_bytes
            + memory.memtable_bytes
            + memory.log_tail_bytes
            + memory.request_bytes;
        assert!(sum <= GIB * 95 / 100);
    }
}
