//! How long a node that was killed takes to come back, with many listings on its disk.

use std::time::{Duration, Instant};

use anyhow::Context;
use platbook_chaos_tests::{http, wait};

use super::super::bodies::Bodies;
use super::super::drive::{Sink, drive};
use super::super::etcd::Etcd;
use super::super::store::Store;
use super::systems::{Running, System};
use super::{CompareArgs, Scale, systems_of};
use crate::scratch::Scratch;

/// The node that is killed.
const NODE: usize = 0;
/// Listings that are in memory at a time, on their way in.
const PART: usize = 20_000;
const BATCH: usize = 100;
const CLIENTS: usize = 8;
const LONGEST: Duration = Duration::from_secs(300);
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The times of one restart, from the start of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    /// Until every Raft group of the node runs, so that it votes; where that can be seen.
    pub(super) votes: Option<Duration>,
    /// Until it says that it is ready.
    pub(super) serves: Duration,
}

/// All restarts of one system.
pub(super) struct Measured {
    pub(super) system: &'static str,
    pub(super) listings: usize,
    pub(super) rounds: Vec<Restart>,
}

/// Fills Platbook and etcd alike, then kills a node of each in turns.
pub(super) async fn measure(args: &CompareArgs, scale: &Scale) -> anyhow::Result<Vec<Measured>> {
    let scratch = Scratch::make("platbook-bench-", None)?;
    let mut filled = Vec::new();
    for (at, system) in systems_of(args).into_iter().enumerate() {
        if !matches!(system, System::Platbook { .. } | System::Etcd { .. }) {
            continue;
        }
        let dir = scratch.path().join(format!("system-{at}"));
        std::fs::create_dir_all(&dir).context("making a data directory")?;
        let running = system.start(&dir).await?;
        match &running {
            Running::Platbook(store, _) => fill(args, scale, store.sink()).await?,
            Running::Etcd(etcd) => fill(args, scale, etcd.sink()).await?,
            Running::Nats(_) | Running::Postgres(_) => {}
        }
        let (system, listings) = (system.name(), scale.restart);
        filled.push((running, Measured { system, listings, rounds: Vec::new() }));
    }
    for round in 0..scale.rounds {
        for (running, measured) in &mut filled {
            let restart = match running {
                Running::Platbook(store, _) => of_store(store).await?,
                Running::Etcd(etcd) => of_etcd(etcd).await?,
                Running::Nats(_) | Running::Postgres(_) => continue,
            };
            tracing::info!(round = round + 1, system = measured.system, ?restart, "measured");
            measured.rounds.push(restart);
        }
    }
    let mut all = Vec::new();
    for (running, measured) in filled {
        running.stop().await?;
        all.push(measured);
    }
    Ok(all)
}

async fn fill<S: Sink>(args: &CompareArgs, scale: &Scale, sink: &S) -> anyhow::Result<()> {
    let mut bodies = Bodies::try_new(args.seed, args.bytes as usize)?;
    let mut from = 0;
    while from < scale.restart {
        let part = bodies.many(from, PART.min(scale.restart - from));
        drive(sink, &part, BATCH, CLIENTS, LONGEST).await?;
        from += part.len();
    }
    Ok(())
}

async fn of_etcd(etcd: &mut Etcd) -> anyhow::Result<Restart> {
    Ok(Restart { votes: None, serves: etcd.restart(NODE).await? })
}

async fn of_store(store: &mut Store) -> anyhow::Result<Restart> {
    let address = store.cluster.node_addresses[NODE].clone();
    store.cluster.kill_node(NODE)?;
    let began = Instant::now();
    store.cluster.start_node(NODE)?;
    let mut votes = None;
    wait::until("the killed node is ready", READY_WITHIN, async || {
        let node = &mut store.cluster.nodes[NODE];
        if let Err(ended) = node.check() {
            return Ok(Err(ended));
        }
        let answer = http::get(&address, "/readyz", &[]).await.map_err(|e| e.to_string())?;
        let says = answer.text();
        // The node says these two before it says anything about leaders and replay.
        if !says.contains("not formed") && !says.contains("replicas do not run") {
            votes.get_or_insert_with(|| began.elapsed());
        }
        if answer.status == 200 { Ok(Ok(())) } else { Err(says) }
    })
    .await??;
    Ok(Restart { votes, serves: began.elapsed() })
}
