//! A storage node: replicas of shards, Raft between them, and the RPCs that routers use.
//!
//! Reading order:
//! 1. [`config`], [`error`]: what an operator says and reads.
//! 2. `run`, `node`: the life of a node, from its data directory to its drain.
//! 3. `identity`, `directory`, `system`: whose disk this is, where the others are, how a cluster
//!    is formed and how its map is followed.
//! 4. `raft`: openraft over the engine and the links; `peer`: the links.
//! 5. `shard`: one shard as this node serves it; `replicas`: which of them live here.
//! 6. `rpc`: what routers and nodes ask; `server`: the port.
//! 7. `net`, `blocking`, `witness`: what a simulation has in other forms, or wants to know.
//! 8. `clock`, `health`, `pace`, `scrub`: the wall clock; disk, log and clocks being watched;
//!    whether the disk keeps up; what is on disk read again, slowly.
//! 9. `objections`: what callers are refused for, and how often that is said.
//!
//! This crate does not know HTTP's user side, JSON bodies or queues.

mod blocking;
mod clock;
pub mod config;
mod directory;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
mod health;
mod identity;
mod metrics;
mod net;
mod node;
mod objections;
mod pace;
mod peer;
mod raft;
mod replicas;
mod rpc;
mod run;
mod scrub;
mod server;
mod shard;
mod system;
mod witness;

pub use clock::Clock;
pub use config::NodeConfig;
pub use error::NodeError;
pub use run::{Seams, Simulated, run, run_in};
pub use witness::Witness;
