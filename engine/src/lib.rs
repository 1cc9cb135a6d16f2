//! What a node keeps: the state of its shards.
//!
//! Reading order:
//! 1. [`command`]: the payload of a log entry; [`system`]: what the system shard is told.
//! 2. [`store`]: the state that applying entries builds, and everything read from it.
//! 3. [`error`]: why the store stops.
//! 4. [`log`]: the one log that all groups of a node share; it knows nothing of the store.
//! 5. [`follow`]: a shard's changes for their readers, out of the store and the log.

pub mod command;
pub mod error;
pub mod follow;
pub mod log;
pub mod store;
pub mod system;
