//! What routers and other nodes ask of this node.
//!
//! [`service`] reads requests and writes answers, [`data`] serves shards, [`scan`] streams a ZIP
//! or a shard, [`follow`] tells changes, and by [`trimming`] in time that some will go,
//! [`control`] is about the cluster itself, [`client`] is the calling side between nodes.

pub(crate) mod client;
mod control;
mod data;
mod follow;
mod scan;
mod service;
mod trimming;

pub(crate) use service::Service;
