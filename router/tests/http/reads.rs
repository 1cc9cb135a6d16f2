//! What users read.

use std::io::Read;

use http::{Method, StatusCode};

use crate::client::listing;
use crate::node::{Cluster, Fault};

#[tokio::test]
async fn a_listing_is_read_by_its_zip_and_by_its_id_as_it_was_sent() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let put = client.put("a", "94110-1234", 5, 1_000).await;
    assert_eq!(put.json()["outcome"], "applied");
    let minified = listing("a", "94110-1234", 5, 1_000).replace(' ', "");
    let zip = client.get("/v1/zips/94110/listings").await;
    assert_eq!((zip.status, zip.text()), (StatusCode::OK, &*format!("[{minified}]")));
    assert_eq!(zip.header("platbook-count"), Some("1"));
    assert_eq!(zip.header("content-type"), Some("application/json"));
    assert!(zip.header("platbook-token").is_some_and(|token| !token.is_empty()));
    let one = client.get("/v1/listings/a").await;
    assert_eq!((one.status, one.text()), (StatusCode::OK, &*minified));
    assert_eq!(one.header("platbook-zip"), Some("94110"));
    let revision = put.json()["revision"].as_str().unwrap().to_string();
    assert_eq!(one.header("platbook-revision"), Some(&*revision));
    assert_eq!(one.header("etag"), Some(&*format!("\"{revision}\"")));
    let headers = [("if-none-match", one.header("etag").unwrap())];
    let again = client.ask(Method::GET, "/v1/listings/a", &headers, "").await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn listings_are_compared_in_the_order_asked() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 1_000).await;
    client.put("b,c", "94111", 2, 1_000).await;
    let found = client.get("/v1/listings?ids=b%2Cc,none,a&fields=ListPrice").await;
    assert_eq!(found.text(), r#"[{"ListPrice":2},null,{"ListPrice":1}]"#);
    let many = vec!["x"; 101].join(",");
    let refused = client.get(&format!("/v1/listings?ids={many}")).await;
    assert_eq!(refused.problem(), (400, "too_many_ids".to_string()));
}

#[tokio::test]
async fn an_unknown_zip_is_empty_and_garbage_is_refused() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let empty = client.get("/v1/zips/00000/listings").await;
    assert_eq!((empty.status, empty.text()), (StatusCode::OK, "[]"));
    assert_eq!(empty.header("platbook-count"), Some("0"));
    let headers = [("accept", "application/x-ndjson")];
    let empty = client.ask(Method::GET, "/v1/zips/unknown/listings", &headers, "").await;
    assert_eq!((empty.status, empty.text()), (StatusCode::OK, ""));
    let bad = client.get("/v1/zips/9411/listings").await;
    assert_eq!(bad.problem(), (400, "bad_zip".to_string()));
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again_and_what_did_is() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 1_000).await;
    let first = client.get("/v1/zips/94110/listings").await;
    let scans = cluster.calls("scan");
    let headers = [("if-none-match", first.header("etag").unwrap())];
    let path = "/v1/zips/94110/listings";
    let second = client.ask(Method::GET, path, &headers, "").await;
    assert_eq!((second.status, second.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(cluster.calls("scan"), scans, "one small read answers it");
    client.put("a", "94110", 2, 2_000).await;
    let third = client.ask(Method::GET, path, &headers, "").await;
    assert_eq!(third.status, StatusCode::OK);
    assert_eq!(third.json()[0]["ListPrice"], 2);
}

#[tokio::test]
async fn a_cached_response_is_checked_before_every_use() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    client.put("a", "94110", 1, 1_000).await;
    let first = client.get("/v1/zips/94110/listings").await;
    let scans = cluster.calls("scan");
    let mut cached = client.get("/v1/zips/94110/listings").await;
    // The response is kept only after its end was sent.
    while cluster.calls("scan") > scans {
        let before = cluster.calls("scan");
        cached = client.get("/v1/zips/94110/listings").await;
        if cluster.calls("scan") == before {
            break;
        }
    }
    assert_eq!(cached.body, first.body);
    assert_eq!(cached.header("etag"), first.header("etag"));
    for price in 2..20 {
        client.put("a", "94110", price, 1_000 * price).await;
        let fresh = client.get("/v1/zips/94110/listings").await;
        assert_eq!(fresh.json()[0]["ListPrice"], price);
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    for i in 0..7 {
        client.put(&format!("id{i}"), "94110", i, 1_000).await;
    }
    let mut path = "/v1/zips/94110/listings?limit=3&min_price=1".to_string();
    let mut pages = Vec::new();
    loop {
        let page = client.get(&path).await;
        assert_eq!(page.header("platbook-count"), Some("7"), "before filter and limit");
        let prices: Vec<u64> = page
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["ListPrice"].as_u64().unwrap())
            .collect();
        pages.push(prices);
        let Some(next) = page.header("platbook-next") else { break };
        path = format!("/v1/zips/94110/listings?limit=3&min_price=1&cursor={next}");
    }
    assert_eq!(pages, [vec![1, 2, 3], vec![4, 5, 6]]);
}

#[tokio::test]
async fn formats_fields_and_codings_show_the_same_listings() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    for i in 0..300 {
        client.put(&format!("id{i:03}"), "94110", i, 1_000).await;
    }
    let plain = client.get("/v1/zips/94110/listings").await;
    for coding in ["gzip", "zstd"] {
        let headers = [("accept-encoding", coding)];
        let coded = client.ask(Method::GET, "/v1/zips/94110/listings", &headers, "").await;
        assert_eq!(coded.header("content-encoding"), Some(coding));
        assert!(coded.body.len() * 2 < plain.body.len());
        let mut text = Vec::new();
        match coding {
            "gzip" => {
                flate2::read::GzDecoder::new(&coded.body[..]).read_to_end(&mut text).unwrap();
            }
            _ => text = zstd::decode_all(&coded.body[..]).unwrap(),
        }
        assert_eq!(text, plain.body);
    }
    let headers = [("accept", "application/x-ndjson")];
    let path = "/v1/zips/94110/listings?fields=ListPrice&max_price=1";
    let lines = client.ask(Method::GET, path, &headers, "").await;
    assert_eq!(lines.text(), "{\"ListPrice\":0}\n{\"ListPrice\":1}\n");
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
}

#[tokio::test]
async fn a_scan_that_breaks_off_is_never_a_whole_response() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    for i in 0..5 {
        client.put(&format!("id{i}"), "94110", i, 1_000).await;
    }
    for bytes in [0, 40, 200] {
        cluster.fail("scan", [Fault::CutScan(bytes)]);
        let cut = client.try_ask(Method::GET, "/v1/zips/94110/listings", &[], "").await;
        assert!(cut.is_err(), "{cut:?}");
        cluster.fail("scan", [Fault::CutScan(bytes)]);
        let page = client.get("/v1/zips/94110/listings?limit=4").await;
        assert_eq!(page.problem(), (503, "shard_unavailable".to_string()));
    }
    assert_eq!(client.ids("94110").await.len(), 5);
}

#[tokio::test]
async fn every_response_has_an_id_and_every_error_a_code() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let missing = client.get("/v1/nothing").await;
    assert_eq!(missing.problem(), (404, "not_found".to_string()));
    assert!(missing.header("x-request-id").is_some());
    let wrong = client.ask(Method::PATCH, "/v1/listings/a", &[("x-request-id", "mine")], "").await;
    assert_eq!(wrong.problem(), (405, "method_not_allowed".to_string()));
    assert_eq!(wrong.header("x-request-id"), Some("mine"));
    let none = client.get("/v1/listings/none").await;
    assert_eq!(none.problem(), (404, "listing_not_found".to_string()));
    for path in ["/v1/zips/94110/listings?color=red", "/v1/listings", "/v1/listings/a?x=1"] {
        assert_eq!(client.get(path).await.problem(), (400, "bad_query".to_string()), "{path}");
    }
    assert_eq!(client.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(client.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(client.get("/v1/version").await.json()["protocol"], 1);
    let metrics = client.get("/metrics").await;
    assert!(metrics.text().contains("platbook_router_responses_total{route=\"other\""));
}

#[tokio::test]
async fn the_cluster_is_shown_with_its_leaders() {
    let cluster = Cluster::with(3, Default::default()).await;
    let shown = cluster.client.get("/v1/cluster").await.json();
    assert_eq!(shown["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["nodes"][2]["reachable"], true);
    let shard = &shown["shards"][1];
    assert_eq!(shard["leader"], 1);
    assert_eq!(shard["replicas"][0]["seq"], "18446744073709551615");
}
