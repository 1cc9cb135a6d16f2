//! The ingester: from the queue to the router, each message until it is durable or in quarantine,
//! and only then off the queue.
//!
//! ```text
//! pollers --(Pending)--> poster --(Settled)--> acker
//!    |                      |
//!    +-----(Refused)--------+---> quarantiner --(Settled)--> acker
//! ```
//!
//! Every arrow is a bounded channel, and what is between poll and delete takes its part of the
//! [`room`]: a router that is slow or away stops the polls, and the queue keeps the rest.
//!
//! Reading order:
//! 1. [`held`]: what is between poll and delete, with its newest handles; [`room`]: how much that
//!    may be. [`message`]: one message, and what its body says.
//!    [`applied`]: which pointed-to objects are known.
//! 2. [`poller`], [`poster`], [`quarantiner`], [`acker`]: the stages. [`verdict`]: what the
//!    router's answer means for a message.
//! 3. [`visibility`]: the one ticker that keeps held messages hidden. [`stats`], [`status`]:
//!    what is told about it all.
//! 4. [`ingester`]: puts it together, and drains it.

mod acker;
mod applied;
#[doc(hidden)]
pub mod fuzz;
mod held;
mod ingester;
mod message;
mod poller;
mod poster;
mod quarantiner;
mod room;
mod stats;
mod status;
mod verdict;
mod visibility;

pub use ingester::{Ingester, run};
