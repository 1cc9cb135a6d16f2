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

/// Callers of whom links are counted; members of a cluster are far fewer.
const INCOMING_MAX: usize = 4096;

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
    /// away and calls again can be called again, at once. A peer may know the first map before this
    /// node does, so whether it is a member is asked when it counts.
    pub(crate) fn on_incoming(&self, from: NodeId) -> Option<Incoming> {
        let mut incoming = self.incoming();
        if incoming.len() >= INCOMING_MAX && !incoming.contains_key(&from) {
            return None;
        }
        *incoming.entry(from).or_default() += 1;
        drop(incoming);
        let links = self.links.lock().expect("no code panics while it holds this lock");
        if let Some(link) = links.get(&from) {
            link.retry_now();
        }
        Some(Incoming { peers: self.clone(), from })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_of_peers_that_are_not_known_yet_count_for_as_long_as_they_are_held() {
        let own = NodeId(1);
        let peers = Peers::new(Directory::new(own), CancellationToken::new());
        let is_counted = || peers.incoming().contains_key(&NodeId(2));
        let first = peers.on_incoming(NodeId(2));
        let second = peers.on_incoming(NodeId(2));
        assert!(first.is_some() && second.is_some() && is_counted());
        drop(first);
        assert!(is_counted());
        drop(second);
        assert!(!is_counted());
        assert!(!peers.reach_majority(own, [own, NodeId(2)].into_iter()), "one way is not enough");
        assert!(peers.reach_majority(own, [own].into_iter()));
    }
}
