//! Clocks that are wrong: seen by the node itself, which stops leading until it is right again.

mod harness;

use harness::Cluster;
use platbook_protocol::{NodeId, Zip};

const ZIP: Zip = Zip::Code(*b"98103");
const OFFSET: &str = "platbook_node_clock_offset_ms";
const LEADING: &str = "platbook_node_replicas_leading";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_off_leads_nothing_until_it_is_right_again() {
    let mut cluster = Cluster::start(3, 4).await;
    cluster.ready().await;
    let wrong = NodeId(2);
    cluster.until(wrong, LEADING, |leading| leading > 0.0).await;
    for ahead_ms in [60_000, -60_000] {
        cluster.clock(wrong).set_ahead(ahead_ms);
        let is_off = |offset: f64| (offset - ahead_ms as f64).abs() < 5_000.0;
        cluster.until(wrong, OFFSET, is_off).await;
        cluster.until(wrong, LEADING, |leading| leading == 0.0).await;
        // The others neither believe to be wrong, nor do they hand anything back.
        for right in [NodeId(1), NodeId(3)] {
            let offset = cluster.metric(right, OFFSET).await;
            assert!(offset.abs() < 5_000.0, "node {right} is off by {offset} ms");
        }
        cluster.put(&format!("while-{ahead_ms}"), ZIP, b"{}").await;
    }
    cluster.clock(wrong).set_ahead(0);
    cluster.until(wrong, OFFSET, |offset| offset.abs() < 5_000.0).await;
    cluster.until(wrong, LEADING, |leading| leading > 0.0).await;
    cluster.put("after", ZIP, b"{}").await;
    cluster.same_content().await;
    cluster.stop_all().await;
}
