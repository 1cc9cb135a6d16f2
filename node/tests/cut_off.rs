//! A leader that most nodes have left: what it cannot prove it does not say.

mod harness;

use std::time::Duration;

use harness::{Cluster, admit, now_ms};
use platbook_protocol::op::OpList;
use platbook_protocol::rpc::{Consistency, Propose, Proposed, ReadZipState, ZipState};
use platbook_protocol::{NodeId, Zip};

const ZIP: Zip = Zip::Code(*b"98103");
/// Longest time that a lease may outlive the others: an election's, twice.
const LEASE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_most_nodes_left_acknowledges_nothing_and_answers_no_read() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.ready().await;
    cluster.put("before", ZIP, b"{}").await;
    let shard = cluster.shard_of(ZIP);
    let (leader, _) = cluster.placement(shard).await;
    let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|node| *node != leader).collect();
    for node in others.iter().copied() {
        cluster.stop(node).await;
    }

    let read = |consistency| ReadZipState { shard, deadline_ms: 500, consistency, zip: ZIP };
    let fresh = read(Consistency::Linearizable);
    let answer: Result<ZipState, String> = cluster.try_call(leader, "/rpc/zip-state", &fresh).await;
    assert!(answer.is_err(), "a read that nobody confirmed: {answer:?}");

    let mut ops = OpList::default();
    ops.push(&admit("alone", ZIP, now_ms()));
    let (count, ops) = (ops.count() as u32, ops.bytes());
    let request = Propose { shard, deadline_ms: 1_000, count, ops };
    let answer: Result<Proposed, String> = cluster.try_call(leader, "/rpc/propose", &request).await;
    assert!(answer.is_err(), "a write that one of three nodes has: {answer:?}");

    // The lease ends by itself, and does not come back.
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    let ended = async {
        let leased = read(Consistency::Lease);
        loop {
            let answer: Result<ZipState, String> =
                cluster.try_call(leader, "/rpc/zip-state", &leased).await;
            if answer.is_err() {
                return;
            }
            poll.tick().await;
        }
    };
    let ended = tokio::time::timeout(LEASE, ended).await;
    assert!(ended.is_ok(), "a lease that goes on without the others");

    for node in others {
        cluster.start_node(node);
    }
    cluster.ready().await;
    cluster.put("after", ZIP, b"{}").await;
    cluster.same_content().await;
    cluster.stop_all().await;
}
