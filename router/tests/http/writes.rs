//! What becomes of what users write.

use http::{Method, StatusCode};
use platbook_protocol::frame::FrameHead;
use platbook_protocol::{Revision, TimeMs, Zip};
use platbook_router::config::Ordering;
use platbook_router::{Clock, Config};
use serde_json::json;

use crate::client::listing;
use crate::node::Cluster;

const BULK: &str = "/v1/listings";

#[tokio::test]
async fn a_listing_that_moves_is_in_one_place() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    for (zip, modified) in [("94110", 1_000), ("94111", 2_000), ("94112", 3_000), ("94110", 4_000)]
    {
        assert_eq!(client.put("a", zip, 1, modified).await.json()["outcome"], "applied");
        for other in ["94110", "94111", "94112"] {
            let expected: &[&str] = if other == zip { &["a"] } else { &[] };
            assert_eq!(client.ids(other).await, expected, "{other} after a move to {zip}");
        }
        assert_eq!(client.get("/v1/listings/a").await.header("platbook-zip"), Some(zip));
    }
}

#[tokio::test]
async fn a_deleted_listing_is_gone_and_an_older_message_does_not_bring_it_back() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 1_000).await;
    let deleted = client.ask(Method::DELETE, "/v1/listings/a", &[], "").await;
    assert_eq!(deleted.json()["outcome"], "applied");
    assert_eq!(client.get("/v1/listings/a").await.problem().0, 404);
    assert!(client.ids("94110").await.is_empty());
    let headers = [("platbook-sent", "2000")];
    let body = listing("a", "94110", 2, 2_000);
    let late = client.ask(Method::PUT, "/v1/listings/a", &headers, &body).await;
    assert_eq!((late.status, &late.json()["outcome"]), (StatusCode::OK, &json!("stale")));
    assert!(client.ids("94110").await.is_empty());
}

#[tokio::test]
async fn if_match_holds_only_for_the_current_revision() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let first = client.put("a", "94110", 1, 1_000).await;
    let tag = first.header("etag").unwrap();
    let body = listing("a", "94110", 2, 2_000);
    let path = "/v1/listings/a";
    let second = client.ask(Method::PUT, path, &[("if-match", tag)], &body).await;
    assert_eq!(second.json()["outcome"], "applied");
    let body = listing("a", "94110", 3, 3_000);
    let third = client.ask(Method::PUT, path, &[("if-match", tag)], &body).await;
    assert_eq!(third.problem(), (412, "precondition_failed".to_string()));
    assert_eq!(third.json()["revision"], second.json()["revision"]);
    let bad = client.ask(Method::PUT, path, &[("if-match", "*")], &body).await;
    assert_eq!(bad.problem(), (400, "bad_header".to_string()));
}

#[tokio::test]
async fn each_message_of_a_bulk_request_gets_its_outcome() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let upsert = |id: &str, price, modified, sent: u64| {
        let listing = listing(id, "94110", price, modified);
        format!(r#"{{"op":"upsert","listing":{listing},"sent":{sent}}}"#)
    };
    let first = [
        upsert("a", 1, 1_000, 1_000),
        String::new(),
        "{not json".to_string(),
        upsert("b", 1, 1_000, 1_000),
        r#"{"op":"explode"}"#.to_string(),
        r#"{"op":"delete","id":"c","sent":1000}"#.to_string(),
    ];
    let answer = client.ask(Method::POST, BULK, &[], &first.join("\n")).await;
    let json = answer.json();
    assert_eq!((answer.status, &json["applied"]), (StatusCode::OK, &json!(3)), "{json}");
    let rejected: Vec<_> = json["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["line"].as_u64().unwrap(), r["code"].as_str().unwrap().to_string()))
        .collect();
    assert_eq!(rejected, [(3, "bad_json".to_string()), (5, "unknown_op".to_string())]);
    assert_eq!(client.ids("94110").await, ["a", "b"]);
    let second =
        [upsert("a", 1, 1_000, 1_000), upsert("b", 1, 1_000, 2_000), upsert("a", 0, 500, 500)];
    let headers = [("platbook-resend", "promised")];
    let json = client.ask(Method::POST, BULK, &headers, &second.join("\n")).await.json();
    assert_eq!(
        (&json["duplicate"], &json["unchanged"], &json["stale"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(json["rejected"], json!([]));
}

#[tokio::test]
async fn a_large_bulk_request_is_carried_out_whole() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let zip = |i: usize| format!("941{:02}", i % 10);
    let lines: Vec<String> =
        (0..9_000).map(|i| listing(&format!("id{i}"), &zip(i), i as u64, 1_000)).collect();
    let json = client.ask(Method::POST, BULK, &[], &lines.join("\n")).await.json();
    assert_eq!((&json["applied"], &json["rejected"]), (&json!(9_000), &json!([])));
    for i in 0..10 {
        assert_eq!(client.ids(&zip(i)).await.len(), 900);
    }
}

#[tokio::test]
async fn messages_about_one_listing_in_one_request_end_in_its_newest_state() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let lines: Vec<String> = (0..60)
        .map(|i| listing("a", &format!("941{:02}", i % 7), i, 1_000 + (i * 37 % 60)))
        .collect();
    let json = client.ask(Method::POST, BULK, &[], &lines.join("\n")).await.json();
    assert_eq!((&json["rejected"], &json["busy"]), (&json!([]), &json!([])), "{json}");
    let newest = (0..60).max_by_key(|i| i * 37 % 60).unwrap();
    let home = format!("941{:02}", newest % 7);
    assert_eq!(client.get("/v1/listings/a").await.json()["ListPrice"], newest);
    for i in 0..7 {
        let zip = format!("941{i:02}");
        let expected: &[&str] = if zip == home { &["a"] } else { &[] };
        assert_eq!(client.ids(&zip).await, expected, "{zip}");
    }
}

#[tokio::test]
async fn an_expired_write_is_admitted_again_above_the_horizon() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let ahead = Revision::at(TimeMs(Clock::system().now().0 + 600_000));
    cluster.shared().state.horizon = ahead;
    let put = client.put("a", "94110", 1, 1_000).await;
    assert_eq!(put.json()["outcome"], "applied");
    let revision: u64 = put.json()["revision"].as_str().unwrap().parse().unwrap();
    assert!(revision >= ahead.0);
    assert_eq!(client.ids("94110").await, ["a"]);
}

#[tokio::test]
async fn while_a_newer_message_is_half_done_an_older_one_is_busy() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 5_000).await;
    {
        let mut shared = cluster.shared();
        let register = shared.state.registers.get_mut("a").unwrap();
        register.old.insert(Zip::normalise(Some("94111")));
    }
    let older = listing("a", "94112", 2, 1_000);
    let promised = [("platbook-resend", "promised")];
    let json = client.ask(Method::POST, BULK, &promised, &older).await.json();
    assert_eq!((&json["busy"], &json["stale"]), (&json!([1]), &json!(0)));
    // Where nobody promised to send it again it is waited for; it is recorded, so not refused.
    let soon = [("x-deadline-ms", "400")];
    let unknown = client.ask(Method::PUT, "/v1/listings/a", &soon, &older).await;
    assert_eq!(unknown.problem(), (504, "outcome_unknown".to_string()));
    let json = client.ask(Method::POST, BULK, &soon, &older).await.json();
    assert_eq!(json["rejected"][0]["code"], "outcome_unknown");
    // Whoever brings the newer message again finishes it, and then the older one is stale.
    client.put("a", "94110", 1, 5_000).await;
    assert_eq!(client.put("a", "94112", 2, 1_000).await.json()["outcome"], "stale");
}

#[tokio::test]
async fn what_is_older_than_what_is_remembered_is_refused() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    cluster.shared().state.register_horizon = TimeMs(10_000);
    let body = listing("a", "94110", 1, 1_000);
    let headers = [("platbook-sent", "9999")];
    let refused = client.ask(Method::PUT, "/v1/listings/a", &headers, &body).await;
    assert_eq!(refused.problem(), (409, "too_old".to_string()));
    let json = client.ask(Method::POST, BULK, &headers, &body).await.json();
    assert_eq!(json["rejected"][0]["code"], "too_old");
}

#[tokio::test]
async fn bad_requests_are_refused_before_anything_is_done() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let future = (Clock::system().now().0 + 60_000).to_string();
    let body = listing("a", "94110", 1, 1_000);
    let path = "/v1/listings/a";
    let ahead = client.ask(Method::PUT, path, &[("platbook-sent", &future)], &body).await;
    assert_eq!(ahead.problem(), (400, "sent_in_future".to_string()));
    let other = client.ask(Method::PUT, "/v1/listings/b", &[], &body).await;
    assert_eq!(other.problem(), (400, "id_mismatch".to_string()));
    let long = format!("/v1/listings/{}", "x".repeat(256));
    assert_eq!(client.get(&long).await.problem(), (400, "id_too_long".to_string()));
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(1 << 20));
    let large = client.ask(Method::PUT, path, &[], &large).await;
    assert_eq!(large.problem(), (413, "listing_too_large".to_string()));
    let coded = client.ask(Method::PUT, path, &[("content-encoding", "gzip")], &body).await;
    assert_eq!(coded.problem(), (415, "unsupported_media_type".to_string()));
    assert_eq!(cluster.calls("propose"), 0);
}

#[tokio::test]
async fn a_quarantined_message_is_listed_shown_retried_and_dropped() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let good = listing("a", "94110", 1, 1_000);
    let line = |id: &str, body: &str| {
        json!({"message_id": id, "code": "bad_json", "detail": "d", "body": body,
            "attributes": {"k": "v"}, "sent": 1_000})
        .to_string()
    };
    let lines: Vec<String> = (0..5).map(|i| line(&format!("m{i}"), "{")).collect();
    let body = format!("{}\n{}\n", lines.join("\n"), line("good", &good));
    let put = client.ask(Method::POST, "/v1/quarantine", &[], &body).await;
    assert_eq!(put.json(), json!({"quarantined": 6}));
    let (mut path, mut seen) = ("/v1/quarantine?limit=2".to_string(), Vec::new());
    loop {
        let page = client.ask(Method::GET, &path, &[("accept", "application/x-ndjson")], "").await;
        for line in page.text().lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            seen.push(entry["message_id"].as_str().unwrap().to_string());
        }
        let Some(next) = page.header("platbook-next") else { break };
        path = format!("/v1/quarantine?limit=2&cursor={next}");
    }
    seen.sort_unstable();
    assert_eq!(seen, ["good", "m0", "m1", "m2", "m3", "m4"]);
    let shown = client.get("/v1/quarantine/good").await.json();
    assert_eq!((&shown["body"], &shown["sent"]), (&json!(good), &json!(1_000)));
    let bad = client.ask(Method::POST, "/v1/quarantine/m1/retry", &[], "").await;
    assert_eq!(bad.problem(), (400, "bad_json".to_string()));
    let retried = client.ask(Method::POST, "/v1/quarantine/good/retry", &[], "").await;
    assert_eq!(retried.json()["outcome"], "applied");
    assert_eq!(client.ids("94110").await, ["a"]);
    assert_eq!(client.get("/v1/quarantine/good").await.problem().0, 404);
    let dropped = client.ask(Method::DELETE, "/v1/quarantine/m1", &[], "").await;
    assert_eq!(dropped.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/v1/quarantine").await.json().as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn suspects_are_listed_until_they_are_looked_at() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let now = Clock::system().now().0;
    client.put("a", "94110", 1, now - 10_000_000).await;
    let earlier = (now - 1_000).to_string();
    client.ask(Method::DELETE, "/v1/listings/a", &[("platbook-sent", &earlier)], "").await;
    let put = client.put("a", "94110", 2, now - 9_000_000).await;
    assert_eq!(put.json()["outcome"], "suspect");
    let suspects = client.get("/v1/suspects").await.json();
    assert_eq!(
        (&suspects[0]["id"], &suspects[0]["reason"]),
        (&json!("a"), &json!("modified_before_delete"))
    );
    let cleared = client.ask(Method::DELETE, "/v1/suspects/a", &[], "").await;
    assert_eq!(cleared.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("/v1/suspects").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_listings_train_a_dictionary_that_later_ones_are_compressed_with() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let line = |i: u64| {
        let words = (0..500).map(|w| format!("word{} ", (i * 7_919 + w * w * 31) % 5_000));
        let remarks: String = words.collect();
        format!(r#"{{"ListingKey":"id{i}","PostalCode":"94110","PublicRemarks":"{remarks}"}}"#)
    };
    let lines: Vec<String> = (0..2_000).map(line).collect();
    let json = client.ask(Method::POST, BULK, &[], &lines.join("\n")).await.json();
    assert_eq!(json["applied"], 2_000);
    while cluster.shared().state.dictionaries.is_empty() {
        tokio::task::yield_now().await;
    }
    // The next writes find that there is one, and fetch it; the first may still do without.
    let zip = Zip::normalise(Some("94111"));
    let dictionary_of = |id: &str| {
        let view = cluster.shared().state.row(zip, id).expect("it was written");
        FrameHead::parse(&view.frame).expect("a frame").0.dictionary
    };
    let mut written = 0;
    loop {
        let id = format!("after{written}");
        client.put(&id, "94111", written, 1_000).await;
        written += 1;
        if dictionary_of(&id) == 1 {
            break;
        }
    }
    assert_eq!(client.ids("94111").await.len() as u64, written);
    assert_eq!(client.ids("94110").await.len(), 2_000);
}

#[tokio::test]
async fn where_a_sequence_is_the_order_both_clocks_are_only_told() {
    let config = Config { ordering: Ordering::Sequenced, ..Config::default() };
    let cluster = Cluster::configured(1, config).await;
    let client = &cluster.client;
    let upsert = |price, modified, sent: u64, sequence: u64| {
        let listing = listing("a", "94110", price, modified);
        let order = format!(r#""sent":{sent},"sequence":{sequence}"#);
        format!(r#"{{"op":"upsert",{order},"listing":{listing}}}"#)
    };
    let delete = |sent: u64, sequence: u64| {
        format!(r#"{{"op":"delete","id":"a","sent":{sent},"sequence":{sequence}}}"#)
    };
    let post = async |line: String| client.ask(Method::POST, BULK, &[], &line).await.json();
    assert_eq!(post(upsert(5, 1_000, 1_000, 5)).await["applied"], 1);
    // Newer by both clocks, earlier in the sequence.
    assert_eq!(post(upsert(4, 9_000, 9_000, 4)).await["stale"], 1);
    assert_eq!(post(delete(9_500, 3)).await["stale"], 1);
    assert_eq!(client.get("/v1/listings/a").await.json()["ListPrice"], 5);
    // Older by both clocks, later in the sequence: and nothing to be suspicious about.
    assert_eq!(post(delete(500, 6)).await["applied"], 1);
    assert_eq!(post(upsert(7, 100, 100, 7)).await["applied"], 1);
    assert_eq!(client.get("/v1/listings/a").await.json()["ListPrice"], 7);

    let unordered = post(format!(r#"{{"op":"delete","id":"a","sent":{}}}"#, 9_999)).await;
    assert_eq!(unordered["rejected"][0]["code"], "no_sequence", "{unordered}");
    let path = "/v1/listings/a";
    let body = listing("a", "94110", 8, 50);
    let put = async |headers: &[(&str, &str)]| client.ask(Method::PUT, path, headers, &body).await;
    assert_eq!(put(&[]).await.problem(), (400, "no_sequence".to_string()));
    let condition = [("if-match", "\"1\""), ("platbook-sequence", "8")];
    assert_eq!(put(&condition).await.problem(), (400, "bad_header".to_string()));
    assert_eq!(put(&condition[1..]).await.json()["outcome"], "applied");
}

#[tokio::test]
async fn a_sequence_is_refused_where_the_clocks_are_the_order() {
    let cluster = Cluster::start().await;
    let line = r#"{"op":"delete","id":"a","sent":1000,"sequence":7}"#;
    let answer = cluster.client.ask(Method::POST, BULK, &[], line).await.json();
    assert_eq!(answer["rejected"][0]["code"], "bad_field", "{answer}");
}
