//! The run: load, faults one after the other with a recovery after each, then the judgement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::fault::Fault;
use super::injector::{Injector, can_trace};
use super::report::{Injected, Leaders, Report};
use crate::links::Links;
use crate::load::place::places;
use crate::load::{Load, Outcome};
use crate::operator::now_ms;
use crate::registers::{Registers, run as registers};
use crate::status::Status;
use crate::{Cluster, Error, wait};

/// Every shard serves within this time of the repair.
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for a recovery, so that a late one is told with its time.
const WAITED_MAX: Duration = Duration::from_secs(60);
/// Longest pause between a recovery and the next fault, in milliseconds.
const PAUSE_MS_MAX: u64 = 1_500;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Terms of one shard that a fault may cost: elections, and handing back to whom shall lead. Links
/// that flap cost most.
const TERMS_PER_FAULT_MAX: u64 = 12;
/// Clients that share listings, and how many listings. Few, so that they meet.
const CLIENTS: u32 = 6;
const LISTINGS: u32 = 12;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For how long faults are done.
    pub length: Duration,
    /// Which ones; drawn from.
    pub faults: Vec<Fault>,
    /// Decides all that is drawn.
    pub seed: u64,
    /// Least time between two calls of a client.
    pub pause: Duration,
    /// Of the program, for the report.
    pub version: String,
}

/// Runs it; `tell` gets a line for each fault. `links` are those of the cluster.
pub async fn run(
    cluster: &mut Cluster,
    links: Links,
    plan: &Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let faults = injectable(&plan.faults, tell)?;
    let status = Status::of(&cluster.router_address).await?;
    let load = Load::start(&cluster.router_address, places(&status, 1)?, plan.pause * 4).await?;
    let clients = Registers::start(&registers::Plan {
        routers: vec![cluster.router_address.clone()],
        clients: CLIENTS,
        listings: LISTINGS,
        seed: plan.seed,
        pause: plan.pause,
    });
    let nodes = cluster.nodes.len();
    let mut run = Run {
        terms: status.terms(),
        began: clients.origin(),
        looks: Looks::start(&cluster.router_address, clients.origin()),
        injector: Injector::new(links.clone(), plan.seed, nodes),
        report: Report {
            version: plan.version.clone(),
            seed: plan.seed,
            began_ms: now_ms(),
            length_ms: 0,
            nodes,
            shards: status.shards.iter().filter(|shard| shard.slots.is_some()).count() as u32,
            faults: Vec::new(),
            leaders: Vec::new(),
            seconds: Vec::new(),
            calls: [0; 3],
            own_writes: [0; 3],
            own_reads: 0,
            checked: Vec::new(),
            violations: Vec::new(),
            histories: Default::default(),
        },
    };
    while run.began.elapsed() < plan.length && !load.went_back() {
        let (fault, pause) = run.injector.draw(&faults, PAUSE_MS_MAX);
        tokio::time::sleep(pause).await;
        run.round(cluster, &clients, fault, tell).await?;
    }
    links.heal();
    run.judge(cluster, load, clients).await
}

/// Those of the faults that can be done here, which must be some.
fn injectable(wanted: &[Fault], tell: &mut dyn FnMut(&str)) -> Result<Vec<Fault>, Error> {
    let (traced, others): (Vec<Fault>, Vec<Fault>) = wanted.iter().partition(|f| f.traces());
    if traced.is_empty() || can_trace() {
        return Ok(wanted.to_vec());
    }
    let names: Vec<&str> = traced.into_iter().map(Fault::name).collect();
    tell(&format!("left out: {}; processes cannot be traced here (strace)", names.join(", ")));
    match others.is_empty() {
        true => Err(Error::Violated { what: "none of the faults can be done here".to_string() }),
        false => Ok(others),
    }
}

struct Run {
    /// Of each shard, when the run began.
    terms: BTreeMap<u32, u64>,
    began: Instant,
    looks: Looks,
    injector: Injector,
    report: Report,
}

impl Run {
    /// One fault and the recovery from it.
    async fn round(
        &mut self,
        cluster: &mut Cluster,
        clients: &Registers,
        fault: Fault,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let from_ms = self.now_ms();
        let whom = self.injector.inject(cluster, fault).await?;
        let undone = Instant::now();
        let to_ms = self.now_ms();
        recovered(cluster, clients, undone).await?;
        let took = undone.elapsed();
        let injected = Injected {
            fault: fault.name().to_string(),
            whom,
            from_ms,
            to_ms,
            recovered_ms: self.now_ms(),
        };
        tell(&format!(
            "{:>6.1} s  {:<11} {}, for {} ms; served again after {} ms",
            from_ms as f64 / 1000.0,
            injected.fault,
            injected.whom,
            to_ms - from_ms,
            took.as_millis()
        ));
        if took > RECOVERS_WITHIN {
            self.report.violations.push(format!(
                "{} of {} at {} s: not all shards served within {} s, but after {} ms",
                injected.fault,
                injected.whom,
                from_ms / 1000,
                RECOVERS_WITHIN.as_secs(),
                took.as_millis()
            ));
        }
        self.report.faults.push(injected);
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Ends the clients and judges.
    async fn judge(
        mut self,
        cluster: &Cluster,
        load: Load,
        clients: Registers,
    ) -> Result<Report, Error> {
        let (judgement, beats) = clients.end().await?;
        let tally = load.end().await?;
        self.report.length_ms = self.now_ms();
        self.report.leaders = self.looks.end();
        self.report.on_judgement(&judgement, &beats);
        let count = |outcome| tally.writes_that(outcome);
        self.report.own_writes = [Outcome::Done, Outcome::Refused, Outcome::Unknown].map(count);
        self.report.own_reads = tally.reads;
        self.report.violations.extend(tally.violations());
        self.report.checked.push(format!(
            "listings with one writer, which move between ZIPs: {} acknowledged writes, lost {}; \
             {} reads, went back {}",
            count(Outcome::Done),
            tally.lost.count,
            tally.reads,
            tally.reads_back.count
        ));
        self.judge_terms(cluster).await?;
        match cluster.verify().await {
            Ok(()) => self.report.checked.push("all replicas hold the same".to_string()),
            Err(error) => self.report.violations.push(error.to_string()),
        }
        let slowest = self.report.faults.iter().map(|f| f.recovered_ms - f.to_ms).max();
        self.report.checked.push(format!(
            "{} faults: all nodes ready and calls answered after at most {} ms",
            self.report.faults.len(),
            slowest.unwrap_or_default()
        ));
        Ok(self.report)
    }
}

impl Run {
    /// Terms count elections: they must not run away, whatever the network does.
    async fn judge_terms(&mut self, cluster: &Cluster) -> Result<(), Error> {
        let after = Status::of(&cluster.router_address).await?.terms();
        let grew = after.iter().map(|(shard, term)| {
            let before = self.terms.get(shard).copied().unwrap_or(0);
            (term.saturating_sub(before), *shard)
        });
        let (most, shard) = grew.max().unwrap_or_default();
        let faults = self.report.faults.len() as u64;
        let told = format!("terms: at most {most} more, of shard {shard}, over {faults} faults");
        match most > faults * TERMS_PER_FAULT_MAX {
            true => self.report.violations.push(told),
            false => self.report.checked.push(told),
        }
        Ok(())
    }
}

/// Waits until every node is ready and calls are answered that were sent after the repair.
async fn recovered(
    cluster: &mut Cluster,
    clients: &Registers,
    undone: Instant,
) -> Result<(), Error> {
    cluster.ready().await?;
    wait::until("calls are answered again", WAITED_MAX, async || match clients.done_since(undone) {
        0 => Err("none yet"),
        _ => Ok(()),
    })
    .await
}

/// Looks at the leaders while the run goes on.
struct Looks {
    seen: Arc<Mutex<Vec<Leaders>>>,
    task: JoinHandle<()>,
}

impl Looks {
    fn start(router: &str, began: Instant) -> Looks {
        let seen: Arc<Mutex<Vec<Leaders>>> = Arc::default();
        let (into, router) = (Arc::clone(&seen), router.to_string());
        let task = tokio::spawn(async move {
            let mut beat = tokio::time::interval(LOOK_EVERY);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                let at_ms = began.elapsed().as_millis() as u64;
                // A router that does not answer shows as a gap.
                let Ok(status) = Status::of(&router).await else { continue };
                let by_shard = status.shards.iter().map(|s| (s.id, s.leader)).collect();
                let mut seen = into.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                seen.push(Leaders { at_ms, by_shard });
            }
        });
        Looks { seen, task }
    }

    fn end(&mut self) -> Vec<Leaders> {
        self.task.abort();
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.task.abort();
    }
}
