//! The map, the leaders as far as known, and a link to every node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use platbook_protocol::map::Map;
use platbook_protocol::rpc::MapAnswer;
use platbook_protocol::{NodeId, ShardId, Slot};
use tokio::sync::{Notify, watch};
use tracing::{error, info};

use super::link::Link;

/// What the router knows of the cluster. Reads take no lock.
pub(crate) struct Directory {
    seeds: Vec<Arc<str>>,
    map: ArcSwapOption<Map>,
    /// Leaders by shard: hints, corrected by whoever is asked.
    leaders: ArcSwap<HashMap<ShardId, NodeId>>,
    links: ArcSwap<HashMap<Arc<str>, Link>>,
    dictionary: AtomicU32,
    formed: watch::Sender<bool>,
    outdated: Notify,
}

impl Directory {
    /// A directory that knows nothing but the seeds' addresses.
    pub(crate) fn new(seeds: &[String]) -> Directory {
        let seeds: Vec<Arc<str>> = seeds.iter().map(|seed| Arc::from(seed.as_str())).collect();
        let links = seeds.iter().map(|seed| (seed.clone(), Link::start(seed))).collect();
        Directory {
            seeds,
            map: ArcSwapOption::empty(),
            leaders: ArcSwap::default(),
            links: ArcSwap::from_pointee(links),
            dictionary: AtomicU32::new(0),
            formed: watch::channel(false).0,
            outdated: Notify::new(),
        }
    }

    /// The map; `None` until a node told it.
    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        self.map.load_full()
    }

    /// The shard of a slot, by the map as it is now.
    pub(crate) fn shard_of(&self, slot: Slot) -> Option<ShardId> {
        self.map.load().as_ref().and_then(|map| map.shard_of(slot)).map(|shard| shard.id)
    }

    /// Waits for the first map.
    pub(crate) async fn formed(&self) {
        let mut formed = self.formed.subscribe();
        // The sender lives in `self`, so the wait ends only with a map.
        let _seen = formed.wait_for(|formed| *formed).await;
    }

    /// The newest dictionary's id; 0 before one is trained.
    pub(crate) fn dictionary(&self) -> u32 {
        self.dictionary.load(Ordering::Relaxed)
    }

    /// Notes the newest dictionary's id; ids only grow.
    pub(crate) fn learn_dictionary(&self, id: u32) {
        self.dictionary.fetch_max(id, Ordering::Relaxed);
    }

    /// Who leads `shard`, as far as known.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders.load().get(&shard).copied()
    }

    /// Notes who leads `shard`; `None` forgets.
    pub(crate) fn set_leader(&self, shard: ShardId, leader: Option<NodeId>) {
        if self.leader(shard) == leader {
            return;
        }
        self.leaders.rcu(|known| {
            let mut leaders = HashMap::clone(known);
            match leader {
                Some(node) => leaders.insert(shard, node),
                None => leaders.remove(&shard),
            };
            leaders
        });
    }

    /// The link to a node of the map.
    pub(crate) fn link(&self, node: NodeId) -> Option<Link> {
        let map = self.map.load();
        let address = &map.as_ref()?.node(node)?.address;
        self.links.load().get(address.as_str()).cloned()
    }

    /// A link to every address known, the map's nodes first.
    pub(crate) fn links(&self) -> Vec<Link> {
        let links = self.links.load();
        let mut found: Vec<Link> = links.values().cloned().collect();
        found.sort_by(|a, b| a.address().cmp(b.address()));
        found
    }

    /// Asks the follower to fetch the map at once: a node spoke of a newer one.
    pub(crate) fn mark_outdated(&self) {
        self.outdated.notify_one();
    }

    /// Waits until somebody called [`Directory::mark_outdated`].
    pub(crate) async fn outdated(&self) {
        self.outdated.notified().await;
    }

    /// Takes in what a node said. Returns false where it speaks of another cluster.
    pub(crate) fn learn(&self, answer: MapAnswer) -> bool {
        let Some(map) = answer.map else { return true };
        let known = self.map();
        if known.as_ref().is_some_and(|known| known.cluster != map.cluster) {
            error!(cluster = %map.cluster, "a node belongs to another cluster");
            return false;
        }
        self.learn_dictionary(answer.dictionary);
        for (shard, leader) in answer.leaders {
            // A node that knows no leader does not refute what an answer proved.
            if self.leader(shard).is_none() || leader.is_some() {
                self.set_leader(shard, leader);
            }
        }
        let order = |map: &Map| (map.incarnation, map.epoch);
        if known.is_none_or(|known| order(&known) < order(&map)) {
            info!(cluster = %map.cluster, epoch = map.epoch, shards = map.shards.len(), "map");
            self.relink(&map);
            self.map.store(Some(Arc::new(map)));
            self.formed.send_replace(true);
        }
        true
    }

    /// One link for every node of the map; the seeds only serve as long as there is no map.
    fn relink(&self, map: &Map) {
        let links = self.links.load();
        let wanted = map.nodes.iter().map(|node| Arc::from(node.address.as_str()));
        // Seeds are kept: should every node move, they are the way back in.
        let relinked = wanted
            .chain(self.seeds.iter().cloned())
            .map(|address: Arc<str>| {
                let link = links.get(&address).cloned().unwrap_or_else(|| Link::start(&address));
                (address, link)
            })
            .collect();
        self.links.store(Arc::new(relinked));
    }
}
