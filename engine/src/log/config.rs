//! The log's limits.

use std::time::Duration;

use super::error::LogError;
use super::layout::BLOCK;

const MIB: usize = 1024 * 1024;

/// Smallest segment that can be configured, in bytes.
pub const SEGMENT_BYTES_MIN: u32 = 4096;
/// Greatest segment that can be configured, in bytes: offsets are 32 bits wide.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Where the log's writer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterKind {
    /// On its own thread: production.
    Thread,
    /// As a task of the runtime that opens the log: simulation, where threads are not
    /// deterministic.
    Task,
}

/// Limits and placement of one shared log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Whose log this is, for instance a hash of cluster and node: written into every round, and a
    /// log with another identity is refused.
    pub identity: u64,
    /// Size at which a segment is sealed: a multiple of 512.
    pub segment_bytes: u32,
    /// Most bytes of queued work taken into one round.
    pub round_bytes_max: usize,
    /// Most bytes of submitted work that is not yet synced; more has to wait.
    pub queue_bytes_max: usize,
    /// Most payload bytes kept in memory over all groups; the oldest synced ones leave first.
    pub tail_bytes_max: usize,
    /// Size on disk above which `collect` tells which groups hold the log back.
    pub log_bytes_max: u64,
    /// Age of a segment's last write from which `collect` tells which groups hold it back;
    /// [`Duration::MAX`]: the log is kept for as long as there is room.
    pub retention: Duration,
    /// Most payload bytes that one `collect` appends again to free old segments.
    pub reappend_bytes_max: usize,
    /// Sealed segments below which nothing is appended again.
    pub reappend_segments_min: usize,
    /// Read and check every record at start, instead of the footers of sealed segments.
    pub verify: bool,
    /// Where the writer runs.
    pub writer: WriterKind,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            identity: 0,
            segment_bytes: 64 * MIB as u32,
            round_bytes_max: 8 * MIB,
            queue_bytes_max: 32 * MIB,
            tail_bytes_max: 128 * MIB,
            log_bytes_max: 1024 * MIB as u64,
            retention: Duration::from_secs(24 * 60 * 60),
            reappend_bytes_max: 4 * MIB,
            reappend_segments_min: 4,
            verify: false,
            writer: WriterKind::Thread,
        }
    }
}

impl LogConfig {
    /// Greatest payload of one record, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.segment_bytes as usize / 4
    }

    /// Refuses values that the layout can't hold.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let segment_is_aligned = (self.segment_bytes as usize).is_multiple_of(BLOCK);
        if !segment_is_aligned {
            return Err(LogError::Config { what: "segment_bytes is no multiple of 512" });
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(LogError::Config { what: "segment_bytes is not within 4 KiB and 1 GiB" });
        }
        if self.queue_bytes_max == 0 || self.queue_bytes_max > u32::MAX as usize {
            return Err(LogError::Config { what: "queue_bytes_max is not within 1 B and 4 GiB" });
        }
        if self.round_bytes_max == 0 {
            return Err(LogError::Config { what: "round_bytes_max is 0" });
        }
        Ok(())
    }
}
