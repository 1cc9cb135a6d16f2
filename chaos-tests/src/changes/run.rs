//! Kills a consumer of changes, and now and then a node, while clients write; then compares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use platbook_protocol::token::Token;
use serde_json::value::RawValue;

use super::check::Judgement;
use super::journal;
use crate::load::place::places;
use crate::load::{Load, Tally};
use crate::operator::Chance;
use crate::process::{Process, Program};
use crate::status::Status;
use crate::{Cluster, Error, http, wait};

/// Longest wait until the consumer has been told everything.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Writes before the consumer begins, so that it begins with a state.
const HEAD_START: usize = 500;
/// Between two kills of the consumer, in milliseconds: drawn, so that a kill meets any point.
const LIFE_MS_MAX: u64 = 120;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the consumer is killed.
    pub kills: u32,
    /// A node is killed at every so many of them; 0 for never.
    pub kills_per_node: u32,
    /// Decides the moments.
    pub seed: u64,
    /// Clients of each shard.
    pub clients: usize,
    /// Least time between two writes of a client.
    pub pause: Duration,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// Nodes killed.
    pub nodes_killed: u32,
    /// What the clients saw.
    pub tally: Tally,
    /// What the consumer was told.
    pub judgement: Judgement,
    /// Where the consumer's state and the store differ.
    pub differences: Vec<String>,
    /// ZIPs compared.
    pub zips: usize,
}

impl Report {
    /// What must not have happened, but did.
    pub fn violations(&self) -> Vec<String> {
        let mut told = self.tally.violations();
        told.extend(self.judgement.violations.iter().cloned());
        if self.judgement.more > 0 {
            told.push(format!("and {} more in the consumer's journal", self.judgement.more));
        }
        told.extend(self.differences.iter().cloned());
        told
    }
}

/// Kills and compares; `tell` gets a line now and then.
pub async fn run(
    cluster: &mut Cluster,
    dir: &Path,
    plan: Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let status = Status::of(&cluster.router_address).await?;
    let places = places(&status, plan.clients, "chaos")?;
    let zips: Vec<String> = places.iter().flat_map(|place| place.zips.clone()).collect();
    let load = Load::start(&cluster.router_address, places, plan.pause).await?;
    wait::until("there is a state to be told", TOLD_WITHIN, async || {
        match load.acknowledged() >= HEAD_START {
            true => Ok(()),
            false => Err("too few writes"),
        }
    })
    .await?;
    let journal = dir.join("journal");
    let mut consumer = Process::start(consumer(cluster, dir, &journal))?;
    let mut chance = Chance::new(plan.seed, "changes");
    let mut nodes_killed = 0;
    for kill in 1..=plan.kills {
        tokio::time::sleep(Duration::from_millis(1 + chance.below(LIFE_MS_MAX))).await;
        consumer.check()?;
        consumer.kill()?;
        if plan.kills_per_node > 0 && kill % plan.kills_per_node == 0 {
            let victim = chance.below(cluster.nodes.len() as u64) as usize;
            cluster.kill_node(victim)?;
            consumer.start_again()?;
            cluster.restart_node(victim).await?;
            nodes_killed += 1;
            tell(&format!("kill {kill}/{}: and node {}", plan.kills, victim + 1));
        } else {
            consumer.start_again()?;
        }
        if load.went_back() {
            break;
        }
    }
    let tally = load.end().await?;
    cluster.ready().await?;
    told_everything(cluster, &mut consumer, &journal).await?;
    consumer.kill()?;
    let bytes = read(&journal)?;
    let judgement = Judgement::of(journal::entries(&bytes));
    let differences = compare(&cluster.router_address, &zips, &judgement).await?;
    Ok(Report { nodes_killed, tally, judgement, differences, zips: zips.len() })
}

fn consumer(cluster: &Cluster, dir: &Path, journal: &Path) -> Program {
    let words = ["chaos", "consumer", "--router", &cluster.router_address, "--journal"];
    let mut args: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
    args.push(journal.as_os_str().to_owned());
    Program {
        name: "consumer".to_string(),
        binary: cluster.router.binary().to_owned(),
        args,
        env: Vec::new(),
        logs: dir.join("logs"),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })
}

/// Waits until the journal has the last change of every shard.
async fn told_everything(
    cluster: &Cluster,
    consumer: &mut Process,
    path: &PathBuf,
) -> Result<(), Error> {
    let newest = newest(&cluster.router_address).await?;
    wait::until("the consumer is told everything", TOLD_WITHIN, async || {
        consumer.check().map_err(|e| e.to_string())?;
        let judgement = Judgement::of(journal::entries(&read(path).map_err(|e| e.to_string())?));
        missing(&newest, &judgement)
    })
    .await
}

/// Says of which shard a follower was not told everything.
pub(crate) fn missing(newest: &BTreeMap<u32, u64>, told: &Judgement) -> Result<(), String> {
    let is_missing = |(shard, newest): &(&u32, &u64)| {
        **newest > 0 && told.last.get(shard).is_none_or(|last| last < newest)
    };
    match newest.iter().find(is_missing) {
        None => Ok(()),
        Some((shard, newest)) => {
            let last = told.last.get(shard);
            Err(format!("shard {shard} has {newest} changes, told are {last:?}"))
        }
    }
}

/// The last change of each shard.
pub(crate) async fn newest(router: &str) -> Result<BTreeMap<u32, u64>, Error> {
    let path = "/v1/changes?from=now&live=false";
    let answer = http::get(router, path, &[]).await?;
    let text = answer.text();
    let malformed =
        |reason: String| Error::Malformed { what: format!("GET {path}: {text}"), reason };
    let line = text.lines().last().unwrap_or_default();
    let line: serde_json::Value =
        serde_json::from_str(line).map_err(|e| malformed(e.to_string()))?;
    let token = line["token"].as_str().ok_or_else(|| malformed("no token".into()))?;
    let token = Token::decode(token).map_err(|e| malformed(e.to_string()))?;
    Ok(token.shards.iter().map(|(shard, position)| (shard.0, position.seq().0)).collect())
}

/// Compares every ZIP, byte for byte.
pub(crate) async fn compare(
    router: &str,
    zips: &[String],
    judgement: &Judgement,
) -> Result<Vec<String>, Error> {
    let mut differences = Vec::new();
    for zip in zips {
        let path = format!("/v1/zips/{zip}/listings");
        let answer = http::get(router, &path, &[]).await?;
        let stored: Vec<Box<RawValue>> = serde_json::from_slice(&answer.body)
            .map_err(|e| Error::Malformed { what: path.clone(), reason: e.to_string() })?;
        let told: Vec<&str> = judgement
            .listings
            .iter()
            .filter(|((at, _), _)| at == zip)
            .map(|(_, listing)| listing.get())
            .collect();
        let stored: Vec<&str> = stored.iter().map(|listing| listing.get()).collect();
        if told != stored {
            let (told, stored) = (told.len(), stored.len());
            differences.push(format!(
                "ZIP {zip}: the consumer's {told} listings are not the store's {stored}"
            ));
        }
    }
    let outside = judgement.listings.keys().filter(|(zip, _)| !zips.contains(zip)).count();
    if outside > 0 {
        differences.push(format!("the consumer has {outside} listings in other ZIPs"));
    }
    Ok(differences)
}
