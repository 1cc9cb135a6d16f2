//! Node to node: one HTTP/2 connection a peer, shared by all groups; snapshots on their own.
//!
//! [`frame`] is the message format, [`link`] the calling side, [`serve`] the answering side,
//! [`snapshot`] the transfer of whole shards.

pub(crate) mod frame;
pub(crate) mod link;
pub(crate) mod serve;
pub(crate) mod snapshot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use platbook_protocol::NodeId;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use link::Link;

/// All links of this node, made when they are first asked for.
#[derive(Clone)]
pub(crate) struct Peers {
    directory: Directory,
    links: Arc<Mutex<HashMap<NodeId, Link>>>,
    /// Links that others hold to this node.
    incoming: Arc<Mutex<HashMap<NodeId, usize>>>,
    shutdown: CancellationToken,
}

impl Peers {
    pub(crate) fn new(directory: Directory, shutdown: CancellationToken) -> Peers {
        Peers { directory, links: Arc::default(), incoming: Arc::default(), shutdown }
    }

    /// The link to `node`; it connects in the background.
    pub(crate) fn link(&self, node: NodeId) -> Link {
        let mut links = self.links.lock().expect("no code panics while it holds this lock");
        let open = || Link::start(node, self.directory.clone(), self.shutdown.clone());
        links.entry(node).or_insert_with(open).clone()
    }

    /// Notes that `from` holds a link to this node, for as long as the result lives. Whoever was
    /// away and calls again can be called again, at once.
    pub(crate) fn on_incoming(&self, from: NodeId) -> Incoming {
        *self.incoming().entry(from).or_default() += 1;
        self.link(from).retry_now();
        Incoming { peers: self.clone(), from }
    }

    fn incoming(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.incoming.lock().expect("no code panics while it holds this lock")
    }

    /// Whether this node and a majority of `nodes`, itself included, reach each other: without
    /// that it could not be elected, or its answers would not be heard. Connects to those it does
    /// not know yet.
    pub(crate) fn reach_majority(&self, own: NodeId, nodes: impl Iterator<Item = NodeId>) -> bool {
        let reached = |node| self.link(node).stands() && self.incoming().contains_key(&node);
        let reached: Vec<bool> = nodes.map(|node| node == own || reached(node)).collect();
        reached.iter().filter(|reached| **reached).count() * 2 > reached.len()
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// A link that a peer holds to this node.
pub(crate) struct Incoming {
    peers: Peers,
    from: NodeId,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut incoming = self.peers.incoming();
        match incoming.get_mut(&self.from) {
            Some(held) if *held > 1 => *held -= 1,
            Some(_) | None => drop(incoming.remove(&self.from)),
        }
    }
}
