//! Why the store stops. Nothing here is an answer to a user: answers are outcomes.

use std::path::PathBuf;

use platbook_protocol::{ReplicaId, ShardId};

use crate::command::CommandError;
use crate::store::{DatabaseError, LayoutError, StreamError};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB refused: a full or broken disk, a bad checksum.
    #[error("rocksdb failed to {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What RocksDB says.
        #[source]
        source: DatabaseError,
    },
    /// A file outside RocksDB could not be handled.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A stored key or value cannot be read.
    #[error("stored {what} of key {key} is damaged")]
    Corrupt {
        /// Kind of the key or value.
        what: &'static str,
        /// The key, in hex.
        key: String,
        /// What is wrong with it.
        #[source]
        source: LayoutError,
    },
    /// A committed entry cannot be read. All replicas find the same, so the shard stops.
    #[error("entry {index} of shard {shard} cannot be read")]
    Entry {
        /// The shard.
        shard: ShardId,
        /// Log index.
        index: u64,
        /// What is wrong with it.
        #[source]
        source: CommandError,
    },
    /// An entry is not the successor of the applied one.
    #[error("entry {found} of shard {shard} was applied where {expected} was due")]
    OutOfOrder {
        /// The shard.
        shard: ShardId,
        /// Index given.
        found: u64,
        /// Index that was due.
        expected: u64,
    },
    /// The state on disk belongs to another placement of the shard.
    #[error("shard {shard} on disk belongs to replica {found}, not to {wanted}")]
    WrongReplica {
        /// The shard.
        shard: ShardId,
        /// Owner on disk.
        found: ReplicaId,
        /// Owner asked for.
        wanted: ReplicaId,
    },
    /// The shard is already open under another slot range or replica.
    #[error("shard {shard} is already open as something else")]
    AlreadyOpen {
        /// The shard.
        shard: ShardId,
    },
    /// The replica was removed; its state is gone.
    #[error("shard {shard} was removed from this node")]
    Destroyed {
        /// The shard.
        shard: ShardId,
    },
    /// A snapshot that was received is damaged or not for this shard. Nothing was installed.
    #[error("snapshot for shard {shard} was refused")]
    Snapshot {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        #[source]
        source: StreamError,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn retryable(&self) -> bool {
        match self {
            // Another copy of the snapshot may arrive whole.
            StoreError::Snapshot { .. } => true,
            StoreError::Database { .. }
            | StoreError::Io { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Entry { .. }
            | StoreError::OutOfOrder { .. }
            | StoreError::WrongReplica { .. }
            | StoreError::AlreadyOpen { .. }
            | StoreError::Destroyed { .. } => false,
        }
    }
}

impl StoreError {
    /// Whether what is on disk cannot be read any more: another attempt finds the same.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Database { source, .. } => source.is_damage(),
            StoreError::Corrupt { .. } => true,
            _ => false,
        }
    }
}
