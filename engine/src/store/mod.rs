//! The state store: one RocksDB a node, for all its shards.
//!
//! A shard's state is built by applying log entries, each batch of them atomically with the
//! position it ends at. Nothing is synced: after a crash the log is replayed from
//! [`ShardStore::flushed`], so the log must keep everything behind it.
//!
//! Reading order:
//! 1. `key`, `layout`, `value/`: the bytes on disk.
//! 2. `apply/`: what an entry does.
//! 3. `shard`: one shard's reads; `scan`: a ZIP, streamed; `changes`: what entries changed;
//!    `phase`: all rows for a reader of changes, resumable.
//! 4. `stream`, `snapshot`, `install`: a whole shard, from one replica to another.
//! 5. `db`: the one module that knows RocksDB.

mod apply;
mod changes;
mod config;
mod db;
#[doc(hidden)]
pub mod fuzz;
mod inspect;
mod install;
mod key;
mod layout;
mod lists;
mod node;
mod phase;
mod scan;
mod scrub;
mod shard;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;
mod value;

use bytes::Bytes;
use platbook_protocol::op::OpOutcome;
use platbook_protocol::{Revision, Seq, TimeMs};

pub use apply::{QUARANTINE_BYTES_MAX, QUARANTINE_COUNT_MAX};
pub use config::StoreConfig;
pub use db::DatabaseError;
pub use inspect::{InspectedId, InspectedKey, Inspection, KeyTotals};
pub use install::{Installed, Installer};
pub use layout::LayoutError;
pub use lists::{HeldBody, Unsettled};
pub use node::{Counters, Store};
pub use phase::{PhaseContent, PhasePosition, PhaseRow, PhaseRows, PhaseStart, StatePhase};
pub use scan::{Keep, RowScan};
pub use scrub::Scrubbed;
pub use shard::ShardStore;
pub use snapshot::ShardSnapshot;
pub use stream::StreamError;
pub use value::{Change, Effects};

use crate::system::SystemAnswer;

/// A place in a shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// A committed log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands; entries are applied without a gap.
    pub position: Position,
    /// What it says.
    pub body: EntryBody,
}

/// What a log entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A Raft membership, opaque to the store.
    Membership(Bytes),
    /// A payload made by [`crate::command`].
    Command(Bytes),
}

/// Answer to one applied [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// To a blank or membership entry.
    Blank,
    /// One outcome an operation.
    Ops(Vec<OpOutcome>),
    /// To a system command.
    System(SystemAnswer),
}

/// Where a shard's state stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// Last applied entry.
    pub position: Option<Position>,
    /// Last membership entry, with its place in the log.
    pub membership: Option<(Option<Position>, Bytes)>,
    /// Last change.
    pub seq: Seq,
    /// Writes below it to anything but a live row are refused.
    pub horizon: Revision,
    /// Greatest revision of a collected register.
    pub floor: Revision,
    /// Messages for unknown ids queued before it are too old.
    pub register_horizon: TimeMs,
    /// Messages in the quarantine.
    pub quarantine_count: u64,
    /// Bytes of their ids and records.
    pub quarantine_bytes: u64,
    /// Newest dictionary (system shard); 0 before the first.
    pub dictionary: u32,
}
