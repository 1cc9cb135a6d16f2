//! Why a feed or an ingester does not start, or stops.

use std::net::SocketAddr;

use crate::feed::StoreError;
use crate::lines::LineError;
use crate::queue::QueueError;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No TLS yet, so nothing but loopback without being asked twice.
    #[error("refusing to listen on {address} without TLS: it is not loopback (see --insecure)")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Why a feed server stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting makes no sense.
    #[error("{name} is {value}, which is not between 0 and 1")]
    NotAProbability {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// No listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The messages cannot be stored, or not be read back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue that was asked for, or one on disk, is refused.
    #[error("queue {name} is refused: {reason}")]
    Queue {
        /// Its name.
        name: String,
        /// What the service says.
        reason: String,
    },
}

/// Why sending stopped.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The files end early.
    #[error(transparent)]
    Lines(#[from] LineError),
    /// No thread to read on.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The queue did not take messages.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The queue refused single messages for good.
    #[error("the queue refused {count} messages, the first: {first}")]
    Refused {
        /// How many.
        count: u64,
        /// Code and words of the first.
        first: String,
    },
}

/// Why an ingester does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A limit is too small to make progress.
    #[error("{name} must be at least {least}")]
    LimitTooSmall {
        /// The setting.
        name: &'static str,
        /// The least that works with the other settings.
        least: u64,
    },
    /// No listener for metrics and health.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The URL of the router is none.
    #[error(transparent)]
    Client(#[from] platbook_client::ArgumentError),
    /// The places of the fields are no JSON pointers.
    #[error(transparent)]
    Fields(#[from] platbook_protocol::listing::FieldMapError),
    /// A defect: a part of the ingester ended by itself.
    #[error("a stage of the ingester ended although nobody asked it to")]
    StageEnded,
}
