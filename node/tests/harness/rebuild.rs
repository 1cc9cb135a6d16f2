//! A node that comes back without its disk.

use platbook_protocol::rpc::{GetMap, MapAnswer, ReplaceReplica};
use platbook_protocol::{NodeId, ReplicaId, ShardId};

use super::{Cluster, PATIENCE, POLL};

impl Cluster {
    /// Wipes a stopped node, starts it, and replaces its replicas by new ones.
    pub(crate) async fn rebuild(&mut self, lost: NodeId) {
        self.wipe(lost);
        self.power.wipe(lost);
        self.rejoin(lost);
        self.until(lost, "platbook_node_replicas_missing", |missing| missing == 0.0).await;
        self.learns_the_map(lost).await;
        for shard in self.shards() {
            let (_, replicas) = self.placement(shard).await;
            let (replica, _) = *replicas.iter().find(|(_, node)| *node == lost).expect("placed");
            let request = ReplaceReplica { shard, replica, on: lost };
            let _: ReplicaId = self.call_leader(shard, "/rpc/replace-replica", &request).await;
        }
    }

    /// Waits until another node leads the shard.
    pub(crate) async fn leads_no_more(&mut self, node: NodeId, shard: ShardId) {
        let mut poll = tokio::time::interval(POLL);
        let moved = async {
            while self.placement(shard).await.0 == node {
                poll.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, moved).await.expect("another node leads");
    }

    /// Waits until a node that came back with an empty disk has the map.
    async fn learns_the_map(&self, id: NodeId) {
        let mut poll = tokio::time::interval(POLL);
        let ask = GetMap { known_epoch: 0, wait_ms: 0 };
        let learnt = async {
            loop {
                let answer: Result<MapAnswer, String> = self.try_call(id, "/rpc/map", &ask).await;
                if answer.is_ok_and(|answer| answer.map.is_some()) {
                    return;
                }
                poll.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, learnt).await.expect("the others tell the map");
    }
}
