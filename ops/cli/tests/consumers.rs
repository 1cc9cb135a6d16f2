//! Consumers of changes that share no code with Platbook: the documentation's, in Python with
//! nothing but its standard library, and a client of server-sent events from the registry.

mod installation;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use installation::{ZIPS, cluster, listing};
use platbook_chaos_tests::{Cluster, http, wait};
use serde_json::Value;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/follow.py");
const SSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/sse.py");
const SOON: Duration = Duration::from_secs(20);

fn url(cluster: &Cluster) -> String {
    format!("http://{}", cluster.router_address)
}

async fn put(cluster: &Cluster, listing: &str) {
    let body = format!("{{\"op\":\"upsert\",\"listing\":{listing}}}");
    let answer = http::post(&cluster.router_address, "/v1/listings", &[], body).await;
    let answer = answer.expect("an answer");
    assert!(answer.text().contains("\"applied\":1"), "{}", answer.text());
}

/// Prices by ZIP and id, as the store has them.
async fn prices(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut prices = BTreeMap::new();
    for zip in ZIPS {
        let path = format!("/v1/zips/{zip}/listings");
        let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
        let listings: Vec<Value> = serde_json::from_slice(&answer.body).expect("listings");
        for listing in listings {
            let id = listing["ListingKey"].as_str().expect("an id");
            prices.insert(format!("{zip} {id}"), listing["ListPrice"].as_u64().expect("a price"));
        }
    }
    prices
}

/// Starts the documentation's consumer.
fn example(cluster: &Cluster, state: &Path) -> Child {
    let mut python = Command::new("python3");
    python.arg(EXAMPLE).arg(url(cluster)).arg(state).stdin(Stdio::null()).stdout(Stdio::null());
    python.spawn().expect("python3 runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_of_the_documentation_survives_its_own_death_and_a_routers() {
    let text = std::fs::read_to_string(EXAMPLE).expect("the example");
    assert!(text.lines().count() <= 30, "{} lines, 30 are promised", text.lines().count());
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    let state = dir.path().join("state.json");
    for round in 0..3 {
        let mut consumer = example(&cluster, &state);
        for number in 0..20 {
            put(&cluster, &listing(number, 1_000 * (round + 1) + number)).await;
            if (round, number) == (1, 10) {
                cluster.router.kill().expect("it is killed");
                cluster.router.start_again().expect("it starts");
                cluster.ready().await.expect("it comes back");
            }
        }
        let prices = prices(&cluster).await;
        wait::until("the consumer has every price", SOON, async || {
            let kept = std::fs::read(&state).map_err(|e| e.to_string())?;
            let kept: Value = serde_json::from_slice(&kept).map_err(|e| e.to_string())?;
            let kept: BTreeMap<String, u64> =
                serde_json::from_value(kept["prices"].clone()).map_err(|e| e.to_string())?;
            if kept == prices { Ok(()) } else { Err(format!("round {round}: {kept:?}")) }
        })
        .await
        .expect("it follows");
        consumer.kill().expect("it is killed");
        consumer.wait().expect("it is gone");
    }
}

/// Events as the independent client tells them, up to `count` changes behind `last_event_id`.
fn sse(cluster: &Cluster, last_event_id: &str, count: usize) -> Vec<Value> {
    let python = std::env::var("PLATBOOK_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let args = [SSE, &url(cluster), last_event_id, &count.to_string()];
    let output = Command::new(python).args(args).output().expect("PLATBOOK_PYTHON is a Python");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn changes(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["event"] == "change").map(|event| &event["data"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_client_of_server_sent_events_goes_on_at_the_next_event() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    for number in 0..9 {
        put(&cluster, &listing(number, 100 + number)).await;
    }
    // The state, broken off in its middle, and again behind each event that is given.
    let (mut told, mut last) = (Vec::new(), String::new());
    for count in [1, 3, 5] {
        let events = sse(&cluster, &last, count);
        last = events.last().and_then(|event| event["id"].as_str()).expect("an id").to_string();
        told.extend(events);
    }
    let mut ids: Vec<&str> =
        changes(&told).iter().map(|change| change["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    let expected: Vec<String> = (0..9).map(|number| format!("L{number:05}")).collect();
    assert_eq!(ids, expected, "each row once");
    // What changes then: a listing that goes elsewhere is told on both sides.
    put(&cluster, &listing(0, 5).replace(ZIPS[0], ZIPS[1])).await;
    let moved = sse(&cluster, &last, 2);
    let mut moves: Vec<(&Value, &Value)> =
        changes(&moved).iter().map(|change| (&change["op"], &change["moved_to"])).collect();
    moves.sort_by_key(|(op, _)| op.to_string());
    let expected =
        [(&Value::from("delete"), &Value::from(ZIPS[1])), (&"upsert".into(), &Value::Null)];
    assert_eq!(moves, expected);
}
