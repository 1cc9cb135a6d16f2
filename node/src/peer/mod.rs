//! Node to node: one HTTP/2 connection a peer, shared by all groups; snapshots on their own.
//!
//! [`frame`] is the message format, [`link`] the calling side, [`serve`] the answering side,
//! [`snapshot`] the transfer of whole shards.

pub(crate) mod frame;
pub(crate) mod link;
pub(crate) mod serve;
pub(crate) mod snapshot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use platbook_protocol::NodeId;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use link::Link;

/// All links of this node, made when they are first asked for.
#[derive(Clone)]
pub(crate) struct Peers {
    directory: Directory,
    links: Arc<Mutex<HashMap<NodeId, Link>>>,
    shutdown: CancellationToken,
}

impl Peers {
    pub(crate) fn new(directory: Directory, shutdown: CancellationToken) -> Peers {
        Peers { directory, links: Arc::default(), shutdown }
    }

    /// The link to `node`; it connects in the background.
    pub(crate) fn link(&self, node: NodeId) -> Link {
        let mut links = self.links.lock().expect("no code panics while it holds this lock");
        let open = || Link::start(node, self.directory.clone(), self.shutdown.clone());
        links.entry(node).or_insert_with(open).clone()
    }

    /// Whether this node can reach a majority of `nodes`, itself included: without one it could not
    /// be elected. Connects to those it does not know yet.
    pub(crate) fn reach_majority(&self, own: NodeId, nodes: impl Iterator<Item = NodeId>) -> bool {
        let reached: Vec<bool> =
            nodes.map(|node| node == own || self.link(node).stands()).collect();
        reached.iter().filter(|reached| **reached).count() * 2 > reached.len()
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }
}
