//! Raft by openraft, which is imported nowhere else.
//!
//! [`group`] is what the rest of the node sees: one replica of one shard; [`appends`] is its end of
//! its leader's stream. Below it, [`types`] and
//! [`wire`] fix ids and bytes, [`log`] and [`machine`] are openraft's storage over the engine,
//! [`network`] its transport over the links, [`held`] what tells a replica that its disk lied.

mod appends;
mod group;
mod groups;
mod held;
mod log;
mod machine;
mod network;
#[cfg(test)]
mod tests;
mod types;
pub(crate) mod wire;

pub(crate) use group::{Group, Pending, Role, Timing};
pub(crate) use groups::Groups;
