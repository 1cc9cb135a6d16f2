//! The operating guide is true: it knows every metric, and no other.

mod installation;

use std::collections::BTreeSet;

use installation::{cluster, listing};
use platbook_chaos_tests::http;

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");

/// Names of metrics in a text: a histogram's parts count as the histogram.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_name(c)).filter(|word| {
        ["node", "log", "store", "router", "ingest", "feed"]
            .iter()
            .any(|part| word.starts_with(&format!("platbook_{part}_")))
    });
    let whole = |word: &str| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        part.unwrap_or(word).to_string()
    };
    words.map(whole).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_in_the_operating_guide_and_every_one_there_exists() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let body = format!("{{\"op\":\"upsert\",\"listing\":{}}}", listing(1, 1));
    http::post(&cluster.router_address, "/v1/listings", &[], body).await.expect("an answer");
    let mut found = BTreeSet::new();
    for address in [
        &cluster.node_addresses[0],
        &cluster.router_address,
        &cluster.ingest_address,
        &cluster.feed_address,
    ] {
        let answer = http::get(address, "/metrics", &[]).await.expect("an answer");
        let told = names(&answer.text());
        assert!(told.len() > 3, "{address}: {told:?}");
        found.extend(told);
    }
    let guide = std::fs::read_to_string(GUIDE).expect("the guide");
    let known = names(&guide);
    let missing: Vec<&String> = found.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&found).collect();
    assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:?}, gone: {gone:?}");
    let table = guide.split("## Every metric").nth(1).expect("its table");
    assert_eq!(names(table), found, "the table has all of them");
}
