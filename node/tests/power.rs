//! Power loss of all nodes at once: what was acknowledged was on the disks of most of them. And of
//! one whose disk had lied.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::Cluster;
use platbook_protocol::Zip;
use platbook_protocol::rpc::{Consistency, Scan};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ZIP: Zip = Zip::Code(*b"98103");
/// Losses in a run of all tests; `POWER_LOSSES=50` for more.
const LOSSES: u64 = 5;
/// How long is written before a loss, in milliseconds.
const WRITES_MS: std::ops::Range<u64> = 100..600;

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_lose_power_at_once_and_nothing_acknowledged_is_missing() {
    let losses = std::env::var("POWER_LOSSES").map(|text| text.parse().expect("a number"));
    let mut cluster = Cluster::start_powered(3, 2).await;
    let mut acknowledged = BTreeSet::new();
    let mut rng = StdRng::seed_from_u64(17);
    for loss in 0..losses.unwrap_or(LOSSES) {
        cluster.ready().await;
        let found: BTreeSet<String> = cluster.scan_all().await.into_iter().collect();
        let missing: Vec<_> = acknowledged.difference(&found).collect();
        assert!(missing.is_empty(), "after {loss} losses, of {}: {missing:?}", acknowledged.len());

        let writing = async {
            for number in 0.. {
                let id = format!("listing-{loss}-{number}");
                cluster.put(&id, ZIP, b"{}").await;
                acknowledged.insert(id);
            }
        };
        // The last write is cut off in its middle.
        let time = Duration::from_millis(rng.random_range(WRITES_MS));
        let _ = tokio::time::timeout(time, writing).await;
        cluster.lose_power(loss).await;
    }
    cluster.ready().await;
    let found: BTreeSet<String> = cluster.scan_all().await.into_iter().collect();
    assert!(acknowledged.len() >= 5, "only {} writes were acknowledged", acknowledged.len());
    assert!(acknowledged.is_subset(&found));
    cluster.same_content().await;
    cluster.stop_all().await;
}

/// With one liar among three nodes the quorum holds. Its leader knows what it acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_syncs_lied_is_found_out_and_never_starts_on_that_disk_again() {
    let mut cluster = Cluster::start_powered(3, 1).await;
    cluster.ready().await;
    cluster.put("before", ZIP, b"{}").await;
    let shard = cluster.shard_of(ZIP);
    let (leader, replicas) = cluster.placement(shard).await;
    let mut followers = replicas.iter().map(|(_, node)| *node).filter(|node| *node != leader);
    let liar = followers.next().expect("there are three");
    cluster.syncs_lie(liar);
    for number in 0..50 {
        cluster.put(&format!("listing-{number}"), ZIP, b"{}").await;
    }
    cluster.same_content_of(shard, 3).await;
    cluster.lose_all_unsynced(liar).await;
    let told = cluster.ended(liar).await.expect_err("it goes on without what it acknowledged");
    assert!(told.contains("log lost entries"), "{told}");
    cluster.start_node(liar);
    let told = cluster.ended(liar).await.expect_err("it starts again as if nothing had been");
    assert!(told.contains("--rejoin"), "{told}");
    assert_eq!(cluster.scan_all().await.len(), 51, "the others have everything");

    cluster.rebuild(liar).await;
    cluster.same_content_of(shard, 3).await;
    cluster.ready().await;
    assert_eq!(cluster.scan_all().await.len(), 51);
    cluster.stop_all().await;
}

impl Cluster {
    async fn scan_all(&mut self) -> Vec<String> {
        let shard = self.shard_of(ZIP);
        let consistency = Consistency::Linearizable;
        let (after, limit, filter) = (None, None, Default::default());
        let request =
            Scan { shard, deadline_ms: 5_000, consistency, zip: ZIP, after, limit, filter };
        self.scan(shard, &request).await
    }
}
