//! Takes leaders away under load, by SIGKILL, SIGSTOP or a cut network, and measures how long their
//! shards take no write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::links::Links;
use crate::load::place::places;
use crate::load::{Load, Tally};
use crate::operator::Chance;
use crate::quantiles::Quantiles;
use crate::run::Fault;
use crate::run::injector::isolate;
use crate::status::{Elections, Status};
use crate::{Cluster, Error, wait};

/// A shard that takes no write for so long has not resumed.
const RESUMED_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait for a node that leads something.
const LEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Between a node being ready and the next kill, in milliseconds: drawn, so that a kill meets
/// elections, handovers and catching up at any point.
const CALM_MS_MIN: u64 = 300;
const CALM_MS_MAX: u64 = 1_300;

/// How a leader is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// SIGKILL; started again afterwards.
    Kill,
    /// SIGSTOP; SIGCONT afterwards.
    Pause,
    /// It reaches nobody and nobody reaches it.
    Partition,
}

impl By {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            By::Kill => "kill",
            By::Pause => "pause",
            By::Partition => "partition",
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How leaders are taken away.
    pub by: By,
    /// What a partition cuts; those of the cluster.
    pub links: Option<Links>,
    /// Leaders to take away.
    pub kills: u32,
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
    /// Nodes taken away while they led.
    pub kills: u32,
    /// From that moment to an acknowledgement of a write that was sent after it, of every shard
    /// that the node led.
    pub resumed: Vec<(u32, Duration)>,
    /// Shards, the system shard included, whose leader was never killed.
    pub spared: BTreeSet<u32>,
    /// What the clients saw.
    pub tally: Tally,
    /// Terms that passed because of the kills.
    pub elections: u64,
    /// Leaderships that were handed over on purpose: back to the node that shall lead.
    pub handed_over: u64,
    /// Terms that passed for no reason.
    pub false_elections: u64,
}

impl Report {
    /// How long shards took no write.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles::of(self.resumed.iter().map(|(_, took)| *took))
    }

    /// What must not have happened, but did; `max` is the longest time a shard may take no write.
    pub fn violations(&self, max: Option<Duration>) -> Vec<String> {
        let mut told = self.tally.violations();
        for (shard, took) in &self.resumed {
            if max.is_some_and(|max| *took > max) {
                told.push(format!("shard {shard} took no write for {} ms", took.as_millis()));
            }
        }
        told
    }
}

/// Kills and measures; `tell` gets a line for each kill.
pub async fn run(
    cluster: &mut Cluster,
    plan: Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let status = Status::of(&cluster.router_address).await?;
    let places = places(&status, plan.clients, "chaos")?;
    let load = Load::start(&cluster.router_address, places, plan.pause).await?;
    let mut killer = Killer {
        by: plan.by,
        links: plan.links.clone(),
        chance: Chance::new(plan.seed, "failover"),
        killed: status.shards.iter().map(|shard| (shard.id, 0)).collect(),
        elections: Elections::since(&status, cluster.nodes.len()),
        resumed: Vec::new(),
    };
    for kill in 1..=plan.kills {
        let told = killer.kill(cluster, &load).await?;
        tell(&format!("{} {kill}/{}: {told}", plan.by.name(), plan.kills));
        if load.went_back() {
            break;
        }
    }
    killer.look(cluster, &[]).await?;
    let tally = load.end().await?;
    let spared = killer.killed.iter().filter(|(_, kills)| **kills == 0).map(|(id, _)| *id);
    Ok(Report {
        kills: plan.kills,
        spared: spared.collect(),
        resumed: killer.resumed,
        tally,
        elections: killer.elections.by_kills(),
        handed_over: killer.elections.handed_over(),
        false_elections: killer.elections.by_nobody(),
    })
}

/// Waits until another node leads each of these shards: the system shard may be later than those
/// whose writes were waited for.
async fn all_taken_over(cluster: &Cluster, victim: u64, led: &[u32]) -> Result<Status, Error> {
    wait::until("every shard has another leader", RESUMED_WITHIN, async || {
        let status = Status::of(&cluster.router_address).await.map_err(|e| e.to_string())?;
        match status.not_taken_over(victim, led) {
            None => Ok(status),
            Some(shard) => Err(format!("shard {shard} has none")),
        }
    })
    .await
}

struct Killer {
    by: By,
    links: Option<Links>,
    chance: Chance,
    /// How often the leader of each shard was killed.
    killed: BTreeMap<u32, u32>,
    elections: Elections,
    resumed: Vec<(u32, Duration)>,
}

impl Killer {
    /// One kill, from choosing the node until it is ready again.
    async fn kill(&mut self, cluster: &mut Cluster, load: &Load) -> Result<String, Error> {
        let calm = CALM_MS_MIN + self.chance.below(CALM_MS_MAX - CALM_MS_MIN);
        tokio::time::sleep(Duration::from_millis(calm)).await;
        let victim = self.choose(cluster).await?;
        let before = self.look(cluster, &[]).await?;
        let led = before.led_by(victim as u64 + 1);
        let killed_at = Instant::now();
        self.take_away(cluster, victim)?;
        led.iter().for_each(|shard| *self.killed.entry(*shard).or_default() += 1);
        let mut took = Vec::new();
        // The system shard has no listings.
        for shard in led.iter().filter(|shard| **shard != 0) {
            let what = format!("shard {shard} takes writes again");
            let resumed = wait::until(&what, RESUMED_WITHIN, async || {
                load.acknowledged_after(*shard, killed_at).ok_or("not yet")
            });
            took.push((*shard, resumed.await?));
        }
        let status = all_taken_over(cluster, victim as u64 + 1, &led).await?;
        self.elections.on_status(&status, &led);
        self.give_back(cluster, victim).await?;
        let back = killed_at.elapsed();
        let longest = took.iter().map(|(_, took)| *took).max().unwrap_or_default();
        self.resumed.extend(took);
        Ok(format!(
            "node {} led {} shards, which took writes after at most {} ms; ready after {} ms",
            victim + 1,
            led.len(),
            longest.as_millis(),
            back.as_millis()
        ))
    }

    fn take_away(&self, cluster: &mut Cluster, victim: usize) -> Result<(), Error> {
        match (self.by, &self.links) {
            (By::Kill, _) => cluster.kill_node(victim),
            (By::Pause, _) => cluster.nodes[victim].pause(),
            (By::Partition, Some(links)) => {
                isolate(links, (victim, cluster.nodes.len()), Fault::Partition);
                Ok(())
            }
            (By::Partition, None) => {
                let what = "a network that is not the tool's cannot be cut".to_string();
                Err(Error::Violated { what })
            }
        }
    }

    async fn give_back(&mut self, cluster: &mut Cluster, victim: usize) -> Result<(), Error> {
        match self.by {
            By::Kill => {
                self.elections.on_start(victim);
                return cluster.restart_node(victim).await;
            }
            By::Pause => cluster.nodes[victim].resume()?,
            By::Partition => self.links.iter().for_each(Links::heal),
        }
        cluster.ready().await
    }

    /// The node that leads the shard whose leader was killed least often.
    async fn choose(&self, cluster: &Cluster) -> Result<usize, Error> {
        wait::until("every shard has a leader", LEADERS_WITHIN, async || {
            let status = Status::of(&cluster.router_address).await.map_err(|e| e.to_string())?;
            let rarest = status
                .shards
                .iter()
                .filter_map(|shard| Some((self.killed.get(&shard.id)?, shard.leader)))
                .min_by_key(|(kills, _)| **kills)
                .and_then(|(_, leader)| leader);
            match rarest.and_then(|node| usize::try_from(node).ok()?.checked_sub(1)) {
                Some(at) if at < cluster.nodes.len() => Ok(at),
                Some(_) | None => Err("a shard without a leader".to_string()),
            }
        })
        .await
    }

    async fn look(&mut self, cluster: &Cluster, killed: &[u32]) -> Result<Status, Error> {
        self.elections.look(&cluster.node_addresses).await?;
        let status = Status::of(&cluster.router_address).await?;
        self.elections.on_status(&status, killed);
        Ok(status)
    }
}
