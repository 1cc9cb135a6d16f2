//! The change stream over HTTP, on a real installation.

mod installation;

use std::collections::{BTreeMap, BTreeSet};

use installation::{ZIPS, cluster, command, listing};
use platbook_chaos_tests::{Cluster, http};
use platbook_protocol::token::{Position, Token};
use platbook_protocol::{Seq, ShardId};
use serde_json::Value;

/// Events and control lines of a response that ends.
async fn lines(cluster: &Cluster, query: &str) -> Vec<Value> {
    let path = format!("/v1/changes?live=false&{query}");
    let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let text = answer.text();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn events(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line.get("control").is_none()).collect()
}

fn controls(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["control"].as_str()).collect()
}

/// The last token told.
fn token(lines: &[Value]) -> String {
    let last = lines.iter().rev().find_map(|line| line["token"].as_str());
    last.expect("a response tells where it ends").to_string()
}

async fn put(cluster: &Cluster, listing: &str) {
    let body = format!("{{\"op\":\"upsert\",\"listing\":{listing}}}");
    let answer = http::post(&cluster.router_address, "/v1/listings", &[], body).await;
    let answer = answer.expect("an answer");
    assert!(answer.text().contains("\"applied\":1"), "{}", answer.text());
}

/// Listings by ZIP and id, as the events add up.
fn apply(state: &mut BTreeMap<(String, String), Value>, lines: &[Value]) {
    for event in events(lines) {
        let text = |name: &str| event[name].as_str().expect("a text").to_string();
        let key = (text("zip"), text("id"));
        match event["op"].as_str() {
            Some("upsert") => drop(state.insert(key, event["listing"].clone())),
            _ => drop(state.remove(&key).expect("only what is there leaves")),
        }
    }
}

/// The same, as the store lists them.
async fn stored(cluster: &Cluster) -> BTreeMap<(String, String), Value> {
    let mut state = BTreeMap::new();
    for zip in ZIPS {
        let path = format!("/v1/zips/{zip}/listings");
        let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
        let listings: Vec<Value> = serde_json::from_slice(&answer.body).expect("listings");
        for listing in listings {
            let id = listing["ListingKey"].as_str().expect("an id").to_string();
            state.insert((zip.to_string(), id), listing);
        }
    }
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_and_then_the_changes_add_up_to_what_is_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    for number in 0..30 {
        put(&cluster, &listing(number, 100_000)).await;
    }
    let mut state = BTreeMap::new();
    let told = lines(&cluster, "from=beginning").await;
    assert_eq!(events(&told).len(), 30);
    assert!(controls(&told).contains(&"state-end"), "{told:?}");
    apply(&mut state, &told);
    assert_eq!(state, stored(&cluster).await);

    // Prices change, listings move to another ZIP, and nodes die meanwhile.
    let mut at = token(&told);
    for round in 0..3 {
        cluster.kill_node(round).expect("it dies");
        for number in 0..10 {
            put(&cluster, &listing(number, 200_000 + round)).await;
            put(&cluster, &listing(number + 1, 300_000 + round)).await;
        }
        let moved = listing(20 + round, 1).replace(ZIPS[(20 + round) % 3], ZIPS[round % 3]);
        if moved != listing(20 + round, 1) {
            put(&cluster, &moved).await;
        }
        let told = lines(&cluster, &format!("from={at}")).await;
        assert!(events(&told).len() >= 20, "{told:?}");
        apply(&mut state, &told);
        at = token(&told);
        cluster.restart_node(round).await.expect("it comes back");
        assert_eq!(state, stored(&cluster).await, "round {round}");
    }
    // Every change once: the same stretch again is the same.
    let (first, again) = (lines(&cluster, &format!("from={at}")).await, at);
    assert!(events(&first).is_empty(), "{first:?} behind {again}");
    let history = lines(&cluster, "from=beginning&mode=history&body=false").await;
    let mut seqs: BTreeMap<u64, u64> = BTreeMap::new();
    for event in events(&history) {
        let seq: u64 = event["seq"].as_str().expect("a text").parse().expect("a number");
        let last = seqs.insert(event["shard"].as_u64().expect("a number"), seq);
        assert_eq!(seq, last.unwrap_or(0) + 1, "dense from the first: {event}");
        assert!(event.get("listing").is_none(), "{event}");
    }
    cluster.stop().await.expect("all end in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_what_follows_its_token_is_the_list_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let zip = ZIPS[0];
    let path = format!("/v1/zips/{zip}/listings");
    for round in 0..8 {
        for number in 0..12 {
            put(&cluster, &listing(number, 1_000 * (round + 1) + number)).await;
        }
        let list = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
        let at = list.header("platbook-token").expect("a token").to_string();
        let mut state = BTreeMap::new();
        for listing in serde_json::from_slice::<Vec<Value>>(&list.body).expect("listings") {
            let id = listing["ListingKey"].as_str().expect("an id").to_string();
            state.insert((zip.to_string(), id), listing);
        }
        for number in round..round + 5 {
            put(&cluster, &listing(number, 50_000 + round)).await;
        }
        let told = lines(&cluster, &format!("from={at}&zip={zip}")).await;
        apply(&mut state, &told);
        let mut later = stored(&cluster).await;
        later.retain(|(at, _), _| at == zip);
        assert_eq!(state, later, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_tell_what_comes_and_goes_and_which_changes_they_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let at = token(&lines(&cluster, "from=now").await);
    for price in [100, 200, 50, 300] {
        put(&cluster, &listing(0, price)).await;
    }
    put(&cluster, &listing(1, 10)).await;
    let told = lines(&cluster, &format!("from={at}&zip={}&max_price=150", ZIPS[0])).await;
    let passages: Vec<&str> =
        events(&told).iter().map(|event| event["filter"].as_str().expect("a text")).collect();
    assert_eq!(passages, ["enter", "leave", "enter", "leave"]);
    let cheap = lines(&cluster, &format!("from={at}&zip={}&max_price=60&op=upsert", ZIPS[0])).await;
    let seqs: Vec<&str> =
        events(&cheap).iter().map(|event| event["seq"].as_str().expect("a text")).collect();
    let skips: Vec<(&str, &str)> = cheap
        .iter()
        .filter(|line| line["control"] == "skip")
        .map(|line| (line["first"].as_str().expect("text"), line["last"].as_str().expect("text")))
        .collect();
    assert_eq!((seqs.len(), skips.len()), (2, 1), "{cheap:?}");
    // What is told and what is left out is everything, so the token moves on over both.
    assert_eq!(token(&told), token(&cheap));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_goes_on_from_where_it_was_and_shows_people_a_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    for number in 0..4 {
        put(&cluster, &listing(number, 100 + number)).await;
    }
    let state = follow(&cluster, &["--from", "beginning", "--limit", "4"]);
    let ids: BTreeSet<String> = state
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].to_string())
        .collect();
    assert_eq!((state.lines().count(), ids.len()), (4, 4), "{state}");

    let at = token(&lines(&cluster, "from=now").await);
    for number in 0..5 {
        put(&cluster, &listing(number, 500 + number)).await;
    }
    let position = dir.path().join("position").display().to_string();
    let from = ["--from", &at, "--position", &position, "--limit"];
    let first = follow(&cluster, &[&from[..], &["3"]].concat());
    let rest = follow(&cluster, &[&from[..], &["2", "-o", "table"]].concat());
    let rows: Vec<&str> = rest.lines().collect();
    assert_eq!((first.lines().count(), rows.len()), (3, 3), "a title and the rest: {rest}");
    assert!(rows[0].contains("BEFORE"), "{rest}");
    for number in 0..5 {
        // The listing's key stands in a line of JSON twice: as id and in its body.
        let id = format!("L0000{number}");
        let told = first.matches(&id).count() / 2 + rest.matches(&id).count();
        assert_eq!(told, 1, "{id}: {first}{rest}");
    }
    let until_now = ["--from", &at, "--until-now", "--no-body"];
    let count = |more: &[&str]| follow(&cluster, &[&until_now, more].concat()).lines().count();
    assert_eq!((count(&[]), count(&["--op", "upsert"]), count(&["--op", "delete"])), (5, 5, 0));
    let by_shard = (1..=4).map(|shard| count(&["--shard", &shard.to_string()]));
    assert_eq!(by_shard.sum::<usize>(), 5, "every shard has its own");
    let bad = command(&cluster, "changes").args(["--from", "nonsense"]).output().expect("it runs");
    let error = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(1) && error.lines().count() == 1, "{error}");
    assert!(error.contains("token"), "{error}");
}

/// `platbook changes`, run to its end.
fn follow(cluster: &Cluster, args: &[&str]) -> String {
    let output = command(cluster, "changes").args(args).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Asks, and gives status and code.
async fn refused(cluster: &Cluster, query: &str) -> (u16, String) {
    let path = format!("/v1/changes?{query}");
    let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, problem["code"].as_str().unwrap_or_default().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_is_refused_with_its_own_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    put(&cluster, &listing(0, 1)).await;
    let good = token(&lines(&cluster, "from=now").await);
    let decoded = Token::decode(&good).expect("a token");
    let with = |change: &dyn Fn(&mut Token)| {
        let mut token = decoded.clone();
        change(&mut token);
        token.encode().expect("short")
    };
    let foreign = with(&|token| token.cluster.0 ^= 1);
    let earlier = with(&|token| token.incarnation += 1);
    let future = with(&|token| {
        token.shards.insert(ShardId(1), Position::Follow { seq: Seq(1 << 40) });
    });
    let partial = with(&|token| drop(token.shards.remove(&ShardId(2))));
    let nowhere = with(&|token| {
        let cursor = b"no key of a row".to_vec();
        token.shards.insert(ShardId(1), Position::State { seq: Seq(0), cursor });
    });
    let cases = [
        ("x".to_string(), 400, "bad_token"),
        (good[..good.len() - 2].to_string(), 400, "bad_token"),
        ("A".repeat(8_192), 400, "token_too_long"),
        (foreign, 400, "token_cluster"),
        (earlier, 410, "token_incarnation"),
        (future, 400, "token_future"),
        (partial, 400, "token_scope"),
        (nowhere, 400, "token_scope"),
    ];
    for (token, status, code) in cases {
        let answered = refused(&cluster, &format!("live=false&from={token}")).await;
        assert_eq!(answered, (status, code.to_string()), "{token:.40}");
    }
    // No bit can be turned without being noticed.
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).expect("ASCII");
        let (status, code) = refused(&cluster, &format!("live=false&from={token}")).await;
        assert!(status == 400 && code == "bad_token", "{at}: {status} {code}");
    }
    for (query, status, code) in [
        ("mode=fast", 400, "unknown_mode"),
        ("min_price=2&max_price=1", 400, "impossible_filter"),
        ("speed=1", 400, "bad_query"),
        ("zip=9810", 400, "bad_zip"),
        ("shard=99", 400, "bad_query"),
        ("shard=0", 400, "bad_query"),
        ("wait=5", 400, "bad_query"),
        ("heartbeat=0", 400, "bad_query"),
    ] {
        assert_eq!(refused(&cluster, query).await, (status, code.to_string()), "{query}");
    }
    let large = "A".repeat(1 << 20);
    let body = format!("{{\"from\":\"{large}\"}}");
    let answer = http::post(&cluster.router_address, "/v1/changes", &[], body).await;
    let problem: Value = serde_json::from_slice(&answer.expect("an answer").body).expect("JSON");
    assert_eq!(problem["code"], "token_too_long");
    let large = format!("from={large}");
    let answer = http::get(&cluster.router_address, &format!("/v1/changes?{large}"), &[]).await;
    let status = answer.map(|answer| answer.status);
    assert!(matches!(status, Err(_) | Ok(400..=499)), "{status:?}");
    assert_eq!(refused(&cluster, &format!("live=false&from={good}")).await.0, 200);
}
