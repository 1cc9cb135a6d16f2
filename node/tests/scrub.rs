//! What a disk has lost is found before it is needed: the node leads nothing any more, says so, and
//! is rebuilt.

mod harness;

use std::time::Duration;

use harness::Cluster;
use platbook_protocol::rpc::{GetMap, MapAnswer, ReplaceReplica};
use platbook_protocol::{NodeId, Zip};
use serde_json::json;

const ZIP: Zip = Zip::Code(*b"98103");
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_is_found_by_a_scrub_and_its_node_leads_nothing_until_it_is_rebuilt() {
    let mut cluster = Cluster::start_as(3, 1, json!({ "scrub-hours": 1 })).await;
    cluster.ready().await;
    for i in 0..200 {
        cluster.put(&format!("listing-{i}"), ZIP, &[i as u8; 3000]).await;
    }
    let shard = cluster.shard_of(ZIP);
    let (victim, replicas) = cluster.placement(shard).await;
    // A clean stop: everything is in tables, and nothing is replayed.
    cluster.stop(victim).await;
    assert!(damage(&cluster, victim) > 0, "there are tables");
    cluster.start_node(victim);
    cluster.until(victim, "platbook_node_damaged", |damaged| damaged == 1.0).await;
    cluster.until(victim, "platbook_node_replicas_leading", |leading| leading == 0.0).await;
    let unready = cluster.exchange(victim, "GET", "/readyz", Vec::new()).await;
    let (status, reason) = unready.expect("it answers");
    let reason = String::from_utf8_lossy(&reason).into_owned();
    assert!(status == 503 && reason.contains("damaged"), "{status} {reason}");

    // The others serve; the leadership does not come back by itself.
    cluster.put("after", ZIP, b"{}").await;
    assert_ne!(cluster.placement(shard).await.0, victim);

    // Rebuilt like a lost one.
    cluster.stop(victim).await;
    cluster.wipe(victim);
    cluster.rejoin(victim);
    cluster.until(victim, "platbook_node_replicas_missing", |missing| missing == 0.0).await;
    cluster.learns_the_map(victim).await;
    for id in cluster.shards() {
        let (_, replicas) = cluster.placement(id).await;
        let (replica, _) = *replicas.iter().find(|(_, node)| *node == victim).expect("placed");
        let request = ReplaceReplica { shard: id, replica, on: victim };
        let _: platbook_protocol::ReplicaId =
            cluster.call_leader(id, "/rpc/replace-replica", &request).await;
    }
    assert!(replicas.iter().any(|(_, node)| *node == victim));
    cluster.same_content_of(shard, 3).await;
    cluster.until(victim, "platbook_node_damaged", |damaged| damaged == 0.0).await;
    cluster.until(victim, "platbook_node_scrub_passes_total", |passes| passes >= 1.0).await;
    cluster.ready().await;
    cluster.stop_all().await;
}

impl Cluster {
    /// Waits until a node that came back with an empty disk has the map.
    async fn learns_the_map(&self, id: NodeId) {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
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

/// Flips a byte in the middle of every table of the node; returns how many tables.
fn damage(cluster: &Cluster, node: NodeId) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(cluster.path(node).join("db/db")).expect("a database") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("it can be read");
            let at = bytes.len() / 3;
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("it can be written");
            damaged += 1;
        }
    }
    damaged
}
