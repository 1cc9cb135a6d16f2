//! Bulk writes: only what is not settled is sent again, and nothing is held without limit.

mod scripted;

use std::sync::Arc;
use std::time::Duration;

use platbook_client::{Client, Error, Message, TimeMs, WriteError};
use scripted::{Call, Reply, Scripted, json, problem};
use serde_json::{Value, json as value};
use tokio::sync::Semaphore;

fn client(router: &Scripted) -> Client {
    Client::new(&router.url).expect("a valid url")
}

fn lines(call: &Call) -> Vec<Value> {
    let lines = call.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line is JSON")).collect()
}

fn all_applied(call: &Call) -> Reply {
    json(200, value!({"applied": lines(call).len()}))
}

#[tokio::test]
async fn only_lines_that_are_not_settled_are_sent_again_as_they_were() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => json(
                200,
                value!({"applied": 1, "busy": [2], "rejected": [
                    {"line": 3, "code": "no_id", "detail": "d"},
                    {"line": 4, "code": "outcome_unknown", "detail": "d"},
                ]}),
            ),
            _ => json(200, value!({"applied": 1, "duplicate": 1})),
        }
    })
    .await;
    let bulk = client(&router).bulk().start();
    let mut acks = Vec::new();
    for id in ["a", "b", "c", "d"] {
        let message = Message::delete(id).expect("an id").at(TimeMs(7));
        acks.push(bulk.push(&message).await);
    }
    let report = bulk.finish().await;
    assert_eq!((report.applied, report.duplicate, report.not_done), (2, 1, 1), "{report:?}");
    assert!(!report.is_complete() && report.failures.is_empty(), "{report:?}");
    let mut ended = Vec::new();
    for ack in acks {
        ended.push(ack.await);
    }
    assert!(matches!(&ended[..], [Ok(()), Ok(()), Err(_), Ok(())]), "{ended:?}");
    let Err(WriteError::NotDone(Error::Refused(refused))) = &ended[2] else { panic!("{ended:?}") };
    assert_eq!(refused.code, "no_id");
    let calls = router.calls();
    let first = lines(&calls[0]);
    assert_eq!(lines(&calls[1]), [first[1].clone(), first[3].clone()]);
    assert_eq!(first[1], value!({"op": "delete", "id": "b", "sent": 7}));
}

#[tokio::test]
async fn what_may_have_been_done_is_unknown_and_what_was_not_taken_is_not_done() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => json(
                200,
                value!({"rejected": [
                    {"line": 1, "code": "outcome_unknown", "detail": "d"},
                    {"line": 2, "code": "shard_unavailable", "detail": "d"},
                ]}),
            ),
            _ => problem(503, "shard_unavailable"),
        }
    })
    .await;
    let bulk = client(&router).bulk().deadline(Duration::from_millis(200)).start();
    let unknown = bulk.delete("a").await.expect("an id");
    drop(bulk.delete("b").await.expect("an id"));
    let report = bulk.finish().await;
    assert_eq!((report.unknown, report.not_done, report.done()), (1, 1, 0), "{report:?}");
    assert!(unknown.await.is_err_and(|error| error.is_unknown()));
    let [(2, error)] = &report.failures[..] else { panic!("the other is awaited: {report:?}") };
    assert!(matches!(error, WriteError::NotDone(Error::Unavailable { .. })), "{error:?}");
}

#[tokio::test]
async fn who_pushes_faster_than_the_store_takes_waits() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let router = Scripted::start(move |call| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("is never closed").forget();
            all_applied(&call)
        }
    })
    .await;
    // Room for four messages.
    let bulk = client(&router).bulk().held_bytes_max(4 * 256).in_flight(1).start();
    for id in 0..4 {
        drop(bulk.delete(id.to_string()).await.expect("an id"));
    }
    let mut fifth = Box::pin(bulk.delete("5"));
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut fifth).await;
    assert!(waited.is_err(), "nothing is settled, so there is no room");
    opened.add_permits(100);
    drop(fifth.as_mut().await.expect("an id"));
    drop(fifth);
    let report = bulk.finish().await;
    assert_eq!((report.applied, report.is_complete()), (5, true));
}

#[tokio::test]
async fn a_batch_is_closed_by_lines_or_bytes_and_is_sent_at_once_when_idle() {
    let router = Scripted::start(|call| async move { all_applied(&call) }).await;
    let bulk = client(&router).bulk().batch_lines(3).in_flight(1).start();
    // Nobody lingers for more: the first is acknowledged before a second exists.
    bulk.delete("first").await.expect("an id").await.expect("is done");
    for id in 0..10 {
        drop(bulk.delete(id.to_string()).await.expect("an id"));
    }
    let report = bulk.finish().await;
    assert_eq!(report.applied, 11);
    let sizes: Vec<usize> = router.calls().iter().map(|call| lines(call).len()).collect();
    assert_eq!((sizes[0], sizes.iter().sum::<usize>()), (1, 11));
    assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
}

#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_fails_each_of_its_lines() {
    let router = Scripted::start(|_| async { problem(507, "disk_full") }).await;
    let bulk = client(&router).bulk().start();
    let body = r#"{"ListingKey":"a"}"#;
    let refused = bulk.put(body).await.expect("JSON").await.expect_err("the disk is full");
    assert!(refused.problem().is_some_and(|problem| problem.code == "disk_full"), "{refused}");
    let report = bulk.finish().await;
    assert_eq!((report.not_done, router.calls().len()), (1, 1));
}
