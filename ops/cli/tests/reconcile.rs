//! `platbook export` and `reconcile` against a real installation.

mod installation;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use installation::{cluster, command, listing, report};
use platbook_chaos_tests::Cluster;
use platbook_ingest::lines::Lines;
use platbook_protocol::token::{Position, Token};
use serde_json::{Value, json};

const LISTINGS: usize = 300;

fn write(path: &Path, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    std::fs::write(path, lines.join("\n")).expect("a file");
}

fn run(cluster: &Cluster, name: &str, args: &[&str]) -> Output {
    command(cluster, name).args(args).output().expect("it runs")
}

fn lines(path: &Path) -> BTreeSet<String> {
    let mut lines = Lines::new(vec![path.to_owned()], Arc::default());
    std::iter::from_fn(|| lines.try_next().expect("a whole file").map(|line| line.text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_whole_and_a_copy_is_repaired_only_when_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let file = |name: &str| dir.path().join(name);
    let text = |name: &str| file(name).display().to_string();
    let all = || (0..LISTINGS).map(|number| listing(number, 200_000 + number));
    write(&file("first.ndjson"), all());
    let loaded = run(&cluster, "load", &[&text("first.ndjson"), "-o", "json"]);
    assert_eq!(report(&loaded)["applied"], LISTINGS);

    let (to, token) = (text("all.ndjson.zst"), text("token"));
    let exported = run(&cluster, "export", &["--to", &to, "--token-file", &token]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert_eq!(lines(&file("all.ndjson.zst")), all().collect());
    let token = std::fs::read_to_string(file("token")).expect("a token");
    let token = Token::decode(token.trim()).expect("a token of the final format");
    assert_eq!(token.shards.len(), 4, "one position for each shard");
    assert!(token.shards.values().all(|at| matches!(at, Position::Follow { .. })));
    let equal = run(&cluster, "reconcile", &[&to, "-o", "json"]);
    assert_eq!((equal.status.code(), &report(&equal)["equal"]), (Some(0), &json!(LISTINGS)));

    // The operator has ten less, five others, three more.
    let copy = (10..LISTINGS + 3)
        .map(|number| listing(number, 200_000 + number + usize::from(number < 15)));
    write(&file("copy.ndjson"), copy);
    let copy = text("copy.ndjson");
    let list = text("list");
    let differs = run(&cluster, "reconcile", &[&copy, "-o", "json", "--list", &list]);
    assert_eq!(differs.status.code(), Some(1), "a difference is a failure");
    let expected = json!({"equal": LISTINGS - 15, "missing": 3, "extra": 10, "different": 5,
        "unreadable": 0});
    assert_eq!(report(&differs), expected);
    let listed = lines(&file("list"));
    let extra = |line: &&String| line.contains("extra");
    assert_eq!((listed.len(), listed.iter().filter(extra).count()), (18, 10));

    let applied = run(&cluster, "reconcile", &[&copy, "-o", "json", "--apply"]);
    assert_eq!(applied.status.code(), Some(0));
    let told: Value = report(&applied);
    assert_eq!(told["repaired"]["applied"], 18, "{told}");
    let again = run(&cluster, "reconcile", &[&copy, "-o", "json"]);
    assert_eq!((again.status.code(), &report(&again)["equal"]), (Some(0), &json!(LISTINGS - 7)));
    cluster.stop().await.expect("everything drains");
}
