//! What a disk has lost is found, best before it is needed: the node leads nothing any more, says
//! so, and is rebuilt.

mod harness;

use std::path::{Path, PathBuf};

use harness::Cluster;
use platbook_protocol::codec;
use platbook_protocol::rpc::{Consistency, Scan, scan};
use platbook_protocol::{NodeId, Zip};
use serde_json::json;

const ZIP: Zip = Zip::Code(*b"98103");
const LISTINGS: usize = 200;

async fn filled(settings: serde_json::Value) -> Cluster {
    let mut cluster = Cluster::start_as(3, 1, settings).await;
    cluster.ready().await;
    for number in 0..LISTINGS {
        cluster.put(&format!("listing-{number}"), ZIP, &[number as u8; 3000]).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_is_found_by_a_scrub_and_its_node_leads_nothing_until_it_is_rebuilt() {
    let mut cluster = filled(json!({ "scrub-hours": 1 })).await;
    let shard = cluster.shard_of(ZIP);
    let (victim, replicas) = cluster.placement(shard).await;
    // A clean stop: everything is in tables, and nothing is replayed.
    cluster.stop(victim).await;
    let damaged = damage(&cluster, victim);
    assert!(!damaged.is_empty(), "there are tables");
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

    // Nor does it come back on a disk that gives the right bytes this time: who knows the next?
    cluster.stop(victim).await;
    damaged.iter().filter(|path| path.exists()).for_each(|path| flip(path));
    cluster.start_node(victim);
    cluster.until(victim, "platbook_node_scrub_passes_total", |passes| passes >= 1.0).await;
    cluster.until(victim, "platbook_node_damaged", |damaged| damaged == 1.0).await;

    cluster.stop(victim).await;
    cluster.rebuild(victim).await;
    assert!(replicas.iter().any(|(_, node)| *node == victim));
    cluster.same_content_of(shard, 3).await;
    cluster.until(victim, "platbook_node_damaged", |damaged| damaged == 0.0).await;
    cluster.until(victim, "platbook_node_scrub_passes_total", |passes| passes >= 1.0).await;
    cluster.ready().await;
    cluster.stop_all().await;
}

/// Nobody looked before: a reader is the first one to meet it.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_meets_damage_fails_and_its_node_leads_nothing_until_it_is_rebuilt() {
    let mut cluster = filled(json!({ "scrub-hours": 0 })).await;
    let shard = cluster.shard_of(ZIP);
    // A clean stop: everything is in tables, and nothing of it in memory afterwards.
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.ready().await;
    let (victim, _) = cluster.placement(shard).await;
    assert!(!damage(&cluster, victim).is_empty(), "there are tables");
    let wanted = Scan {
        shard,
        deadline_ms: 5_000,
        consistency: Consistency::Linearizable,
        zip: ZIP,
        after: None,
        limit: None,
        filter: Default::default(),
    };
    let asked = cluster.exchange(victim, "POST", "/rpc/scan", codec::encode(&wanted)).await;
    if let Ok((_, answer)) = asked {
        assert!(!answer.ends_with(&[scan::END, 0]), "it is told as if it were whole");
    }
    // It hands its leaderships over. Where a compaction meets the damage too, it stops itself.
    cluster.leads_no_more(victim, shard).await;
    assert_eq!(cluster.scan(shard, &wanted).await.len(), LISTINGS, "the others have all of it");

    cluster.ask_to_stop(victim);
    // With an error, where it has stopped by itself.
    let _ = cluster.ended(victim).await;
    cluster.rebuild(victim).await;
    cluster.same_content_of(shard, 3).await;
    cluster.ready().await;
    assert_eq!(cluster.scan(shard, &wanted).await.len(), LISTINGS);
    cluster.stop_all().await;
}

/// Flips a bit in every table of the node; returns the tables.
fn damage(cluster: &Cluster, node: NodeId) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.path(node).join("db/db")).expect("a database");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let tables: Vec<PathBuf> =
        paths.filter(|p| p.extension().is_some_and(|e| e == "sst")).collect();
    tables.iter().for_each(|table| flip(table));
    tables
}

/// Flips a bit of a file, or flips it back.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("it can be read");
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("it can be written");
}
