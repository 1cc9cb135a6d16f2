//! The router's HTTP API against nodes that run the real rules in memory.
//!
//! [`state`] is the cluster: registers and rows over maps. [`node`] serves it under the protocol's
//! paths and does what a test tells it to do wrong. [`client`] asks like a user.

mod client;
mod faults;
mod node;
mod reads;
mod state;
mod writes;
