//! The words of Platbook: domain types, the register's rule, messages and codecs. No I/O.
//!
//! Reading order:
//! 1. [`id`], [`zip`], [`slot`]: names of things and where they are placed.
//! 2. [`register`]: what is decided about one id; [`row`]: what one row accepts.
//! 3. [`op`]: the operations that a shard applies, and their answers; [`codec`]: their bytes.
//! 4. [`coordination`]: carrying one message through; [`read_by_id`]: reading one listing.
//! 5. [`map`]: which shard lives where.
//! 6. [`listing`]: from raw JSON to what the store moves; [`frame`]: compressed bodies.
//! 7. [`token`]: where a reader of changes stands; [`records`]: its stream in binary.
//! 8. [`rpc`]: what routers and nodes say to each other; [`problem`]: every stable problem code.
//! 9. [`oracle`]: the register's rule once more, naively, for tests to compare with.

pub mod codec;
pub mod coordination;
pub mod follow;
pub mod frame;
pub mod id;
pub mod listing;
pub mod map;
pub mod op;
pub mod oracle;
#[doc(hidden)]
pub mod planted;
pub mod problem;
pub mod read_by_id;
pub mod records;
pub mod register;
pub mod row;
pub mod rpc;
pub mod slot;
pub mod token;
pub mod zip;

pub use id::{Digest, ListingId, NodeId, ReplicaId, Revision, Seq, ShardId, TimeMs};
pub use slot::{Slot, SlotRange};
pub use zip::Zip;
