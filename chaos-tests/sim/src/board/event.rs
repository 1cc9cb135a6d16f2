//! What happens, as far as somebody wants to know.

use std::fmt;

use platbook_protocol::{NodeId, ReplicaId, ShardId};

/// A replica: shard and number.
pub(crate) type Who = (ShardId, ReplicaId);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A node starts, for the `life`-th time.
    Starts { node: NodeId, life: u32 },
    /// A node ended by itself.
    Ends { node: NodeId, why: String },
    /// A node was killed, or lost power.
    Dies { node: NodeId, power: bool },
    /// A replica leads, with a log up to `last`.
    Leads { who: Who, term: u64, last: u64 },
    /// A replica's log takes an entry.
    Appends { who: Who, term: u64, index: u64, digest: u64 },
    /// A replica's log is durable up to `index`.
    Synced { who: Who, index: u64 },
    /// A replica applies an entry.
    Applies { who: Who, term: u64, index: u64, digest: u64 },
    /// A replica took over a state.
    Installs { who: Who, index: u64 },
    /// A disk was asked for something.
    Disk { node: NodeId, what: &'static str, file: String, offset: u64, bytes: u64, ok: bool },
    /// A fault is done, or undone.
    Fault { what: String },
    /// A client was told something.
    Told { client: String, what: String },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Starts { node, life } => write!(f, "node {node} starts, life {life}"),
            Event::Ends { node, why } => write!(f, "node {node} ends: {why}"),
            Event::Dies { node, power: true } => write!(f, "node {node} loses power"),
            Event::Dies { node, power: false } => write!(f, "node {node} is killed"),
            Event::Leads { who: (shard, replica), term, last } => {
                write!(f, "shard {shard} replica {replica} leads term {term}, log to {last}")
            }
            Event::Appends { who: (shard, replica), term, index, digest } => {
                write!(f, "shard {shard} replica {replica} appends {term}.{index} {digest:016x}")
            }
            Event::Synced { who: (shard, replica), index } => {
                write!(f, "shard {shard} replica {replica} synced {index}")
            }
            Event::Applies { who: (shard, replica), term, index, digest } => {
                write!(f, "shard {shard} replica {replica} applies {term}.{index} {digest:016x}")
            }
            Event::Installs { who: (shard, replica), index } => {
                write!(f, "shard {shard} replica {replica} installs {index}")
            }
            Event::Disk { node, what, file, offset, bytes, ok } => {
                let ok = if *ok { "" } else { " FAILS" };
                write!(f, "disk {node} {what} {file} {offset}+{bytes}{ok}")
            }
            Event::Fault { what } => write!(f, "fault {what}"),
            Event::Told { client, what } => write!(f, "{client}: {what}"),
        }
    }
}
