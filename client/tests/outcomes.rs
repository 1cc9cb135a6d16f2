//! The three outcomes of a call, whatever the network does.

mod scripted;

use std::time::Duration;

use bytes::Bytes;
use platbook_client::{Client, ClientConfig, Error, Outcome, WriteOptions, ZipQuery};
use platbook_protocol::{ListingId, Revision, Zip};
use scripted::{Reply, Scripted, json, problem};
use serde_json::json as value;

fn client(router: &Scripted) -> Client {
    let client = Client::new(&router.url).expect("a valid url");
    client.with_deadline(Duration::from_millis(1_500))
}

fn id() -> ListingId {
    ListingId::try_new("a/b").expect("valid")
}

fn cut() -> Reply {
    Err(std::io::Error::other("cut"))
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_sent_again_with_the_same_time() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => cut(),
            2 => problem(503, "shard_unavailable"),
            _ => json(200, value!({"outcome": "duplicate", "revision": "9007199254740993"})),
        }
    })
    .await;
    let listing = Bytes::from_static(b"{}");
    let answer = client(&router).put(&id(), listing, WriteOptions::default()).await;
    let answer = answer.expect("is answered");
    assert_eq!(answer.outcome, Outcome::Duplicate);
    assert_eq!(answer.revision, Some(Revision(9_007_199_254_740_993)));
    let calls = router.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0].path, "/v1/listings/a%2Fb");
    assert!(calls.iter().all(|c| c.headers["platbook-sent"] == calls[0].headers["platbook-sent"]));
    let left = |n: usize| calls[n].headers["x-deadline-ms"].to_str().map(str::parse::<u64>);
    assert!(matches!((left(0), left(2)), (Ok(Ok(a)), Ok(Ok(b))) if a > b && a <= 1_500));
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_unknown_to_the_end() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => problem(504, "outcome_unknown"),
            _ => problem(503, "shard_unavailable"),
        }
    })
    .await;
    let error = client(&router).delete(&id(), WriteOptions::default()).await.expect_err("fails");
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
    assert!(!error.retryable());

    let router = Scripted::start(|call| async move {
        match call.number {
            1 => cut(),
            _ => problem(412, "precondition_failed"),
        }
    })
    .await;
    let error = client(&router).delete(&id(), WriteOptions::default()).await.expect_err("fails");
    let code = error.problem().map(|problem| problem.code.clone());
    assert!(matches!(error, Error::Unknown { .. }), "a refusal of the second says nothing");
    assert_eq!(code.as_deref(), Some("precondition_failed"));
}

#[tokio::test]
async fn a_write_that_nobody_took_had_no_effect() {
    let router = Scripted::start(|_| async { problem(429, "overloaded") }).await;
    let error = client(&router).delete(&id(), WriteOptions::default()).await.expect_err("fails");
    assert!(matches!(error, Error::Unavailable { .. }) && error.retryable(), "{error}");
    assert!(router.calls().len() > 1);
    let url = router.url.clone();
    drop(router);
    let client = Client::new(&url).expect("a valid url").with_deadline(Duration::from_millis(300));
    let error = client.delete(&id(), WriteOptions::default()).await.expect_err("fails");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_is_final_and_has_its_code() {
    let router = Scripted::start(|_| async { problem(400, "bad_json") }).await;
    let listing = Bytes::from_static(b"{");
    let error = client(&router).put(&id(), listing, WriteOptions::default()).await;
    let error = error.expect_err("refused");
    assert!(matches!(&error, Error::Refused(problem) if problem.code == "bad_json"), "{error}");
    assert_eq!(router.calls().len(), 1);
    let router = Scripted::start(|_| async { problem(404, "listing_not_found") }).await;
    assert_eq!(client(&router).get(&id()).await.expect("is answered"), None);
}

#[tokio::test]
async fn a_zip_comes_line_by_line_over_either_http_and_never_ends_early() {
    for http1 in [false, true] {
        let router = Scripted::start(|call| async move {
            let body = if call.path.contains("limit=1") { "{\"a\":1}\n{\"b\"" } else { "{}\n[]\n" };
            let answer = http::Response::builder().header("platbook-count", "2");
            Ok(answer.body(http_body_util::Full::from(body)).expect("valid"))
        })
        .await;
        let config = ClientConfig { router: router.url.clone(), http1, ..ClientConfig::default() };
        let client = Client::try_with(&config).expect("a valid url");
        let zip = client.zip(&Zip::Unknown, &ZipQuery::default()).await.expect("is answered");
        assert_eq!(zip.count(), Some(2));
        assert_eq!(zip.try_collect().await.expect("is whole"), ["{}", "[]"]);
        let query = ZipQuery { limit: Some(1), ..ZipQuery::default() };
        let mut zip = client.zip(&Zip::Unknown, &query).await.expect("is answered");
        assert_eq!(zip.try_next().await.expect("whole"), Some(Bytes::from_static(b"{\"a\":1}")));
        assert!(matches!(zip.try_next().await, Err(Error::BrokenStream { .. })));
    }
}

#[tokio::test]
async fn lists_come_by_pages() {
    let router = Scripted::start(|call| async move {
        let last = call.path.ends_with("cursor=n%2F2");
        let answer = http::Response::builder();
        let answer = if last { answer } else { answer.header("platbook-next", "n/2") };
        Ok(answer.body(http_body_util::Full::from("{\"id\":1}\n{\"id\":2}\n")).expect("valid"))
    })
    .await;
    let first = client(&router).suspects(2, None).await.expect("is answered");
    assert_eq!((first.items.len(), first.next.as_deref()), (2, Some("n/2")));
    let last = client(&router).suspects(2, first.next.as_deref()).await.expect("is answered");
    assert_eq!(last.next, None);
}
