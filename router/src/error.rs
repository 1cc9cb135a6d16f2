//! Why a router does not start, and why a step on a shard has no answer.

use std::net::SocketAddr;
use std::sync::Arc;

use platbook_protocol::ShardId;

/// Why a router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// No TLS yet, so nothing but loopback without being asked twice.
    #[error("refusing to listen on {address} without TLS: it is not loopback (see --insecure)")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing to start from.
    #[error("no storage node is named (see --nodes)")]
    NoNodes,
    /// Limits that contradict each other.
    #[error(
        "limit idle_ms_max ({idle_ms_max}) must be greater than deadline_ms_max ({deadline_ms_max})"
    )]
    Limits {
        /// Silence after which a connection is closed.
        idle_ms_max: u64,
        /// How long a request may rightly be silent.
        deadline_ms_max: u64,
    },
    /// A field of a listing that cannot be looked for.
    #[error(transparent)]
    Fields(#[from] platbook_protocol::listing::FieldMapError),
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Why a step on a shard has no answer. The three outcomes are kept apart: only
/// [`Failure::Unknown`] may still have, or get, an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too much in flight here or there. No effect.
    #[error("shard {shard} is overloaded")]
    Overloaded {
        /// The shard.
        shard: ShardId,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// The shard's disks are nearly full. No effect.
    #[error("disk of shard {shard} is nearly full")]
    DiskFull {
        /// The shard.
        shard: ShardId,
    },
    /// No leader answered in time. No effect.
    #[error("shard {shard} is unavailable: {reason}")]
    Unavailable {
        /// The shard.
        shard: ShardId,
        /// Why, for people.
        reason: Arc<str>,
    },
    /// The deadline passed while it was under way: it may still happen.
    #[error("outcome in shard {shard} is unknown: {reason}")]
    Unknown {
        /// The shard.
        shard: ShardId,
        /// Why, for people.
        reason: Arc<str>,
    },
    /// A node does not understand the router. No effect.
    #[error("shard {shard} refused the request: {reason}")]
    Refused {
        /// The shard.
        shard: ShardId,
        /// Why, for people.
        reason: Arc<str>,
    },
}

impl Failure {
    /// Whether coming again later may help, and the step certainly had no effect.
    pub fn retryable(&self) -> bool {
        match self {
            Failure::Overloaded { .. } | Failure::Unavailable { .. } => true,
            Failure::DiskFull { .. } | Failure::Unknown { .. } | Failure::Refused { .. } => false,
        }
    }

    /// Whether the step may have, or get, an effect.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Failure::Unknown { .. })
    }
}
