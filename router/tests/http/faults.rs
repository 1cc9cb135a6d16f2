//! What users see when nodes fail: done, refused and unknown are never mixed up.

use std::time::Duration;

use http::{Method, StatusCode};
use platbook_protocol::rpc::Refusal;
use platbook_protocol::{NodeId, ShardId, Slot};
use platbook_router::Config;
use platbook_router::config::Limits;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Client, listing};
use crate::node::{Cluster, Fault, router};

const SHARD: ShardId = ShardId(1);
const SOON: (&str, &str) = ("x-deadline-ms", "400");

async fn put_soon(client: &Client) -> Answer {
    let body = listing("a", "94110", 1, 1_000);
    client.ask(Method::PUT, "/v1/listings/a", &[SOON], &body).await
}

#[tokio::test]
async fn a_wrong_leader_is_corrected_and_remembered() {
    let cluster = Cluster::with(3, Limits::default()).await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 1_000).await;
    cluster.shared().leader = NodeId(3);
    assert_eq!(client.put("a", "94110", 2, 2_000).await.json()["outcome"], "applied");
    assert_eq!(client.ids("94110").await, ["a"]);
    let before = cluster.calls("zip-state") + cluster.calls("scan");
    client.ids("94110").await;
    let after = cluster.calls("zip-state") + cluster.calls("scan");
    assert!(after - before <= 2, "no node is asked in vain");
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown() {
    let cluster = Cluster::start().await;
    cluster.fail("propose", [Fault::Hang]);
    let answer = put_soon(&cluster.client).await;
    assert_eq!(answer.problem(), (504, "outcome_unknown".to_string()));
}

#[tokio::test]
async fn a_write_whose_first_answer_was_lost_is_carried_through() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    cluster.fail("propose", [Fault::DoAndBreak, Fault::Break, Fault::DoAndBreak]);
    let put = client.put("a", "94110", 1, 1_000).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    assert_eq!(client.ids("94110").await, ["a"]);
}

#[tokio::test]
async fn a_shard_without_quorum_is_unavailable_and_had_no_effect() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let unavailable = Refusal::Unavailable { shard: SHARD, reason: "no quorum".to_string() };
    cluster.fail("propose", vec![Fault::Refuse(unavailable.clone()); 800]);
    cluster.fail("scan", vec![Fault::Refuse(unavailable); 200]);
    let mut put = put_soon(client).await;
    // Of an attempt that is under way at the deadline nothing is known, and so it is told.
    for _ in 0..3 {
        if put.problem() == (504, "outcome_unknown".to_string()) {
            put = put_soon(client).await;
        }
    }
    assert_eq!(put.problem(), (503, "shard_unavailable".to_string()));
    let headers = [SOON];
    let read = client.ask(Method::GET, "/v1/zips/94110/listings", &headers, "").await;
    assert_eq!(read.problem(), (503, "shard_unavailable".to_string()));
    assert!(cluster.shared().state.registers.is_empty());
}

/// Seed 301 of the simulation: requests whose writes travel in one batch give up at different
/// times. What was refused to the first must not happen because the batch goes on for the second.
#[tokio::test]
async fn what_was_refused_to_one_request_does_not_travel_on_with_anothers_write() {
    let cluster = Cluster::start().await;
    let in_first_shard = |id: &String| Slot::of_id(id).0 < u16::MAX / 4;
    let mut ids = (0..).map(|number| format!("id-{number}")).filter(in_first_shard);
    let put = |id: String, deadline_ms: &'static str| {
        let client = cluster.client.clone();
        tokio::spawn(async move {
            let (path, body) = (format!("/v1/listings/{id}"), listing(&id, "94110", 1, 1_000));
            client.ask(Method::PUT, &path, &[("x-deadline-ms", deadline_ms)], &body).await
        })
    };
    // Two calls are in flight at most: while they hang, the others are gathered into one batch.
    cluster.fail("propose", [Fault::Hang, Fault::Hang]);
    let hanging = [(); 2].map(|()| put(ids.next().unwrap(), "200"));
    while cluster.calls("propose") < 2 {
        tokio::task::yield_now().await;
    }
    let unavailable = Refusal::Unavailable { shard: SHARD, reason: "no quorum".to_string() };
    cluster.fail("propose", vec![Fault::Refuse(unavailable); 20]);
    let (first, second) = (ids.next().unwrap(), ids.next().unwrap());
    let refused = put(first.clone(), "500");
    let done = put(second.clone(), "20000");
    assert_eq!(refused.await.unwrap().problem(), (503, "shard_unavailable".to_string()));
    let tried = cluster.calls("propose");
    assert_eq!(done.await.unwrap().json()["outcome"], "applied");
    assert!(cluster.calls("propose") > tried, "it was tried again after the first one gave up");
    let shared = cluster.shared();
    assert!(shared.state.registers.contains_key(&second));
    assert!(!shared.state.registers.contains_key(&first), "refused, and it happened");
    drop(hanging);
}

#[tokio::test]
async fn a_full_disk_is_a_refusal_before_the_admission_and_unknown_after_it() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let full = Fault::Refuse(Refusal::DiskFull { shard: SHARD });
    cluster.fail("propose", [full.clone()]);
    let refused = client.put("a", "94110", 1, 1_000).await;
    assert_eq!(refused.problem(), (507, "disk_full".to_string()));
    assert!(cluster.shared().state.registers.is_empty());
    cluster.fail("propose", [Fault::None, full]);
    let halfway = client.put("a", "94110", 1, 1_000).await;
    assert_eq!(halfway.problem(), (504, "outcome_unknown".to_string()));
    assert!(cluster.shared().state.registers["a"].held, "the register holds the body");
}

#[tokio::test]
async fn overload_in_the_middle_of_a_write_is_waited_for() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let overloaded = Fault::Refuse(Refusal::Overloaded { retry_after_ms: 1 });
    cluster.fail("propose", [Fault::None, overloaded.clone(), overloaded]);
    let put = client.put("a", "94110", 1, 1_000).await;
    assert_eq!(put.json()["outcome"], "applied");
    assert_eq!(client.ids("94110").await, ["a"]);
}

#[tokio::test]
async fn overload_is_told_with_a_time_to_come_again() {
    let cluster = Cluster::start().await;
    let overloaded = Refusal::Overloaded { retry_after_ms: 2_500 };
    cluster.fail("propose", vec![Fault::Refuse(overloaded); 50]);
    let answer = put_soon(&cluster.client).await;
    assert_eq!(answer.problem(), (429, "overloaded".to_string()));
    assert_eq!(answer.header("retry-after"), Some("3"));
}

#[tokio::test]
async fn beyond_the_places_for_requests_one_is_told_to_come_again() {
    let limits = Limits { requests_max: 1, ..Limits::default() };
    let cluster = Cluster::with(1, limits).await;
    let client = cluster.client.clone();
    cluster.fail("propose", [Fault::Hang]);
    let first = tokio::spawn(async move { put_soon(&client).await });
    while cluster.calls("propose") == 0 {
        tokio::task::yield_now().await;
    }
    let second = cluster.client.get("/v1/zips/94110/listings").await;
    assert_eq!(second.problem(), (429, "overloaded".to_string()));
    assert!(second.header("retry-after").is_some());
    assert_eq!(cluster.client.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(first.await.unwrap().problem().0, 504);
    let third = cluster.client.get("/v1/zips/94110/listings").await;
    assert_eq!(third.status, StatusCode::OK, "the place was given back");
}

#[tokio::test]
async fn lines_that_failed_are_told_apart_from_lines_that_were_done() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let line = |i: usize| listing(&format!("id{i}"), &format!("941{i:02}"), 1, 1_000);
    let lines: Vec<String> = (0..40).map(line).collect();
    cluster.fail("propose", [Fault::Refuse(Refusal::DiskFull { shard: SHARD })]);
    let answer = client.ask(Method::POST, "/v1/listings", &[], &lines.join("\n")).await;
    let json = answer.json();
    let rejected = json["rejected"].as_array().unwrap();
    assert!(!rejected.is_empty() && rejected.len() < 40, "{json}");
    assert_eq!(json["applied"].as_u64().unwrap() as usize + rejected.len(), 40);
    for entry in rejected {
        assert_eq!(entry["code"], "disk_full");
        let id = format!("id{}", entry["line"].as_u64().unwrap() - 1);
        assert!(!cluster.shared().state.registers.contains_key(&id), "{id} had no effect");
    }
}

#[tokio::test]
async fn a_bulk_request_of_which_nothing_was_done_says_so_by_its_status() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let full = Fault::Refuse(Refusal::DiskFull { shard: SHARD });
    cluster.fail("propose", vec![full; 10]);
    let body = listing("a", "94110", 1, 1_000);
    let answer = client.ask(Method::POST, "/v1/listings", &[], &body).await;
    assert_eq!(answer.problem(), (507, "disk_full".to_string()));
    assert_eq!(answer.json()["rejected"][0]["line"], json!(1));
}

#[tokio::test]
async fn without_nodes_the_router_lives_but_is_not_ready() {
    let stop = CancellationToken::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = router(Config { nodes: vec![nobody], ..Config::default() }, stop.clone()).await;
    assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(client.get("/readyz").await.problem(), (503, "not_ready".to_string()));
    let read = client.ask(Method::GET, "/v1/zips/94110/listings", &[SOON], "").await;
    assert_eq!(read.problem(), (503, "shard_unavailable".to_string()));
    let put = put_soon(&client).await;
    assert_eq!(put.problem(), (503, "shard_unavailable".to_string()));
    stop.cancel();
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_the_router_stops() {
    let stop = CancellationToken::new();
    let cluster = Cluster::start().await;
    let address = cluster.shared().state.map.nodes[0].address.clone();
    let client = router(Config { nodes: vec![address], ..Config::default() }, stop.clone()).await;
    client.put("a", "94110", 1, 1_000).await;
    cluster.fail("propose", [Fault::Hang]);
    let before = cluster.calls("propose");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { put_soon(&client).await }
    });
    while cluster.calls("propose") == before {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    assert_eq!(waiting.await.unwrap().problem().0, 504);
    let late = tokio::time::timeout(Duration::from_secs(5), async {
        while client.try_ask(Method::GET, "/healthz", &[], "").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    late.await.expect("nothing new is accepted");
}
