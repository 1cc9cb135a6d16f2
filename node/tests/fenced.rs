//! A fault of one replica: it is fenced, the node's other replicas and the other nodes go on, and
//! it is rebuilt as a fresh one.

mod harness;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use harness::Cluster;
use platbook_protocol::rpc::ReplaceReplica;
use platbook_protocol::{NodeId, ReplicaId, ShardId, Zip};
use serde_json::json;

const ZIP: Zip = Zip::Code(*b"98103");
const MARK: &[u8] = b"a body that can be found in the log";
/// Longest wait for an election, or for a replica to meet its fault.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_read_its_log_is_fenced_and_rebuilt_while_others_lead() {
    // A tail of 19 MiB, so that what was written first is on disk alone.
    let settings = json!({ "memory-max": 128 << 20, "log-bytes-max": 1 << 30 });
    let mut cluster = Cluster::start_as(3, 2, settings).await;
    cluster.ready().await;
    let shard = cluster.shard_of(ZIP);
    let (leader, replicas) = cluster.placement(shard).await;
    let away = replicas.iter().map(|(_, node)| *node).find(|node| *node != leader);
    let away = away.expect("three replicas");
    cluster.stop(away).await;
    cluster.put("first", ZIP, MARK).await;
    let frame = vec![7; 512 << 10];
    for i in 0..60 {
        cluster.put(&format!("listing-{i}"), ZIP, &frame).await;
    }
    let (leader_now, _) = cluster.placement(shard).await;
    assert_eq!(leader_now, leader, "the replica that is damaged must be the one that sends");
    let damaged = damage(&cluster, leader);
    assert!(damaged > 0, "the body is in the log");

    // Who comes back needs what the leader can no longer read.
    cluster.start_node(away);
    let (old, _) = *replicas.iter().find(|(_, node)| *node == leader).expect("in the map");
    let fault = fault_of(&mut cluster, leader, shard).await;
    assert!(fault.contains("log"), "{fault}");
    assert_eq!(cluster.metric(leader, "platbook_node_replicas_fenced").await, 1.0);
    let unready = cluster.exchange(leader, "GET", "/readyz", Vec::new()).await;
    let (status, reason) = unready.expect("it answers");
    let reason = String::from_utf8_lossy(&reason).into_owned();
    assert!(status == 503 && reason.contains("fenced"), "{status} {reason}");

    // The shard goes on, and so does the node's replica of the other shard.
    cluster.put("after", ZIP, b"{}").await;
    let other = cluster.shards().into_iter().find(|id| *id != shard && *id != ShardId::SYSTEM);
    let other = other.expect("two shards");
    assert_eq!(cluster.standing_of(leader, other).await.1, None);

    let (next, _) = cluster.placement(shard).await;
    assert_ne!(next, leader);
    let request = ReplaceReplica { shard, replica: old, on: leader };
    // The leadership may move meanwhile: asked again, it goes on where it was.
    let fresh: ReplicaId = cluster.call_leader(shard, "/rpc/replace-replica", &request).await;
    assert!(fresh > old);
    assert_eq!(cluster.standing_of(leader, shard).await.1, None);
    cluster.same_content_of(shard, 3).await;
    cluster.ready().await;
    cluster.stop_all().await;
}

/// Overwrites the marked body wherever the node's log has it; returns how often.
fn damage(cluster: &Cluster, node: NodeId) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(cluster.path(node).join("log")).expect("a log") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("it can be read");
        let file = std::fs::File::options().write(true).open(&path).expect("it can be written");
        let found = bytes.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
        for (at, _) in found {
            file.write_all_at(b"X", at as u64).expect("it can be written");
            damaged += 1;
        }
    }
    damaged
}

/// Waits until the node's replica has a fault.
async fn fault_of(cluster: &mut Cluster, node: NodeId, shard: ShardId) -> String {
    let fenced = async {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        loop {
            if let (role, Some(fault)) = cluster.standing_of(node, shard).await {
                assert_eq!(role, "fenced");
                return fault;
            }
            poll.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, fenced).await.expect("the replica meets its fault")
}
