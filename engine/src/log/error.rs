//! What may go wrong in the shared log.

use std::io;
use std::sync::Arc;

use platbook_protocol::ReplicaId;

/// An error of the shared log. None is worth retrying on the same open log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A limit that the layout can't hold.
    #[error("log configuration: {what}")]
    Config {
        /// Which limit.
        what: &'static str,
    },
    /// Bytes that were synced are not what was written. Never cut silently.
    #[error("log segment {segment} is damaged at offset {offset}: {what}")]
    Corrupt {
        /// Number of the segment.
        segment: u32,
        /// Offset in its file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A segment between or after others, or named by the clean-shutdown mark, is not there.
    #[error("log segment {segment} is missing")]
    MissingSegment {
        /// Number of the segment.
        segment: u32,
    },
    /// A live record of a group stands in no segment.
    #[error("log of replica {replica} has no record at index {index}")]
    MissingIndex {
        /// The group.
        replica: ReplicaId,
        /// The index.
        index: u64,
    },
    /// The log belongs to another node or cluster.
    #[error("log belongs to {found:016x}, not to {expected:016x}")]
    Foreign {
        /// Identity on disk.
        found: u64,
        /// Identity configured.
        expected: u64,
    },
    /// Written by a version of this program that this one can't read.
    #[error("log segment {segment} has format version {version}")]
    Version {
        /// Number of the segment.
        segment: u32,
        /// The version found.
        version: u8,
    },
    /// The disk refused.
    #[error("log could not {action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file, by its name inside the log's directory.
        file: String,
        /// The operating system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write, a sync or an allocation failed earlier: nothing is accepted any more.
    #[error("log is poisoned: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The log was closed.
    #[error("log is closed")]
    Closed,
    /// The group was removed from the log.
    #[error("replica {replica} was removed from the log")]
    Removed {
        /// The group.
        replica: ReplicaId,
    },
    /// A record or vote greater than the log can hold.
    #[error("log record has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Records have to follow each other without a gap.
    #[error("log of replica {replica} continues at index {expected}, not {found}")]
    NotContiguous {
        /// The group.
        replica: ReplicaId,
        /// The index that has to come next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
}

impl LogError {
    /// Whether the same call may succeed later on the same open log: never.
    pub fn retryable(&self) -> bool {
        false
    }

    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> LogError {
        LogError::Io { action, file: file.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(segment: u32, offset: u64, what: &'static str) -> LogError {
        LogError::Corrupt { segment, offset, what }
    }

    /// The error with its cause, in one line.
    pub(crate) fn reason(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
