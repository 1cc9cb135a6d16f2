//! The map: which shard lives where. Kept by the system shard, cached by everybody.

use bincode::{Decode, Encode};

use crate::{NodeId, ReplicaId, ShardId, Slot, SlotRange};

/// A random number drawn when a cluster is formed; everything that leaves the cluster carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ClusterId(pub u128);

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One storage node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// `host:port` under which peers and routers reach it.
    pub address: String,
    /// The zone it stands in; empty where zones are not used.
    pub zone: String,
}

/// One placement of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Replica {
    /// The Raft id.
    pub id: ReplicaId,
    /// Where it lives.
    pub node: NodeId,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Shard {
    /// Its number.
    pub id: ShardId,
    /// The slots it owns; the system shard owns none.
    pub slots: Option<SlotRange>,
    /// Its placements. Voters and learners are Raft's business, not the map's.
    pub replicas: Vec<Replica>,
}

/// The whole map.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Map {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// Moves when history is not continued, for instance after a restore.
    pub incarnation: u64,
    /// Grows with every change of the map.
    pub epoch: u64,
    /// Next replica id to give away; ids are never reused.
    pub next_replica: ReplicaId,
    /// Ordered by id.
    pub nodes: Vec<Node>,
    /// Ordered by id; the first is the system shard.
    pub shards: Vec<Shard>,
}

/// Replicas of each shard, where there are that many nodes.
pub const REPLICAS_WANTED: usize = 3;
/// Replicas of the system shard, where there are that many nodes.
pub const SYSTEM_REPLICAS_MAX: usize = 5;

impl Map {
    /// The map of a new cluster: `shard_count` equal slot ranges, replicas spread over `nodes`
    /// so that each node is first in line for its share of leaderships.
    pub fn initial(cluster: ClusterId, nodes: Vec<Node>, shard_count: u32) -> Map {
        assert!(!nodes.is_empty(), "a cluster has at least one node");
        let mut map = Map {
            cluster,
            incarnation: 1,
            epoch: 1,
            next_replica: ReplicaId(1),
            nodes,
            shards: Vec::new(),
        };
        map.place(ShardId::SYSTEM, None, SYSTEM_REPLICAS_MAX, 0);
        for (i, slots) in SlotRange::partition(shard_count).into_iter().enumerate() {
            map.place(ShardId(i as u32 + 1), Some(slots), REPLICAS_WANTED, i);
        }
        map
    }

    fn place(&mut self, id: ShardId, slots: Option<SlotRange>, wanted: usize, turn: usize) {
        let mut replicas: Vec<Replica> = Vec::new();
        let count = self.nodes.len();
        let ring: Vec<&Node> = (0..count).map(|i| &self.nodes[(turn + i) % count]).collect();
        let zone_of = |node: NodeId| ring.iter().find(|n| n.id == node).map(|n| &n.zone);
        // First one node a zone, in ring order, then whatever is left.
        for distinct_zones in [true, false] {
            for node in &ring {
                let taken = replicas.iter().any(|r| r.node == node.id);
                let zone_taken = replicas.iter().any(|r| zone_of(r.node) == Some(&node.zone));
                if replicas.len() < wanted && !taken && !(distinct_zones && zone_taken) {
                    replicas.push(Replica { id: self.next_replica, node: node.id });
                    self.next_replica = ReplicaId(self.next_replica.0 + 1);
                }
            }
        }
        self.shards.push(Shard { id, slots, replicas });
    }

    /// The shard that owns `slot`.
    pub fn shard_of(&self, slot: Slot) -> Option<&Shard> {
        self.shards.iter().find(|s| s.slots.is_some_and(|range| range.contains(slot)))
    }

    /// The shard with this number.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.iter().find(|s| s.id == id)
    }

    /// The node with this name.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|n| n.id == id)
    }

    /// Where a replica lives.
    pub fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<&Node> {
        let found = self.shard(shard)?.replicas.iter().find(|r| r.id == replica)?;
        self.node(found.node)
    }

    /// The replica of `shard` that lives on `node`.
    pub fn replica_on(&self, shard: ShardId, node: NodeId) -> Option<Replica> {
        self.shard(shard)?.replicas.iter().copied().find(|r| r.node == node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(zones: &[&str]) -> Vec<Node> {
        let node = |(i, zone): (usize, &&str)| Node {
            id: NodeId(i as u64 + 1),
            address: format!("127.0.0.1:{}", 7000 + i),
            zone: (*zone).to_string(),
        };
        zones.iter().enumerate().map(node).collect()
    }

    #[test]
    fn replicas_of_a_shard_stand_in_different_zones() {
        let map = Map::initial(ClusterId(7), nodes(&["a", "a", "b", "b", "c", "c"]), 16);
        for shard in &map.shards[1..] {
            let mut zones: Vec<&str> = shard
                .replicas
                .iter()
                .map(|r| map.node(r.node).expect("placed on a known node").zone.as_str())
                .collect();
            zones.sort_unstable();
            assert_eq!(zones, ["a", "b", "c"], "shard {}", shard.id);
        }
    }

    #[test]
    fn without_zones_every_node_is_first_for_its_share() {
        let map = Map::initial(ClusterId(7), nodes(&["", "", ""]), 15);
        for node in &map.nodes {
            let firsts = map.shards[1..].iter().filter(|s| s.replicas[0].node == node.id).count();
            assert_eq!(firsts, 5);
        }
        assert!(map.shards.iter().all(|s| s.replicas.len() == 3));
    }

    #[test]
    fn replica_ids_are_never_shared() {
        let map = Map::initial(ClusterId(7), nodes(&["", "", ""]), 16);
        let mut ids: Vec<u64> =
            map.shards.iter().flat_map(|s| &s.replicas).map(|r| r.id.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=51).collect::<Vec<u64>>());
        assert_eq!(map.next_replica, ReplicaId(52));
    }
}
