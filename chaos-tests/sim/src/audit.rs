//! Looks at everything when nothing moves any more: the lists of all ZIPs, each listing, what every
//! replica holds, and what the changes add up to.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use platbook_chaos_tests::operator::oracle;
use platbook_protocol::ShardId;
use platbook_protocol::codec;
use platbook_protocol::rpc::{GetStatus, NodeStatus, Refusal};
use tokio::time::sleep;

use crate::board::Board;
use crate::http::Http;
use crate::machines::{node_address, router_address};
use crate::work::feed::Feed;
use crate::work::follower::Journal;
use crate::work::registers::Registers;

const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
/// Polls until replicas, and the follower, must have caught up.
const POLLS_MAX: u32 = 150;

/// Everything that is looked at.
pub(crate) struct Audit {
    pub(crate) board: Board,
    pub(crate) nodes: u64,
    pub(crate) registers: Rc<Registers>,
    pub(crate) feed: Rc<Feed>,
    pub(crate) journal: Rc<Journal>,
}

type Listings = BTreeMap<(String, String), String>;

impl Audit {
    /// Looks, and tells the board what is wrong.
    pub(crate) async fn run(self) {
        if let Err(what) = self.look().await {
            self.board.violated(what);
        }
    }

    async fn look(&self) -> Result<(), String> {
        let mut http = Http::to(router_address("router1"));
        let expected = self.feed.expected();
        let mut found = Listings::new();
        for zip in self.feed.zips() {
            let text = list(&mut http, &zip).await?;
            let wanted = expected.zips.get(&zip).cloned().unwrap_or_default();
            oracle::compare(&zip, &wanted, &text).map_err(|e| e.to_string())?;
            gather(&mut found, &zip, &text)?;
        }
        for (id, zips) in self.registers.places() {
            self.one_row_at_most(&mut http, &id, &zips, &mut found).await?;
        }
        self.registers.judge();
        self.replicas_are_equal().await?;
        self.changes_add_up(&found).await
    }

    /// A listing stands in one ZIP, and is what is found by its id.
    async fn one_row_at_most(
        &self,
        http: &mut Http,
        id: &str,
        zips: &[String],
        found: &mut Listings,
    ) -> Result<(), String> {
        let mut rows = Vec::new();
        for zip in zips {
            let text = list(http, zip).await?;
            rows.extend(text.lines().map(str::to_string));
            gather(found, zip, &text)?;
        }
        let path = format!("/v1/listings/{id}");
        let answer = http.call(Method::GET, &path, &[], "", PATIENCE).await?;
        let by_id = match answer.status {
            200 => vec![String::from_utf8_lossy(&answer.body).into_owned()],
            404 => Vec::new(),
            status => return Err(format!("{id}: {status}")),
        };
        match rows == by_id {
            true => Ok(()),
            false => Err(format!("{id}: by its id there is {by_id:?}, in {zips:?} {rows:?}")),
        }
    }

    /// All replicas of a shard have the same content at the same index.
    async fn replicas_are_equal(&self) -> Result<(), String> {
        let mut last = Err("never asked".to_string());
        for _ in 0..POLLS_MAX {
            // A node that noticed late how its disk had failed is only about to start again.
            last = self.contents().await;
            let equal = |of: &Vec<(u64, u128)>| of.windows(2).all(|pair| pair[0] == pair[1]);
            if last.as_ref().is_ok_and(|last| last.values().all(equal)) {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(last.map_or_else(|what| what, |last| format!("replicas differ: {last:?}")))
    }

    async fn contents(&self) -> Result<BTreeMap<ShardId, Vec<(u64, u128)>>, String> {
        let mut contents: BTreeMap<ShardId, Vec<(u64, u128)>> = BTreeMap::new();
        for node in 1..=self.nodes {
            let mut http = Http::to(node_address(&format!("node{node}")));
            let ask = codec::encode(&GetStatus { with_hashes: true });
            let version = codec::PROTOCOL_VERSION.to_string();
            let headers = [("platbook-protocol", version.as_str())];
            let answer = http.call(Method::POST, "/rpc/status", &headers, ask, PATIENCE).await?;
            let status: Result<NodeStatus, Refusal> =
                codec::decode(&answer.body).map_err(|e| e.to_string())?;
            for replica in status.map_err(|e| e.to_string())?.replicas {
                let content = replica.content.ok_or("a replica without a content")?;
                contents.entry(replica.shard).or_default().push(content);
            }
        }
        Ok(contents)
    }

    /// The changes that were followed lead to the same listings.
    async fn changes_add_up(&self, found: &Listings) -> Result<(), String> {
        let mut followed = Listings::new();
        for _ in 0..POLLS_MAX {
            followed = self.journal.judge(&self.board);
            if followed == *found {
                self.board.reached("changes add up");
                return Ok(());
            }
            if self.board.is_violated() {
                return Ok(());
            }
            sleep(POLL).await;
        }
        let missing: Vec<_> = found.iter().filter(|(k, v)| followed.get(*k) != Some(v)).collect();
        let wrong: Vec<_> = followed.iter().filter(|(k, v)| found.get(*k) != Some(v)).collect();
        Err(format!("changes do not add up: missing {missing:?}, wrong {wrong:?}"))
    }
}

async fn list(http: &mut Http, zip: &str) -> Result<String, String> {
    let path = format!("/v1/zips/{zip}/listings");
    let headers = [("accept", "application/x-ndjson")];
    let answer = http.call(Method::GET, &path, &headers, "", PATIENCE).await?;
    match answer.status {
        200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        status => Err(format!("ZIP {zip}: {status}")),
    }
}

fn gather(found: &mut Listings, zip: &str, text: &str) -> Result<(), String> {
    for line in text.lines() {
        let listing: serde_json::Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let id = listing["ListingKey"].as_str().ok_or("a listing without an id")?.to_string();
        found.insert((zip.to_string(), id), line.to_string());
    }
    Ok(())
}
