//! The change stream through the client library, against a real installation whose leaders and
//! router are killed while it is followed.

mod installation;

use std::collections::BTreeMap;
use std::time::Duration;

use installation::{ZIPS, cluster, listing};
use platbook_chaos_tests::Cluster;
use platbook_chaos_tests::scrape::Scrape;
use platbook_chaos_tests::status::Status;
use platbook_client::changes::{Filter, Mirror, Start};
use platbook_client::{Client, Event, Listing, ListingId, Token};
use serde_json::Value;
use tokio::time::timeout;

const LISTINGS: usize = 1_200;
/// Longest wait for an event that must come.
const WITHIN: Duration = Duration::from_secs(30);

fn client(cluster: &Cluster) -> Client {
    let url = format!("http://{}", cluster.router_address);
    Client::builder(url).deadline(WITHIN).build().expect("a valid url")
}

fn price(listing: &Listing) -> u64 {
    listing.json::<Value>().expect("JSON")["ListPrice"].as_u64().expect("a price")
}

/// Prices of a ZIP's listings, as the store has them, and where the stream stands then.
async fn stored(client: &Client, zip: &str) -> (BTreeMap<String, u64>, Token) {
    let listings = client.zip(zip).stream().await.expect("is answered");
    let token = listings.token().expect("has one");
    let listings = listings.collect().await.expect("is whole");
    let entry = |listing: &Listing| {
        let id = listing.json::<Value>().expect("JSON")["ListingKey"].as_str().map(String::from);
        (id.expect("an id"), price(listing))
    };
    (listings.iter().map(entry).collect(), token)
}

async fn next(changes: &mut platbook_client::Changes) -> Event {
    let event = timeout(WITHIN, changes.try_next()).await.expect("something comes in time");
    event.expect("it goes on").expect("it has no end")
}

fn mirrored(mirror: &Mirror<u64>, zip: &str) -> BTreeMap<String, u64> {
    let rows = mirror.zip(zip.parse().expect("a ZIP"));
    rows.map(|(id, price)| (id.to_string(), *price)).collect()
}

/// Follows until the copy has a listing that was written last of all.
async fn until(changes: &mut platbook_client::Changes, mirror: &mut Mirror<u64>, last: &str) {
    let last = ListingId::try_new(last).expect("an id");
    while mirror.get(&last).is_none() {
        mirror.apply(&next(changes).await, price);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_what_follows_make_the_store_whoever_is_killed_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    let client = client(&cluster);
    let bulk = client.bulk().batch_lines(20).start();
    for number in 0..LISTINGS / 2 {
        drop(bulk.put(listing(number, 100 + number)).await.expect("JSON"));
    }
    assert!(bulk.finish().await.is_complete());

    let mut changes = client.changes().follow().expect("valid");
    let mut mirror = Mirror::new();
    let writing = tokio::spawn({
        let client = client.clone();
        async move {
            let bulk = client.bulk().batch_lines(20).start();
            for number in 0..LISTINGS {
                // The first half a second time, cheaper; some of it is deleted.
                match number % 7 {
                    0 => drop(bulk.delete(format!("L{number:05}")).await.expect("an id")),
                    _ => drop(bulk.put(listing(number, 50 + number)).await.expect("JSON")),
                }
            }
            assert!(bulk.finish().await.is_complete());
        }
    });
    // In the middle of the state, one node that leads; a little later the router.
    for _ in 0..LISTINGS / 4 {
        mirror.apply(&next(&mut changes).await, price);
    }
    let status = Status::of(&cluster.router_address).await.expect("a status");
    let leader = status.shards.iter().find_map(|s| s.slots.and(s.leader)).expect("one leads");
    cluster.kill_node(leader as usize - 1).expect("is killed");
    for _ in 0..LISTINGS / 4 {
        mirror.apply(&next(&mut changes).await, price);
    }
    cluster.router.kill().expect("is killed");
    cluster.router.start_again().expect("starts");
    writing.await.expect("everything is written");

    // Written after the router came back: the same stream has to find its way to it.
    client.put("L80001", listing(80_001, 8)).await.expect("is written");
    until(&mut changes, &mut mirror, "L80001").await;

    // The stream is kept as a position only, and taken up by somebody else.
    let token = changes.token().expect("stands somewhere");
    let mut changes = client.changes().from(token).follow().expect("valid");
    for (at, zip) in ZIPS.iter().enumerate() {
        let last = format!("L{}", 90_000 + at);
        client.put(last.as_str(), listing(90_000 + at, 7)).await.expect("is written");
        let place = client.get(last.as_str()).await.expect("is answered").expect("is there").zip;
        until(&mut changes, &mut mirror, &last).await;
        assert_eq!(place.to_string(), *zip);
    }
    for zip in ZIPS {
        assert_eq!(mirrored(&mirror, zip), stored(&client, zip).await.0, "{zip}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_was_listed_is_followed_from_its_token_without_a_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let client = client(&cluster);
    for number in 0..30 {
        client.put(format!("L{number:05}"), listing(number, 100)).await.expect("is written");
    }
    let (mut copy, token) = stored(&client, ZIPS[0]).await;
    client.delete("L00000").await.expect("is deleted");
    client.put("L00003", listing(3, 333)).await.expect("is written");
    client.put("L00001", listing(1, 111)).await.expect("is another ZIP's");
    client.put("L00006", listing(6, 666)).await.expect("is written");

    let filter = Filter::new().zip(ZIPS[0]);
    let mut changes = client.changes().from(token).filter(filter).follow().expect("valid");
    let mut told = Vec::new();
    while told.len() < 3 {
        let Event::Change(change) = next(&mut changes).await else { continue };
        let now = match &change.what {
            platbook_client::changes::What::Upsert(listing) => listing.as_ref().map(price),
            _ => None,
        };
        let id = change.id.to_string();
        match now {
            Some(price) => copy.insert(id.clone(), price),
            None => copy.remove(&id),
        };
        assert!(change.before.is_some(), "each stood there before: {change:?}");
        told.push(id);
    }
    assert_eq!(told, ["L00000", "L00003", "L00006"]);
    assert_eq!(copy, stored(&client, ZIPS[0]).await.0);
    cluster.stop().await.expect("everything drains");
}

/// Waits until so many shards' changes are waited for without a stream of their own.
async fn resting(cluster: &Cluster, wanted: f64) {
    let resting = async {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        loop {
            let numbers = Scrape::of(&cluster.router_address).await.expect("the router answers");
            if numbers.sum("platbook_router_followers_resting", "") == wanted {
                return;
            }
            poll.tick().await;
        }
    };
    timeout(WITHIN, resting).await.expect("all rest in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_to_whom_nothing_happens_wait_together_and_miss_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    let client = client(&cluster);
    let of_zip = |zip: &str| client.changes().filter(Filter::new().zip(zip));
    let now = client.changes().from(Start::Now);
    let followers = [client.changes(), client.changes(), now, of_zip(ZIPS[0]), of_zip(ZIPS[1])];
    let mut followers = followers.map(|builder| (builder.follow().expect("valid"), Mirror::new()));
    let opened = followers.iter_mut().map(|(changes, _)| async {
        while !matches!(next(changes).await, Event::Resolved { .. }) {}
    });
    futures_util::future::join_all(opened).await;
    // Three of all four shards, two of the one that has their ZIP.
    let all = 3.0 * 4.0 + 2.0;
    let mut told = 0;
    for round in 0..2 {
        resting(&cluster, all).await;
        if round == 1 {
            let status = Status::of(&cluster.router_address).await.expect("a status");
            let leader = status.shards.iter().find_map(|s| s.slots.and(s.leader));
            cluster.kill_node(leader.expect("one leads") as usize - 1).expect("is killed");
        }
        for number in told..told + ZIPS.len() {
            let id = format!("L{number:05}");
            client.put(id.as_str(), listing(number, 100)).await.expect("is written");
        }
        for (at, (changes, mirror)) in followers.iter_mut().enumerate() {
            let wanted = match at {
                0..=2 => (told..told + ZIPS.len()).collect(),
                of_zip => vec![told + of_zip - 3],
            };
            for number in wanted {
                until(changes, mirror, &format!("L{number:05}")).await;
            }
        }
        told += ZIPS.len();
    }
    // Nobody waits for what nobody follows.
    drop(followers);
    resting(&cluster, 0.0).await;
}
