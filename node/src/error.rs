//! Why a node does not start, or stops.

use std::path::PathBuf;

use platbook_engine::error::StoreError;
use platbook_engine::log::LogError;
use platbook_protocol::NodeId;
use platbook_protocol::map::ClusterId;

/// One line for the operator; nothing here is retried.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting that cannot be.
    #[error("bad configuration: {0}")]
    Config(String),
    /// The data directory is in use.
    #[error("data directory {} is used by another process", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory belongs to another node.
    #[error("data directory belongs to node {found}, this is node {own}")]
    OtherNode {
        /// In the identity file.
        found: NodeId,
        /// On the command line.
        own: NodeId,
    },
    /// The identity file is of a later version, or damaged.
    #[error("identity file {} is unusable: {reason}", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Identity without log: starting would forget votes.
    #[error(
        "the log of node {node} is gone while its identity is there; starting would forget votes: \
         restore the directory, or wipe it and replace its replicas"
    )]
    LogGone {
        /// The node.
        node: NodeId,
    },
    /// Syncs that lied: what was acknowledged is gone, and votes may be.
    #[error(
        "the log lost entries that this node had acknowledged: its disk did not keep what it said \
         it had synced ({what}); wipe the directory, start with --rejoin and replace its replicas"
    )]
    LogLost {
        /// Whose, and how much.
        what: String,
    },
    /// Peers would call somewhere else.
    #[error(
        "the cluster knows node {node} at {known}, this process was started at {own}: start it \
         there (--listen or --advertise); two processes with one node's data must never run"
    )]
    Moved {
        /// The node.
        node: NodeId,
        /// In the map.
        known: String,
        /// As configured.
        own: String,
    },
    /// An empty directory, but the cluster already exists.
    #[error(
        "node {peer} already belongs to cluster {cluster} and this data directory is empty: a \
         wiped node cannot come back under its old number"
    )]
    Wiped {
        /// Who says so.
        peer: NodeId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// A peer was started with other flags.
    #[error("node {peer} does not form a cluster with this node: {reason}")]
    Objection {
        /// The peer.
        peer: NodeId,
        /// Its reason.
        reason: String,
    },
    /// First start without peers.
    #[error("data directory is empty and no peers are given")]
    NoPeers,
    /// The address is taken, or is not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file operation failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The log does not open, or broke.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The store does not open, or broke.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The node had to stop itself.
    #[error("node stopped itself: {0}")]
    Poisoned(String),
}
