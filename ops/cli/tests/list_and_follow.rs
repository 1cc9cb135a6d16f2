//! A list and what follows its token is the list later, whoever writes meanwhile.

mod installation;

use std::collections::BTreeMap;
use std::time::Duration;

use installation::{ZIPS, cluster, listing};
use platbook_client::changes::{Event, Filter, What};
use platbook_client::{Client, Listing, Token};
use platbook_protocol::token::{Position, Token as Vector};
use platbook_protocol::{Seq, ShardId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tokio::sync::watch;

const IDS: usize = 12;
const WRITERS: usize = 3;
const WRITES_MIN: usize = 40;
const WRITES_MAX: usize = 90;
const CASES: u32 = 24;
const WITHIN: Duration = Duration::from_secs(30);

/// Which listing, where it is put and at which price; `None` deletes it.
type Step = (usize, Option<(usize, usize)>);

async fn write(client: &Client, (number, put): Step) {
    let id = format!("L{number:05}");
    let done = match put {
        Some((zip, price)) => {
            let here = ZIPS[number % ZIPS.len()];
            let listing = listing(number, price).replace(here, ZIPS[zip]);
            client.put(id, listing).await
        }
        None => client.delete(id).await,
    };
    done.expect("is written");
}

fn id(listing: &Listing) -> String {
    let value: Value = listing.json().expect("JSON");
    value["ListingKey"].as_str().expect("an id").to_string()
}

type Listings = BTreeMap<String, Listing>;

/// The list of a ZIP and its token.
async fn list(client: &Client, zip: &str) -> (Listings, Token) {
    let stream = client.zip(zip).stream().await.expect("is answered");
    let token = stream.token().expect("has one");
    let listings = stream.collect().await.expect("is whole");
    (listings.into_iter().map(|listing| (id(&listing), listing)).collect(), token)
}

/// Where the token of a ZIP's list stands.
fn position(token: &Token) -> (ShardId, Seq) {
    let vector = Vector::decode(token.as_str()).expect("a token");
    let (shard, position) = vector.shards.first_key_value().expect("one shard");
    match position {
        Position::Follow { seq } => (*shard, *seq),
        other => panic!("a list ends in {other:?}"),
    }
}

/// Lists twice while others write, and follows from the one to the other.
async fn list_and_follow(
    client: &Client,
    zip: &str,
    mut written: watch::Receiver<usize>,
    at: [usize; 2],
) {
    written.wait_for(|written| *written >= at[0]).await.expect("they write");
    let (mut listings, token) = list(client, zip).await;
    written.wait_for(|written| *written >= at[1]).await.expect("they write");
    let (later, until) = list(client, zip).await;
    let (shard, until) = position(&until);
    assert_eq!(position(&token).0, shard);

    let filter = Filter::new().zip(zip);
    let changes = client.changes().from(&token).filter(filter).until_now().follow();
    let mut changes = changes.expect("valid");
    while let Some(event) = changes.try_next().await.expect("goes on") {
        let Event::Change(change) = event else { continue };
        if change.seq > until {
            continue;
        }
        match change.what {
            What::Upsert(listing) => {
                drop(listings.insert(change.id.to_string(), listing.expect("with its body")))
            }
            _ => drop(listings.remove(change.id.as_str()).expect("only what is there leaves")),
        }
    }
    let (_, end) = position(&changes.token().expect("stands somewhere"));
    assert!(end >= until, "it ended at {end}, before the list of {until}");
    assert_eq!(listings, later);
}

async fn case(client: &Client, steps: Vec<Step>, reads: Vec<(usize, [usize; 2])>) {
    let (tell, written) = watch::channel(0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let own: Vec<Step> = steps.iter().skip(writer).step_by(WRITERS).copied().collect();
        let (client, tell) = (client.clone(), tell.clone());
        writers.spawn(async move {
            for step in own {
                write(&client, step).await;
                tell.send_modify(|written| *written += 1);
            }
        });
    }
    let mut readers = tokio::task::JoinSet::new();
    for (zip, at) in reads {
        let (client, written) = (client.clone(), written.clone());
        readers.spawn(async move { list_and_follow(&client, ZIPS[zip], written, at).await });
    }
    // The first that fails fails the case.
    while let Some(ended) = readers.join_next().await {
        ended.expect("list and follow is list later");
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("everything is written");
    }
}

#[test]
fn a_list_and_what_follows_its_token_is_the_list_later_under_concurrent_writes() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = runtime.block_on(cluster(dir.path()));
    let url = format!("http://{}", cluster.router_address);
    let client = Client::builder(url).deadline(WITHIN).build().expect("a valid url");
    let put = proptest::option::weighted(0.8, (0..ZIPS.len(), 1..1_000_usize));
    let steps = proptest::collection::vec((0..IDS, put), WRITES_MIN..WRITES_MAX);
    let moments = (0..WRITES_MIN, 0..WRITES_MIN).prop_map(|(a, b)| [a.min(b), a.max(b)]);
    let reads = proptest::collection::vec((0..ZIPS.len(), moments), 1..4);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let ended = runner.run(&(steps, reads), |(steps, reads)| {
        runtime.block_on(case(&client, steps, reads));
        Ok(())
    });
    ended.unwrap_or_else(|failed| panic!("{failed}"));
    runtime.block_on(cluster.stop()).expect("all end in order");
}
