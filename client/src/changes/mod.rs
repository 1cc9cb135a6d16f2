//! Every change of the store, to anyone: present state first, then each change, without a gap and
//! without a repetition.
//!
//! Reading order: [`ChangesBuilder`], which changes and from where; [`Changes`], the stream;
//! [`Event`] and [`Change`], what it gives; `follower`, the proof that nothing is missing, pure;
//! `wire`, the lines, `binary`, the records; [`Mirror`], a copy that keeps itself right.

mod binary;
mod builder;
mod event;
mod filter;
mod follower;
mod mirror;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use self::builder::{ChangesBuilder, Start};
pub use self::event::{Change, Event, Facts, Passage, What};
pub use self::filter::Filter;
pub use self::follower::GapError;
pub use self::mirror::Mirror;
pub use self::stream::Changes;
