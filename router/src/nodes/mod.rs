//! How the router reaches storage nodes.
//!
//! 1. [`link`]: one HTTP/2 connection to one node, kept up by its own task.
//! 2. [`call`]: one request and its answer over a link, with the certainty of what a fault means.
//! 3. [`directory`]: the map, the leaders as far as known, and a link to every node.
//! 4. [`follow`]: keeps the directory up to date.
//! 5. [`leader`]: finds the leader of a shard and asks it; the one place that retries.

pub(crate) mod call;
pub(crate) mod directory;
pub(crate) mod follow;
pub(crate) mod leader;
pub(crate) mod link;

pub(crate) use directory::Directory;
pub(crate) use leader::{Leaders, OnTheWire};
