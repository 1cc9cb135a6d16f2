//! Restarts one node after the other with SIGTERM under load: no call may fail.

use std::time::Duration;

use crate::load::place::places;
use crate::load::{Load, Tally};
use crate::quantiles::Quantiles;
use crate::status::Status;
use crate::{Cluster, Error};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often every node is restarted.
    pub rounds: u32,
    /// Clients of each shard.
    pub clients: usize,
    /// Least time between two writes of a client.
    pub pause: Duration,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// From SIGTERM to the end of the process.
    pub drains: Quantiles,
    /// How long acknowledged writes took.
    pub writes: Quantiles,
    /// What the clients saw.
    pub tally: Tally,
}

impl Report {
    /// What must not have happened, but did.
    pub fn violations(&self) -> Vec<String> {
        let mut told = self.tally.violations();
        let failed = [
            ("write failed", &self.tally.failed_writes),
            ("read failed", &self.tally.failed_reads),
        ];
        for (what, sentences) in failed {
            told.extend(sentences.first.iter().map(|sentence| format!("{what}: {sentence}")));
        }
        told
    }
}

/// Restarts and watches; `tell` gets a line for each node.
pub async fn run(
    cluster: &mut Cluster,
    plan: Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let status = Status::of(&cluster.router_address).await?;
    let places = places(&status, plan.clients, "chaos")?;
    let load = Load::start(&cluster.router_address, places, plan.pause).await?;
    let mut drains = Vec::new();
    for round in 1..=plan.rounds {
        for at in 0..cluster.nodes.len() {
            let drained = cluster.roll_node(at).await?;
            let (node, ms, rounds) = (at + 1, drained.as_millis(), plan.rounds);
            tell(&format!("round {round}/{rounds}: node {node} drained in {ms} ms, is back"));
            drains.push(drained);
        }
    }
    let tally = load.end().await?;
    let writes = Quantiles::of(tally.latencies());
    Ok(Report { drains: Quantiles::of(drains), writes, tally })
}
