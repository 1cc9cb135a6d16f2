//! A leader whose disk is slow, or answers no more, is no use as one.

mod harness;

use std::time::{Duration, Instant};

use harness::Cluster;
use platbook_protocol::{NodeId, Zip};

const ZIP: Zip = Zip::Code(*b"98103");
/// As good as for ever, but the test ends.
const HANGS_FOR: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn leaders_leave_a_disk_that_is_slow_or_does_not_answer() {
    let mut cluster = Cluster::start_powered(3, 2).await;
    cluster.ready().await;
    cluster.put("before", ZIP, b"{}").await;

    let slow = leader(&mut cluster).await;
    cluster.syncs_take(slow, Duration::from_millis(500));
    let took = cluster.others_lead(slow).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    cluster.put("while-slow", ZIP, b"{}").await;
    cluster.syncs_take(slow, Duration::from_millis(1));
    cluster.until(slow, "platbook_node_disk_slow", |slow| slow == 0.0).await;

    let hangs = leader(&mut cluster).await;
    cluster.syncs_take(hangs, HANGS_FOR);
    let took = cluster.others_lead(hangs).await;
    assert!(took < HANGS_FOR, "{took:?}");
    cluster.syncs_take(hangs, Duration::from_millis(1));
    cluster.until(hangs, "platbook_node_disk_slow", |slow| slow == 0.0).await;
    cluster.stop_all().await;
}

async fn leader(cluster: &mut Cluster) -> NodeId {
    let shard = cluster.shard_of(ZIP);
    cluster.placement(shard).await.0
}

impl Cluster {
    /// Writes until the others lead everything; returns how long that took. The node itself may not
    /// know: it cannot keep the vote that tells it.
    async fn others_lead(&mut self, node: NodeId) -> Duration {
        let from = Instant::now();
        let mut number = 0;
        loop {
            let mut led = 0.0;
            for other in (1..=3).map(NodeId).filter(|other| *other != node) {
                led += self.metric(other, "platbook_node_replicas_leading").await;
            }
            if led == self.shards().len() as f64 {
                return from.elapsed();
            }
            assert!(from.elapsed() < Duration::from_secs(30), "they lead {led} shards");
            // Without writes nobody would notice.
            let id = format!("{node}-{number}");
            let write = self.put(&id, ZIP, b"{}");
            let _ = tokio::time::timeout(Duration::from_millis(300), write).await;
            number += 1;
        }
    }
}
