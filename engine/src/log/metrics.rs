//! What can be observed of the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Buckets of the sync latency: four to each doubling, from 1 us.
const BUCKETS: usize = 128;

/// Numbers since the log was opened, and sizes now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Calls of fdatasync.
    pub syncs: u64,
    /// Rounds written.
    pub rounds: u64,
    /// Records written, those of checkpoints and footers included.
    pub records: u64,
    /// Bytes written, padding included.
    pub bytes: u64,
    /// Entries appended again to free old segments.
    pub reappended: u64,
    /// Median duration of fdatasync, in microseconds.
    pub sync_us_p50: u64,
    /// 99th percentile of the duration of fdatasync, in microseconds.
    pub sync_us_p99: u64,
    /// How long the round being written has lasted, in microseconds; 0 when idle.
    pub round_us_now: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes of all segments on disk.
    pub disk_bytes: u64,
    /// Bytes of records held in memory.
    pub tail_bytes: u64,
}

/// The counters as the writer keeps them.
pub(crate) struct Metrics {
    opened: Instant,
    syncs: AtomicU64,
    rounds: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    reappended: AtomicU64,
    /// Microseconds since `opened` at which the current round began, plus one; 0: none.
    busy_since: AtomicU64,
    sync_us: [AtomicU64; BUCKETS],
}

fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let doubling = us.ilog2();
    // The two bits behind the leading one.
    let quarter = (us << 2 >> doubling) & 3;
    (doubling as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The upper end of a bucket, in microseconds.
fn bucket_end(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4, bucket as u64 % 4);
    ((5 + quarter) << doubling) / 4
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        Metrics {
            opened: Instant::now(),
            syncs: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reappended: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            sync_us: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn on_work(&self) {
        self.busy_since.store(self.now_us() + 1, Ordering::Relaxed);
    }

    pub(crate) fn on_idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn on_round(&self, records: u32, bytes: usize) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(records), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn on_sync(&self, duration: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sync_us[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_reappend(&self, entries: usize) {
        self.reappended.fetch_add(entries as u64, Ordering::Relaxed);
    }

    fn percentile(&self, percent: u64) -> u64 {
        let counts: Vec<u64> = self.sync_us.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        found.map_or(0, bucket_end)
    }

    /// Everything but the sizes, which others know.
    pub(crate) fn counters(&self) -> LogCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let busy_since = load(&self.busy_since);
        LogCounters {
            syncs: load(&self.syncs),
            rounds: load(&self.rounds),
            records: load(&self.records),
            bytes: load(&self.bytes),
            reappended: load(&self.reappended),
            sync_us_p50: self.percentile(50),
            sync_us_p99: self.percentile(99),
            round_us_now: if busy_since == 0 {
                0
            } else {
                (self.now_us() + 1).saturating_sub(busy_since)
            },
            ..LogCounters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_quarter_of_the_truth() {
        let metrics = Metrics::new();
        for us in 1..=1000 {
            metrics.on_sync(Duration::from_micros(us));
        }
        let counters = metrics.counters();
        assert!((500..=640).contains(&counters.sync_us_p50), "{counters:?}");
        assert!((990..=1280).contains(&counters.sync_us_p99), "{counters:?}");
        assert_eq!(counters.syncs, 1000);
    }

    #[test]
    fn no_duration_is_out_of_range() {
        let metrics = Metrics::new();
        metrics.on_sync(Duration::ZERO);
        metrics.on_sync(Duration::MAX);
        assert!(metrics.counters().sync_us_p99 > 1_000_000);
    }
}
