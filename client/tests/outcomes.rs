//! The three outcomes of a call, whatever the network does.

mod scripted;

use std::time::Duration;

use platbook_client::{Client, Error, Outcome, Revision, WriteError};
use scripted::{Reply, Scripted, json, problem};
use serde_json::json as value;

fn client(router: &Scripted) -> Client {
    let client = Client::new(&router.url).expect("a valid url");
    client.with_deadline(Duration::from_millis(1_500))
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
    let answer = client(&router).put("a/b", "{}").await.expect("is answered");
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
    let error = client(&router).delete("a").await.expect_err("fails");
    assert!(matches!(error, WriteError::Unknown(_)), "{error}");

    let router = Scripted::start(|call| async move {
        match call.number {
            1 => cut(),
            _ => problem(412, "precondition_failed"),
        }
    })
    .await;
    let error = client(&router).delete("a").if_match(Revision(1)).await.expect_err("fails");
    let code = error.problem().map(|problem| problem.code.clone());
    assert!(error.is_unknown(), "a refusal of the second says nothing");
    assert_eq!(code.as_deref(), Some("precondition_failed"));
}

#[tokio::test]
async fn an_unknown_write_is_found_out_by_sending_the_same_again() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => json(200, value!("no outcome")),
            _ => json(200, value!({"outcome": "duplicate", "revision": "7"})),
        }
    })
    .await;
    let client = client(&router);
    let error = client.put("a", "{}").await.expect_err("the answer says nothing");
    assert!(error.is_unknown() && error.retryable(), "{error}");
    let WriteError::Unknown(unknown) = error else { panic!("is unknown") };
    let write = unknown.into_write().expect("is given back");
    assert_eq!(client.send(&write).await.expect("is answered").outcome, Outcome::Duplicate);
    let calls = router.calls();
    assert_eq!(calls[0].headers["platbook-sent"], calls[1].headers["platbook-sent"]);
    assert_eq!((&calls[0].path, &calls[0].body), (&calls[1].path, &calls[1].body));
}

#[tokio::test]
async fn a_write_that_nobody_took_had_no_effect() {
    let router = Scripted::start(|_| async { problem(429, "overloaded") }).await;
    let error = client(&router).delete("a").await.expect_err("fails");
    let is_unavailable =
        |error: &WriteError| matches!(error, WriteError::NotDone(Error::Unavailable { .. }));
    assert!(is_unavailable(&error) && error.retryable(), "{error}");
    assert!(router.calls().len() > 1);
    let url = router.url.clone();
    drop(router);
    let client = Client::new(&url).expect("a valid url").with_deadline(Duration::from_millis(300));
    let error = client.delete("a").await.expect_err("fails");
    assert!(is_unavailable(&error), "{error}");
    let chain = platbook_client::error::chain(&error);
    assert!(chain.contains(&url) && chain.contains("refused"), "{chain}");
}

#[tokio::test]
async fn a_refusal_is_final_and_has_its_code() {
    let router = Scripted::start(|_| async { problem(400, "bad_json") }).await;
    let error = client(&router).put("a", "{").await.expect_err("refused");
    let WriteError::NotDone(Error::Refused(problem)) = &error else { panic!("{error}") };
    assert_eq!(problem.code, "bad_json");
    assert_eq!(router.calls().len(), 1);
}

#[tokio::test]
async fn a_listing_that_is_not_there_is_none() {
    let router = Scripted::start(|_| async { problem(404, "listing_not_found") }).await;
    assert_eq!(client(&router).get("a").await.expect("is answered"), None);
    let router = Scripted::start(|_| async { problem(404, "not_found") }).await;
    assert!(client(&router).get("a").await.is_err(), "a wrong path is no missing listing");
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_sent() {
    let router = Scripted::start(|_| async { json(200, value!({})) }).await;
    let client = client(&router);
    let is_argument = |error: &Error| matches!(error, Error::Argument(_));
    assert!(client.get("").await.is_err_and(|e| is_argument(&e)));
    assert!(client.zip("9810").collect().await.is_err_and(|e| is_argument(&e)));
    assert!(client.compare(["a", "\u{7}"]).await.is_err_and(|e| is_argument(&e)));
    assert!(!client.delete("\n").await.expect_err("no id").is_unknown());
    assert_eq!(router.calls().len(), 0);
}

#[tokio::test]
async fn a_router_that_is_gone_is_left_for_the_next() {
    let gone = Scripted::start(|_| async { json(200, value!({})) }).await;
    let url = gone.url.clone();
    drop(gone);
    let router = Scripted::start(|_| async { json(200, value!({"outcome": "applied"})) }).await;
    let client = Client::builder(&url).endpoint(&router.url).build().expect("valid urls");
    for _ in 0..3 {
        client.delete("a").await.expect("the second is there");
    }
    assert_eq!(router.calls().len(), 3);
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
        let builder = Client::builder(&router.url);
        let builder = if http1 { builder.http1() } else { builder };
        let client = builder.build().expect("a valid url");
        let zip = client.zip("unknown").stream().await.expect("is answered");
        assert_eq!(zip.count(), Some(2));
        let bodies: Vec<_> = zip.collect().await.expect("is whole");
        let bodies: Vec<_> = bodies.iter().map(|listing| &listing.body()[..]).collect();
        assert_eq!(bodies, [b"{}", b"[]"]);
        let mut zip = client.zip("unknown").limit(1).stream().await.expect("is answered");
        let first = zip.try_next().await.expect("whole").expect("there is one");
        assert_eq!(first.json::<serde_json::Value>().expect("JSON")["a"], 1);
        assert!(matches!(zip.try_next().await, Err(Error::BrokenStream { .. })));
        assert!(matches!(zip.try_next().await, Ok(None)), "nothing comes behind an error");
    }
}

#[tokio::test]
async fn a_zip_that_is_as_it_was_is_not_read_again() {
    let router = Scripted::start(|call| async move {
        let is_known = call.headers.get("if-none-match").is_some_and(|tag| tag == "W/\"7\"");
        let status = if is_known { 304 } else { 200 };
        let answer = http::Response::builder().status(status).header("etag", "W/\"7\"");
        Ok(answer.body(http_body_util::Full::default()).expect("valid"))
    })
    .await;
    let client = client(&router);
    let first = client.zip("98103").stream().await.expect("is answered");
    let etag = first.etag().expect("has one").to_string();
    let again = client.zip("98103").stream_if_changed(&etag).await.expect("is answered");
    assert!(again.is_none());
    assert!(client.zip("98103").stream_if_changed("W/\"6\"").await.expect("answers").is_some());
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
    let admin = client(&router).admin();
    let first = admin.suspects(2, None).await.expect("is answered");
    assert_eq!((first.items.len(), first.next.as_deref()), (2, Some("n/2")));
    let last = admin.suspects(2, first.next.as_deref()).await.expect("is answered");
    assert_eq!(last.next, None);
}
