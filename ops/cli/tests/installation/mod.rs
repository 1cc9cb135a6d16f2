//! A small installation for tests of commands, and listings to fill it with.
#![allow(dead_code, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use platbook_chaos_tests::{Cluster, Layout};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
/// Where the listings lie.
pub(crate) const ZIPS: [&str; 3] = ["98103", "98004", "98178"];

/// Three nodes and what belongs to them.
pub(crate) async fn cluster(dir: &Path) -> Cluster {
    cluster_with(dir, &[]).await
}

/// The same, with these flags for every node.
pub(crate) async fn cluster_with(dir: &Path, node_flags: &[&str]) -> Cluster {
    let layout = Layout {
        binary: PathBuf::from(BINARY),
        dir: dir.to_owned(),
        nodes: 3,
        shards: 4,
        feed: Vec::new(),
        router: None,
        links: None,
        node_env: Vec::new(),
    };
    Cluster::start_with(&layout, node_flags).await.expect("an installation starts")
}

/// One listing at a price.
pub(crate) fn listing(number: usize, price: usize) -> String {
    json!({
        "ListingKey": format!("L{number:05}"),
        "PostalCode": ZIPS[number % ZIPS.len()],
        "ModificationTimestamp": "2026-11-01T00:00:00Z",
        "ListPrice": price,
        "PublicRemarks": "Quiet street, friendly neighbours, storage everywhere.",
    })
    .to_string()
}

/// `platbook NAME --router ...`, its output kept.
pub(crate) fn command(cluster: &Cluster, name: &str) -> Command {
    let mut command = Command::new(BINARY);
    let router = format!("http://{}", cluster.router_address);
    command.args([name, "--router", &router]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the command printed, which is JSON.
pub(crate) fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no report: {text}{error}"))
}
