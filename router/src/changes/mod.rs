//! `GET /v1/changes`: the changes of all shards, or of some, as one stream.
//!
//! 1. [`query`]: what is asked for, checked.
//! 2. [`select`]: which changes that means, a pure decision.
//! 3. [`source`]: one shard's changes, from whichever replica has them.
//! 4. [`lookout`]: waits for all readers of a shard to whom nothing happens.
//! 5. [`position`]: where the reader stands, and the tokens that say so.
//! 6. [`encode`]: events and control lines as bytes, [`binary`]: changes as records.
//! 7. [`session`]: one reader, from its first line to its last.
//!
//! Nothing is kept for a reader between requests: its token says it all, to any router.

mod binary;
pub(crate) mod encode;
pub(crate) mod lookout;
pub(crate) mod position;
pub(crate) mod query;
pub(crate) mod select;
pub(crate) mod session;
pub(crate) mod source;
