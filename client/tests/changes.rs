//! The stream of changes over real connections: where it goes on when one ends, and when it stops.

mod scripted;

use bytes::Bytes;
use http_body_util::Full;
use platbook_client::changes::{Filter, Mirror, Start};
use platbook_client::{Changes, Client, Error, Event, ListingId};
use platbook_protocol::map::ClusterId;
use platbook_protocol::token::{Position, Token as Vector};
use platbook_protocol::{Seq, ShardId};
use scripted::{Call, Reply, Scripted, json, problem};
use serde_json::json as value;

/// A token at change `seq` of the one shard there is.
fn follow(seq: u64) -> String {
    encode(Position::Follow { seq: Seq(seq) })
}

fn state(seq: u64) -> String {
    encode(Position::State { seq: Seq(seq), cursor: Vec::new() })
}

fn encode(position: Position) -> String {
    let shards = [(ShardId(1), position)].into();
    let vector = Vector { cluster: ClusterId(1), incarnation: 1, epoch: 1, shards };
    vector.encode().expect("is short")
}

/// A change; each listing is in a ZIP of its own.
fn upsert(seq: u64, id: &str) -> String {
    event(seq, "feed", id)
}

/// A row of present state.
fn row(seq: u64, id: &str) -> String {
    event(seq, "state", id)
}

fn event(seq: u64, reason: &str, id: &str) -> String {
    let (zip, listing) = (format!("981{seq:02}"), value!({"ListPrice": 1}));
    let seq = seq.to_string();
    let line = value!({"shard": 1, "seq": seq, "prev": "0", "op": "upsert", "reason": reason,
        "id": id, "zip": zip, "revision": seq, "at": 7, "listing": listing});
    format!("{line}\n")
}

fn control(name: &str, token: &str) -> String {
    format!("{}\n", value!({"control": name, "token": token}))
}

fn body(text: String) -> Reply {
    Ok(http::Response::new(Full::from(Bytes::from(text))))
}

/// The position that a call asks for.
fn from(call: &Call) -> String {
    let from = call.path.split("from=").nth(1).unwrap_or_default();
    from.split('&').next().unwrap_or_default().to_string()
}

async fn ids(changes: &mut Changes, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        match changes.try_next().await.expect("goes on") {
            Some(Event::Change(change)) => ids.push(change.id.to_string()),
            Some(_) => {}
            None => panic!("it ended behind {ids:?}"),
        }
    }
    ids
}

fn client(router: &Scripted) -> Client {
    Client::new(&router.url).expect("a valid url")
}

#[tokio::test]
async fn it_goes_on_at_the_next_change_whenever_a_connection_ends() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => {
                body(control("resolved", &follow(1)) + &upsert(2, "b") + &upsert(3, "c") + "{\"sh")
            }
            2 => problem(503, "shard_unavailable"),
            3 => Err(std::io::Error::other("cut")),
            4 => body(String::new()),
            // It begins before the position: what is known is not told again.
            5 => body(upsert(3, "c") + &upsert(4, "d")),
            _ => body(upsert(5, "e")),
        }
    })
    .await;
    let filter = Filter::new().zip("98103").status("Active");
    let changes = client(&router).changes().from(Start::Now).filter(filter).follow();
    let mut changes = changes.expect("valid");
    assert_eq!(changes.token(), None);
    assert_eq!(ids(&mut changes, 4).await, ["b", "c", "d", "e"]);
    assert_eq!(changes.token().expect("stands").as_str(), follow(5));
    let asked: Vec<String> = router.calls().iter().map(from).collect();
    let (second, third) = (follow(3), follow(4));
    assert_eq!(asked, ["now", &second, &second, &second, &second, &third]);
    let path = &router.calls()[0].path;
    assert!(path.contains("zip=98103&status=Active") && path.contains("mode=state"), "{path}");
}

#[tokio::test]
async fn where_changes_are_gone_the_state_is_told_again_and_a_mirror_drops_the_rest() {
    let gone = || {
        let resync = state(9);
        json(410, value!({"status": 410, "code": "token_too_old", "detail": "d", "resync": resync}))
    };
    let router = Scripted::start(move |call| async move {
        if from(&call) != state(9) {
            return gone();
        }
        let begin = control("resync-begin", &state(9));
        body(begin + &row(8, "kept") + &control("state-end", &follow(9)) + &upsert(10, "new"))
    })
    .await;
    let old = follow(2);
    let mut mirror = Mirror::new();
    let told = |id: &str| {
        let line = upsert(1, id);
        body(control("resolved", &follow(0)) + &line + &upsert(2, "dropped"))
    };
    // What the reader had before it fell behind.
    let before = Scripted::start(move |_| {
        let reply = told("kept");
        async move { reply }
    })
    .await;
    let mut changes = client(&before).changes().follow().expect("valid");
    while mirror.len() < 2 {
        let event = changes.try_next().await.expect("goes on").expect("has no end");
        mirror.apply(&event, |_| "old");
    }
    let token = platbook_client::Token::from(old);
    let mut changes = client(&router).changes().from(&token).follow().expect("valid");
    let new = ListingId::try_new("new").expect("an id");
    while mirror.get(&new).is_none() {
        let event = changes.try_next().await.expect("goes on").expect("has no end");
        mirror.apply(&event, |_| "new");
    }
    let mut left: Vec<(&str, &str)> =
        mirror.iter().map(|(id, _, value)| (id.as_str(), *value)).collect();
    left.sort_unstable();
    assert_eq!(left, [("kept", "new"), ("new", "new")]);

    let history = client(&router).changes().from(&token).history().follow();
    let error = history.expect("valid").try_next().await.expect_err("history has a hole");
    assert!(error.problem().is_some_and(|problem| problem.code == "token_too_old"), "{error}");
}

#[tokio::test]
async fn what_trying_again_cannot_mend_ends_it() {
    let router = Scripted::start(|_| async { problem(400, "bad_token") }).await;
    let token = platbook_client::Token::from("damaged");
    let mut changes = client(&router).changes().from(token).follow().expect("valid");
    let error = changes.try_next().await.expect_err("is refused");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(changes.try_next().await.expect("is over"), None);
    assert_eq!(router.calls().len(), 1);
    let wrong = client(&router).changes().filter(Filter::new().zip("9810")).follow();
    assert!(wrong.is_err(), "no ZIP");
}

#[tokio::test]
async fn a_gap_that_stays_is_told_and_never_stepped_over() {
    let router = Scripted::start(|call| async move {
        match call.number {
            1 => body(control("resolved", &follow(1)) + &upsert(2, "b") + &upsert(4, "d")),
            _ => body(upsert(4, "d")),
        }
    })
    .await;
    let mut changes = client(&router).changes().follow().expect("valid");
    assert_eq!(ids(&mut changes, 1).await, ["b"]);
    let error = changes.try_next().await.expect_err("change 3 never comes");
    let told = platbook_client::error::chain(&error);
    assert!(told.contains("change 4 came behind 2"), "{told}");
    assert_eq!(changes.token().expect("stands").as_str(), follow(2));
    let asked: Vec<String> = router.calls().iter().skip(1).map(from).collect();
    assert!(asked.len() >= 2 && asked.iter().all(|from| *from == follow(2)), "{asked:?}");
}

#[tokio::test]
async fn who_gives_up_after_a_while_is_told_what_happened() {
    let router = Scripted::start(|_| async { problem(503, "not_ready") }).await;
    let patience = std::time::Duration::from_millis(200);
    let changes = client(&router).changes().give_up_after(patience).follow();
    let error = changes.expect("valid").try_next().await.expect_err("nobody serves it");
    assert!(matches!(error, Error::Unavailable { .. }) && error.retryable(), "{error}");
}

#[tokio::test]
async fn readers_that_do_not_read_hold_up_nobody_else() {
    let router = Scripted::start(|call| async move {
        match call.path.starts_with("/v1/changes") {
            false => problem(404, "listing_not_found"),
            // More than a stream's share of a connection's window.
            true => {
                let line =
                    format!("{{\"control\":\"x\",\"padding\":\"{}\"}}\n", "x".repeat(1 << 20));
                body(upsert(1, "a") + &line.repeat(6))
            }
        }
    })
    .await;
    let patience = std::time::Duration::from_secs(5);
    let client = client(&router).with_deadline(patience);
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut changes = client.changes().follow().expect("valid");
        let first = tokio::time::timeout(patience, ids(&mut changes, 1)).await;
        assert_eq!(first.expect("it is not held up by the others"), ["a"]);
        stalled.push(changes);
    }
    assert_eq!(client.get("a").await.expect("is answered in time"), None);
    assert_eq!(stalled.len(), 6);
}

#[tokio::test]
async fn who_wants_an_end_gets_it_where_everything_is_told_and_nowhere_else() {
    let router = Scripted::start(|call| async move {
        match call.number {
            // A router that is stopped ends its answers too.
            1 => body(control("resolved", &follow(1)) + &upsert(2, "b")),
            _ => body(upsert(3, "c") + &control("end", &follow(3))),
        }
    })
    .await;
    let changes = client(&router).changes().filter(Filter::new().upserts()).until_now().follow();
    let (mut changes, mut told) = (changes.expect("valid"), Vec::new());
    while let Some(event) = changes.try_next().await.expect("goes on") {
        if let Event::Change(change) = event {
            told.push(change.id.to_string());
        }
    }
    assert_eq!(told, ["b", "c"]);
    assert_eq!(changes.token().expect("stands").as_str(), follow(3));
    let path = &router.calls()[0].path;
    assert!(path.contains("live=false") && path.contains("op=upsert"), "{path}");
}
