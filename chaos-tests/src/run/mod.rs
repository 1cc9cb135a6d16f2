//! Fault after fault, drawn from a seed, while clients work; then everything heals, and what they
//! were told is judged.
//!
//! [`target`]: the cluster, our own or one that runs already. [`fault`]: what is done, and undone;
//! [`injector`]: how, with [`disks`], [`clocks`] and [`packets`]. [`feed`] and `follower`: who uses
//! the store besides the clients of the crate. [`round`](mod@round): the run. [`report`]: what it
//! was and what came of it; [`page`]: that for people.

pub mod clocks;
pub mod disks;
pub mod fault;
pub mod feed;
mod follower;
pub mod injector;
pub mod packets;
pub mod page;
pub mod report;
pub mod round;
pub mod target;

pub use clocks::Clocks;
pub use disks::Disks;
pub use fault::Fault;
pub use feed::Feed;
pub use packets::Packets;
pub use report::Report;
pub use round::{Plan, run};
pub use target::{Own, Running, Target};
