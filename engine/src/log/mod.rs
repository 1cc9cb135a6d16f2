//! The shared log: one segmented log a node, for the Raft groups of all its shards, votes included.
//!
//! Everything that must survive a power loss before anybody may rely on it goes through here, and
//! one fdatasync a round covers all groups. The log knows neither Raft nor what it carries: groups
//! are named by replica, payloads are bytes.
//!
//! Reading order:
//! 1. [`config`], [`error`], [`files`]: limits, what may go wrong, the seam to the disk.
//! 2. [`layout`]: the bytes of rounds and records; [`event`]: what a record does to its group, and
//!    the footer that sums a segment up; [`index`]: the fold of all events of one group.
//! 3. [`group`], [`tail`], [`read`]: the handle that a Raft group works with, and its records.
//! 4. [`queue`], [`writer`], [`segment`], [`spare`]: from submitted work to synced rounds.
//! 5. [`scan`], [`recover`], [`mark`]: from bytes back to state, and what is refused.
//! 6. [`shared`], [`collect`], [`metrics`]: the whole, freeing space, and what can be observed.
//! 7. [`inspect`](fn@inspect): a closed log, for people.
//! 8. [`faults`]: files in memory that lose power, tear, lie and fail, for tests and simulation.
//!
//! The byte layout is described in `docs/on-disk.md`.

mod collect;
pub mod config;
pub mod error;
mod event;
pub mod faults;
pub mod files;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod index;
mod inspect;
mod layout;
mod mark;
mod metrics;
mod queue;
mod read;
mod recover;
mod scan;
mod scrub;
mod segment;
mod shared;
mod spare;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use collect::{Collected, HeldBack};
pub use config::{LogConfig, WriterKind};
pub use error::LogError;
pub use files::{File, Files, OsFiles};
pub use group::{EntryId, Flushed, GroupLog, GroupState, Record};
pub use inspect::{InspectedLog, InspectedRecord, LogEnd, inspect};
pub use metrics::LogCounters;
pub use recover::Recovery;
pub use shared::SharedLog;
