//! The client library against a real installation: what it reads and writes, and that nothing it
//! was told is done gets lost when a node and the router are killed in the middle.

mod installation;

use std::collections::BTreeSet;
use std::time::Duration;

use installation::{ZIPS, cluster, listing};
use platbook_chaos_tests::Cluster;
use platbook_chaos_tests::status::Status;
use platbook_client::{Client, Outcome, Zip};
use platbook_protocol::problem::Code;
use serde_json::Value;

const LISTINGS: usize = 3_000;

fn client(cluster: &Cluster) -> Client {
    let url = format!("http://{}", cluster.router_address);
    Client::builder(url).deadline(Duration::from_secs(30)).build().expect("a valid url")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reads_and_writes_in_a_few_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let client = client(&cluster);

    assert_eq!(client.get("L00000").await.expect("is answered"), None);
    let put = client.put("L00000", listing(0, 100)).await.expect("is written");
    assert_eq!(put.outcome, Outcome::Applied);
    client
        .put_json("L00003", &serde_json::from_str::<Value>(&listing(3, 300)).expect("JSON"))
        .await
        .expect("is written");

    let first = client.get("L00000").await.expect("is answered").expect("is there");
    assert_eq!((Some(first.revision), first.zip), (put.revision, ZIPS[0].parse().expect("a ZIP")));
    assert_eq!(first.json::<Value>().expect("JSON")["ListPrice"], 100);
    let both = client.compare(["L00003", "none", "L00000"]).await.expect("is answered");
    let prices = both.iter().map(|found| {
        let listing = found.as_ref()?.json::<Value>().expect("JSON");
        listing["ListPrice"].as_u64()
    });
    assert_eq!(prices.collect::<Vec<_>>(), [Some(300), None, Some(100)]);

    let zip = client.zip(ZIPS[0]).min_price(200).stream().await.expect("is answered");
    let (count, etag) = (zip.count(), zip.etag().expect("has one").to_string());
    assert!(zip.token().is_some());
    assert_eq!((count, zip.collect().await.expect("is whole").len()), (Some(2), 1));
    let again = client.zip(ZIPS[0]).min_price(200).stream_if_changed(&etag).await;
    assert!(again.expect("is answered").is_none());

    let seen = first.revision;
    let second = client.put("L00000", listing(0, 101)).if_match(seen).await.expect("is current");
    let late = client.delete("L00000").if_match(seen).await.expect_err("somebody was faster");
    let problem = late.problem().expect("the router says why");
    assert!(problem.is(Code::PreconditionFailed), "{problem}");
    assert_eq!(problem.revision, second.revision);
    client.delete("L00000").await.expect("is deleted");
    assert_eq!(client.get("L00000").await.expect("is answered"), None);
    let unknown = client.zip(Zip::Unknown).collect().await.expect("is answered");
    assert_eq!(unknown, []);
    cluster.stop().await.expect("everything drains");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bulk_says_is_done_survives_a_killed_leader_and_a_killed_router() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster(dir.path()).await;
    let client = client(&cluster);
    let bulk = client.bulk().batch_lines(50).in_flight(4).start();
    let mut acks = Vec::new();
    for number in 0..LISTINGS {
        let ack = bulk.put(listing(number, 100_000 + number)).await.expect("JSON");
        acks.push((number, ack));
        if number == LISTINGS / 3 {
            let status = Status::of(&cluster.router_address).await.expect("a status");
            let leader = status.shards.iter().find_map(|s| s.slots.and(s.leader)).expect("leads");
            cluster.kill_node(leader as usize - 1).expect("is killed");
        }
        if number == 2 * LISTINGS / 3 {
            cluster.router.kill().expect("is killed");
            cluster.router.start_again().expect("starts");
        }
    }
    let report = bulk.finish().await;
    let mut done = BTreeSet::new();
    for (number, ack) in acks {
        if ack.await.is_ok() {
            done.insert(format!("L{number:05}"));
        }
    }
    // One of three nodes is away and the router is back: there is no reason left to fail.
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.done(), done.len()), (LISTINGS as u64, LISTINGS));

    let mut found = BTreeSet::new();
    for zip in ZIPS {
        let mut listings = client.zip(zip).stream().await.expect("is answered");
        let count = listings.count().expect("is told") as usize;
        let before = found.len();
        while let Some(listing) = listings.try_next().await.expect("is whole") {
            let listing: Value = listing.json().expect("JSON");
            found.insert(listing["ListingKey"].as_str().expect("an id").to_string());
        }
        assert_eq!(found.len() - before, count, "{zip}");
    }
    assert_eq!(found, done);
}
