//! Readers whose changes are no longer in the log: told what they have left, or how to go on.

mod installation;

use std::collections::BTreeMap;
use std::time::Duration;

use installation::{ZIPS, cluster_with, listing};
use platbook_chaos_tests::{Cluster, http, wait};
use platbook_client::changes::{Event, Filter, Mirror};
use platbook_client::{Client, Listing, Token};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// A log that holds little, so that it is soon over its size.
const FLAGS: [&str; 6] =
    ["--log-segment-bytes", "8388608", "--log-bytes-max", "8388608", "--memory-max", "134217728"];
/// Listings that fill the log, and the bytes that each takes there, about.
const BALLAST: usize = 400;
const BALLAST_BYTES: usize = 80_000;
const WITHIN: Duration = Duration::from_secs(60);

fn client(cluster: &Cluster) -> Client {
    let url = format!("http://{}", cluster.router_address);
    Client::builder(url).deadline(WITHIN).build().expect("a valid url")
}

fn price(listing: &Listing) -> u64 {
    listing.json::<Value>().expect("JSON")["ListPrice"].as_u64().expect("a price")
}

/// Prices of a ZIP, by id, as the store has them.
async fn stored(client: &Client, zip: &str) -> BTreeMap<String, u64> {
    let listings = client.zip(zip).stream().await.expect("is answered");
    let listings = listings.collect().await.expect("is whole");
    let entry = |listing: &Listing| {
        let value: Value = listing.json().expect("JSON");
        (value["ListingKey"].as_str().expect("an id").to_string(), price(listing))
    };
    listings.iter().map(entry).collect()
}

fn mirrored(mirror: &Mirror<u64>, zip: &str) -> BTreeMap<String, u64> {
    let rows = mirror.zip(zip.parse().expect("a ZIP"));
    rows.map(|(id, price)| (id.to_string(), *price)).collect()
}

/// Applies everything up to now; gives the position, and what was told beside changes.
async fn follow(
    client: &Client,
    from: Option<&Token>,
    mirror: &mut Mirror<u64>,
) -> (Token, Vec<Event>) {
    let mut builder = client.changes().until_now();
    if let Some(token) = from {
        builder = builder.from(token);
    }
    let (mut changes, mut others) = (builder.follow().expect("valid"), Vec::new());
    while let Some(event) = changes.try_next().await.expect("goes on") {
        mirror.apply(&event, price);
        if !matches!(event, Event::Change(_)) {
            others.push(event);
        }
    }
    (changes.token().expect("stands somewhere"), others)
}

/// Writes more than the log holds, and lets every node forget what it need not keep.
async fn fill(cluster: &mut Cluster, client: &Client, rng: &mut StdRng) {
    let bulk = client.bulk().batch_lines(20).start();
    for number in 0..BALLAST {
        let noise: String =
            (0..BALLAST_BYTES).map(|_| char::from(rng.random_range(b'0'..=b'z'))).collect();
        let noise = noise.replace('\\', "/");
        let listing = json!({
            "ListingKey": format!("B{number:05}"), "PostalCode": ZIPS[number % ZIPS.len()],
            "ListPrice": number, "PublicRemarks": noise,
        });
        drop(bulk.put(listing.to_string()).await.expect("JSON"));
    }
    assert!(bulk.finish().await.is_complete());
    for node in 0..cluster.nodes.len() {
        // What is on disk when a node ends need not be kept for its next start.
        cluster.roll_node(node).await.expect("it comes back");
    }
}

/// Status, and the lines or the problem.
async fn ask(cluster: &Cluster, query: &str) -> (u16, Vec<Value>) {
    let path = format!("/v1/changes?live=false&body=false&{query}");
    let answer = http::get(&cluster.router_address, &path, &[]).await.expect("an answer");
    let text = answer.text();
    (answer.status, text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

fn controls<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["control"] == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_log_is_gone_rows_and_markers_tell_what_has_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster_with(dir.path(), &FLAGS).await;
    let client = client(&cluster);
    for number in 0..60 {
        client.put(format!("L{number:05}"), listing(number, 100)).await.expect("is written");
    }
    let mut mirror = Mirror::new();
    let (token, _) = follow(&client, None, &mut mirror).await;
    // While the reader is away some change, move, leave and come.
    for number in 0..20 {
        let id = format!("L{number:05}");
        let changed = match number % 4 {
            0 => client.delete(id).await,
            1 => client.put(id, listing(number, 200)).await,
            2 => {
                let (here, there) = (ZIPS[number % 3], ZIPS[(number + 1) % 3]);
                client.put(id, listing(number, 300).replace(here, there)).await
            }
            _ => client.put(format!("L{:05}", number + 1_000), listing(number + 1_000, 400)).await,
        };
        changed.expect("is written");
    }
    let rng = &mut StdRng::seed_from_u64(5);
    fill(&mut cluster, &client, rng).await;
    let history = format!("mode=history&from={token}");
    wait::until("every replica has given the changes up", WITHIN, async || {
        match ask(&cluster, &history).await {
            (410, _) => Ok(()),
            (status, lines) => Err(format!("{status}: {} lines", lines.len())),
        }
    })
    .await
    .expect("they are given up");

    // For a history that is an error that says how to go on.
    let (_, problem) = ask(&cluster, &history).await;
    let problem = &problem[0];
    assert_eq!(problem["code"], "token_too_old");
    let number = |name: &str| problem[name].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(number("oldest").expect("a number") <= number("newest").expect("a number"));
    let (status, resync) = ask(&cluster, &format!("from={}", text(problem, "resync"))).await;
    assert_eq!((status, controls(&resync, "resync-begin").len()), (200, 1));

    // A state goes on, and ends in what the store has.
    let (status, lines) = ask(&cluster, &format!("from={token}")).await;
    assert_eq!(status, 200, "{lines:?}");
    let told = controls(&lines, "catch-up");
    assert!(!told.is_empty() && controls(&lines, "end").len() == 1);
    let is_row = |line: &&Value| line["reason"] == "state";
    assert!(lines.iter().filter(is_row).any(|line| line["op"] == "delete"), "markers are told");
    let (_, others) = follow(&client, Some(&token), &mut mirror).await;
    assert!(!others.contains(&Event::StateBegin), "no resync: {others:?}");
    for zip in ZIPS {
        assert_eq!(mirrored(&mirror, zip), stored(&client, zip).await, "{zip}");
    }
    // One ZIP alone, by the token of all.
    let filter = Filter::new().zip(ZIPS[1]);
    let changes = client.changes().from(&token).filter(filter).until_now().follow();
    let (mut changes, mut told) = (changes.expect("valid"), 0);
    while let Some(event) = changes.try_next().await.expect("goes on") {
        if let Event::Change(change) = event {
            assert_eq!(change.zip.to_string(), ZIPS[1]);
            told += 1;
        }
    }
    assert!(told > 0);
    cluster.stop().await.expect("all end in order");
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_oldest_changes_of_a_full_log_is_warned() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster_with(dir.path(), &FLAGS).await;
    let client = client(&cluster);
    let rng = &mut StdRng::seed_from_u64(6);
    fill(&mut cluster, &client, rng).await;
    let (status, lines) = ask(&cluster, "mode=history&from=beginning").await;
    assert_eq!(status, 200, "{lines:?}");
    let warnings = controls(&lines, "trimming-soon");
    let first = warnings.first().expect("the first changes are the oldest");
    assert!(first["oldest"].is_string() && first["token"].is_string(), "{first}");
    let (status, lines) = ask(&cluster, "from=now").await;
    assert_eq!((status, controls(&lines, "trimming-soon").len()), (200, 0));
    cluster.stop().await.expect("all end in order");
}
