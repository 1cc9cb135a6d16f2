//! Nodes in one process, on loopback, with real disks: formation, proposals, reads, restart.

mod harness;

use std::time::Duration;

use harness::{Cluster, admit, now_ms, write_op};
use platbook_protocol::op::{OpList, OpOutcome};
use platbook_protocol::register::Decision;
use platbook_protocol::row::WriteOutcome;
use platbook_protocol::rpc::{
    Consistency, GetStatus, NodeStatus, Propose, Proposed, ReadRows, ReadZipState, ReplaceReplica,
    RowView, Scan, ZipState,
};
use platbook_protocol::{NodeId, ReplicaId, Revision, ShardId, Zip};

const ZIP: Zip = Zip::Code(*b"98103");

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_form_a_cluster_and_keep_what_they_acknowledge() {
    let mut cluster = Cluster::start(3, 4).await;
    cluster.ready().await;
    for i in 0..50 {
        cluster.put(&format!("listing-{i}"), ZIP, b"{\"a\":1}").await;
    }
    assert_eq!(cluster.zip_state(ZIP).await.count, 50);
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.ready().await;
    let state = cluster.zip_state(ZIP).await;
    assert_eq!((state.count, state.seq.0), (50, 50));
    assert_eq!(cluster.scan_ids(ZIP).await.len(), 50);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_purged_entries_changed_is_forgotten_with_them() {
    const WRITES: u64 = 120;
    let mut cluster = Cluster::start(1, 1).await;
    cluster.ready().await;
    // Incompressible or not: nobody below the edge looks. 60 MiB, where 16 MiB of log are kept.
    let frame = vec![7; 512 << 10];
    for i in 0..WRITES {
        cluster.put(&format!("listing-{i}"), ZIP, &frame).await;
    }
    let mut kept = WRITES;
    for _ in 0..20 {
        // A start looks at once how much log there is; what a run flushes is seen by the next.
        cluster.stop_all().await;
        kept = cluster.effects(NodeId(1));
        if kept <= WRITES / 2 {
            break;
        }
        cluster.start_all().await;
        cluster.ready().await;
        cluster.put("one-more", ZIP, b"{}").await;
    }
    assert!(kept <= WRITES / 2, "the effects of {kept} entries are still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_nodes_go_on_and_the_third_catches_up() {
    let mut cluster = Cluster::start(3, 2).await;
    cluster.ready().await;
    cluster.put("before", ZIP, b"{}").await;
    cluster.stop(NodeId(3)).await;
    for i in 0..20 {
        cluster.put(&format!("while-away-{i}"), ZIP, b"{}").await;
    }
    cluster.start_node(NodeId(3));
    cluster.ready().await;
    cluster.same_content().await;
    assert_eq!(cluster.zip_state(ZIP).await.count, 21);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_replaced_while_its_shard_serves() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.ready().await;
    for i in 0..20 {
        cluster.put(&format!("listing-{i}"), ZIP, b"{}").await;
    }
    let shard = ShardId(1);
    let (leader, replicas) = cluster.placement(shard).await;
    let (old, on) = replicas.into_iter().find(|(_, node)| *node != leader).expect("a follower");
    let request = ReplaceReplica { shard, replica: old, on };
    let fresh: ReplicaId = cluster.call(leader, "/rpc/replace-replica", &request).await;
    assert!(fresh > old);
    cluster.put("after", ZIP, b"{}").await;
    cluster.same_content().await;
    let (_, replicas) = cluster.placement(shard).await;
    assert!(replicas.contains(&(fresh, on)) && !replicas.iter().any(|(id, _)| *id == old));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_refused_and_comes_back_only_with_rejoin() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.ready().await;
    cluster.put("listing", ZIP, b"{}").await;
    cluster.stop(NodeId(3)).await;
    cluster.wipe(NodeId(3));
    cluster.start_node(NodeId(3));
    let refused = cluster.ended(NodeId(3)).await.expect_err("a wiped node does not start");
    assert!(refused.contains("wiped node"), "{refused}");
    cluster.rejoin(NodeId(3));
    let (leader, replicas) = cluster.placement(ShardId(1)).await;
    let (old, on) = replicas.into_iter().find(|(_, n)| *n == NodeId(3)).expect("still in the map");
    let request = ReplaceReplica { shard: ShardId(1), replica: old, on };
    let _fresh: ReplicaId = cluster.call(leader, "/rpc/replace-replica", &request).await;
    cluster.same_content_of(ShardId(1), 3).await;
    // The fresh one; the system shard's old one may have voted, and stays where it was lost.
    assert_eq!(cluster.metric(NodeId(3), "platbook_node_replicas").await, 1.0);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_admitted_once_and_its_row_is_read_back() {
    let mut cluster = Cluster::start(1, 1).await;
    cluster.ready().await;
    let mut ops = OpList::default();
    let sent = now_ms();
    ops.push(&admit("one", ZIP, sent));
    ops.push(&admit("one", ZIP, sent));
    let outcomes = cluster.propose(ShardId(1), &ops).await;
    let decisions: Vec<Decision> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            OpOutcome::Admitted(admitted) => admitted.decision,
            other => panic!("unexpected outcome {other:?}"),
        })
        .collect();
    let Decision::Do { revision, .. } = decisions[0] else { panic!("{:?}", decisions[0]) };
    assert_eq!(decisions[0], decisions[1]);
    let mut ops = OpList::default();
    ops.push(&write_op("one", ZIP, revision, b"{\"n\":1}"));
    let outcomes = cluster.propose(ShardId(1), &ops).await;
    assert_eq!(outcomes, [OpOutcome::Written(WriteOutcome::Done)]);
    let request = ReadRows {
        shard: ShardId(1),
        deadline_ms: 5_000,
        consistency: Consistency::Linearizable,
        with_bodies: true,
        rows: vec![(ZIP, "one"), (ZIP, "two")],
    };
    let rows: Vec<Option<RowView>> = cluster.call(NodeId(1), "/rpc/rows", &request).await;
    assert_eq!(rows[0].as_ref().map(|row| row.frame.as_slice()), Some(b"{\"n\":1}".as_slice()));
    assert_eq!(rows[1], None);
    let status: NodeStatus =
        cluster.call(NodeId(1), "/rpc/status", &GetStatus { with_hashes: true }).await;
    assert!(status.replicas.iter().all(|replica| replica.content.is_some()));
    cluster.stop_all().await;
}

impl Cluster {
    async fn zip_state(&mut self, zip: Zip) -> ZipState {
        let shard = self.shard_of(zip);
        let consistency = Consistency::Linearizable;
        let request = ReadZipState { shard, deadline_ms: 5_000, consistency, zip };
        self.call_leader(shard, "/rpc/zip-state", &request).await
    }

    async fn scan_ids(&mut self, zip: Zip) -> Vec<String> {
        let shard = self.shard_of(zip);
        let request = Scan {
            shard,
            deadline_ms: 5_000,
            consistency: Consistency::Linearizable,
            zip,
            after: None,
            limit: None,
            filter: Default::default(),
        };
        self.scan(shard, &request).await
    }
}

/// It would be a record that no log takes: the leader would be fenced, and then the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_no_log_could_take_is_refused_and_the_leader_goes_on() {
    let mut cluster = Cluster::start(1, 1).await;
    cluster.ready().await;
    let zip = Zip::Code(*b"98103");
    let shard = cluster.shard_of(zip);
    let (leader, _) = cluster.placement(shard).await;
    let frame = vec![7; 3 << 20];
    let mut ops = OpList::default();
    ops.push(&write_op("large", zip, Revision(1 << 40), &frame));
    let propose = Propose { shard, deadline_ms: 5_000, count: 1, ops: ops.bytes() };
    let refused = cluster.try_call::<_, Proposed>(leader, "/rpc/propose", &propose).await;
    let said = refused.expect_err("more than a log takes");
    let limit = platbook_protocol::op::PROPOSAL_BYTES_MAX.to_string();
    assert!(said.contains(&ops.bytes().len().to_string()) && said.contains(&limit), "{said}");
    let status = cluster.standing_of(leader, shard).await;
    assert_eq!((status.0.as_str(), status.1), ("leader", None));
    cluster.put("small", zip, b"{}").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_refuses_connections_instead_of_leaving_them_unanswered() {
    let mut cluster = Cluster::start(1, 1).await;
    cluster.ready().await;
    let (node, soon) = (NodeId(1), Duration::from_secs(1));
    let drained = async {
        // By the time of an answer on a later connection, the one that is held is served.
        cluster.call::<_, NodeStatus>(node, "/rpc/status", &GetStatus { with_hashes: false }).await;
        cluster.ask_to_stop(node);
        tokio::time::timeout(soon, cluster.refuses_connections(node)).await
    };
    // The held request keeps the drain open for two seconds.
    let (refused, ()) = tokio::join!(drained, cluster.wait_for_a_map(node, 20_000));
    refused.expect("a router that comes now would wait for a node that never answers");
    cluster.ended(node).await.expect("no error");
}
