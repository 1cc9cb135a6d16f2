//! The run: load, faults one after the other with a recovery after each, then the judgement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::fault::{Fault, Needs};
use super::feed::{Feed, Feeding};
use super::follower::Follower;
use super::injector::{Injector, can_trace};
use super::report::{Injected, Leaders, Report};
use super::target::Target;
use crate::load::place::places;
use crate::load::{Load, Outcome};
use crate::operator::now_ms;
use crate::registers::{Registers, run as registers};
use crate::status::Status;
use crate::undo::Keeper;
use crate::{Error, http, wait};

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

/// Runs it; `tell` gets a line for each fault. What the faults owe is told to `keeper`.
pub async fn run(
    target: &mut Target,
    feed: Option<Feed>,
    keeper: Keeper,
    plan: &Plan,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let faults = injectable(target, &plan.faults, tell)?;
    let (router, began_ms) = (target.router(), now_ms());
    let status = Status::of(&router).await?;
    let places = places(&status, 1, &format!("chaos-{began_ms}"))?;
    let mut zips: Vec<String> = places.iter().flat_map(|place| place.zips.clone()).collect();
    let mut ids: Vec<String> = places.iter().flat_map(|place| place.ids.clone()).collect();
    let load = Load::start(&router, places, plan.pause * 4).await?;
    let clients = Registers::start(&registers::Plan {
        routers: vec![router.clone()],
        name: format!("chaos-{began_ms}-shared"),
        clients: CLIENTS,
        listings: LISTINGS,
        seed: plan.seed,
        pause: plan.pause,
    });
    zips.extend(clients.listings().iter().flat_map(|(_, zips)| zips.clone()));
    ids.extend(clients.listings().iter().map(|(id, _)| id.clone()));
    let began = clients.origin();
    let feed = match target {
        Target::Own(own) => feed.map(|feed| Feeding::start(&own.cluster, feed, plan.length)),
        Target::Running(_) => None,
    };
    // Of a store that somebody else fills only what comes is followed.
    let has_state = matches!(target, Target::Own(_));
    let mut run = Run {
        terms: status.terms(),
        began,
        looks: Looks::start(&router, began),
        injector: Injector::new(plan.seed, keeper),
        followers: vec![Follower::start(&router, has_state, began)],
        report: Report::new(plan, began_ms, target.nodes(), &status),
    };
    while run.began.elapsed() < plan.length && !load.went_back() {
        // The second one is told the state while faults go on.
        if run.followers.len() == 1 && run.began.elapsed() > plan.length / 2 {
            run.followers.push(Follower::start(&router, has_state, began));
        }
        let (fault, pause) = run.injector.draw(&faults, PAUSE_MS_MAX);
        tokio::time::sleep(pause).await;
        run.round(target, &clients, fault, tell).await?;
    }
    let report = run.judge(target, Workload { load, clients, feed, zips }, tell).await;
    if let Target::Running(_) = target {
        clear(&router, &ids).await?;
    }
    report
}

/// Those of the faults that can be done here, which must be some.
fn injectable(
    target: &Target,
    wanted: &[Fault],
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Fault>, Error> {
    let traces = can_trace();
    let mut found = Vec::new();
    for fault in wanted {
        let lacks = match fault.needs() {
            Needs::Tracer if !traces => Some("processes cannot be traced here (strace)"),
            _ => target.lacks(*fault),
        };
        match lacks {
            None => found.push(*fault),
            Some(why) => tell(&format!("left out: {}; {why}", fault.name())),
        }
    }
    match found.is_empty() {
        true => Err(Error::Violated { what: "none of the faults can be done here".to_string() }),
        false => Ok(found),
    }
}

/// Takes the run's own listings out of a store that is somebody else's.
async fn clear(router: &str, ids: &[String]) -> Result<(), Error> {
    let mut connection = http::Connection::to(router);
    for id in ids {
        let path = format!("/v1/listings/{id}");
        let answer = connection.delete(&path, &[]).await?;
        if !matches!(answer.status, 200 | 404) {
            let what = format!("DELETE {path}: {} {}", answer.status, answer.text());
            return Err(Error::Violated { what });
        }
    }
    Ok(())
}

/// Whoever uses the store meanwhile.
struct Workload {
    load: Load,
    clients: Registers,
    feed: Option<Feeding>,
    /// In which listings of `load` and `clients` are.
    zips: Vec<String>,
}

struct Run {
    /// Of each shard, when the run began.
    terms: BTreeMap<u32, u64>,
    began: Instant,
    looks: Looks,
    injector: Injector,
    followers: Vec<Follower>,
    report: Report,
}

impl Run {
    /// One fault and the recovery from it.
    async fn round(
        &mut self,
        target: &mut Target,
        clients: &Registers,
        fault: Fault,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let from_ms = self.now_ms();
        let whom = self.injector.inject(target, fault).await?;
        let undone = Instant::now();
        let to_ms = self.now_ms();
        recovered(target, clients, undone).await?;
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
        target: &mut Target,
        workload: Workload,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Report, Error> {
        let Workload { load, clients, feed, mut zips } = workload;
        tell("judging what was answered");
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
        if let (Some(feed), Target::Own(own)) = (feed, &mut *target) {
            zips.extend(feed.zips().iter().cloned());
            let fed = feed.end(&mut own.cluster).await;
            self.report.on_check(fed);
        }
        for (at, follower) in std::mem::take(&mut self.followers).into_iter().enumerate() {
            let (found, lags_ms, wrong) = follower.end(&zips).await?;
            self.report
                .checked
                .push(format!("follower {}: {found}; no gap, nothing twice", at + 1));
            self.report.violations.extend(wrong);
            if at == 0 {
                self.report.lags_ms = lags_ms;
            }
        }
        self.judge_terms(&target.router()).await?;
        let verified = target.verify().await;
        self.report.on_check(verified.map(|()| "all replicas hold the same".to_string()));
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
    async fn judge_terms(&mut self, router: &str) -> Result<(), Error> {
        let after = Status::of(router).await?.terms();
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
async fn recovered(target: &mut Target, clients: &Registers, undone: Instant) -> Result<(), Error> {
    target.ready().await?;
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
