//! One run: a cluster forms, is hurt while it works, heals, must finish, and is looked at.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use turmoil::{Builder, Sim};

use crate::audit::Audit;
use crate::board::{Board, Event};
use crate::faults::Injector;
use crate::machines::{Machines, router_address};
use crate::plan::Plan;
use crate::work::Phase;
use crate::work::feed::{self, Feed};
use crate::work::follower::{self, Journal};
use crate::work::registers::{self, Registers};
use crate::world;

/// How long a cluster may take to form and to answer, and after everything healed to finish.
const FORMS_WITHIN_MS: u64 = 30_000;
const FINISHES_WITHIN_MS: u64 = 60_000;
const AUDIT_WITHIN_MS: u64 = 60_000;
/// Segments that one direction of a connection holds.
const TCP_SEGMENTS: usize = 4_096;

/// What a run was worth.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    /// Events, and a hash of them in their order: the same for the same seed.
    pub(crate) events: u64,
    pub(crate) trace: u64,
    /// Simulated time in milliseconds.
    pub(crate) took_ms: u64,
    pub(crate) reached: BTreeMap<String, u64>,
}

/// Runs `plan` on this thread, which has to be a fresh one.
pub(crate) fn run(plan: &Plan, root: &Path, trace: Option<File>) -> Outcome {
    world::enter(plan.seed);
    let board = Board::new(plan.nodes, trace);
    let panicked = board.clone();
    std::panic::set_hook(Box::new(move |panic| panicked.violated(format!("panic: {panic}"))));
    let latency = Duration::from_millis(plan.latency_ms);
    let mut sim = Builder::new()
        .rng_seed(plan.seed)
        .epoch(std::time::UNIX_EPOCH + Duration::from_millis(world::BEGINS_MS))
        .simulation_duration(Duration::from_secs(3_600))
        .tick_duration(Duration::from_millis(1))
        .max_message_latency(latency)
        .tcp_capacity(TCP_SEGMENTS)
        .build();
    let machines = Machines::start(&mut sim, plan, root, &board);
    let injector = Injector::new(plan.seed, machines.nodes.len(), latency, board.clone());
    let work = Work::start(&mut sim, plan, &board);
    let mut run = Run { plan, sim, board: board.clone(), machines, injector, work };
    run.all();
    // Whatever still runs is dropped with its runtimes: no part of the run any more.
    let took_ms = world::now_ms();
    let (events, trace, mut reached) = board.end();
    reached.insert("calls answered".to_string(), run.work.registers.answered.get());
    Outcome { violations: board.violations(), events, trace, took_ms, reached }
}

struct Work {
    phase: Phase,
    registers: Rc<Registers>,
    feed: Rc<Feed>,
    journal: Rc<Journal>,
}

impl Work {
    fn start(sim: &mut Sim<'_>, plan: &Plan, board: &Board) -> Work {
        let phase = Phase::default();
        let registers = Registers::new(plan, phase.clone(), board.clone());
        for number in 0..plan.clients {
            let router = router_address(&format!("router{}", 1 + number % plan.routers));
            let client = registers::run(registers.clone(), number, plan.clone(), router);
            sim.client(format!("client{number}"), ended(client));
        }
        let feed = Feed::new(plan, board.clone());
        sim.client("operator", ended(feed::send(feed.clone(), plan.clone())));
        for number in 1..=2 {
            let router = router_address(&format!("router{}", 1 + number % plan.routers));
            let ingester = feed::ingest(feed.clone(), phase.clone(), plan.clone(), number, router);
            sim.client(format!("ingester{number}"), ended(ingester));
        }
        let journal = Rc::new(Journal::default());
        let follower = follower::run(journal.clone(), phase.clone(), plan.clone(), board.clone());
        sim.client("follower", ended(follower));
        Work { phase, registers, feed, journal }
    }
}

async fn ended(work: impl Future<Output = ()>) -> turmoil::Result {
    work.await;
    Ok(())
}

struct Run<'a> {
    plan: &'a Plan,
    sim: Sim<'a>,
    board: Board,
    machines: Machines,
    injector: Injector,
    work: Work,
}

impl Run<'_> {
    fn all(&mut self) {
        let registers = self.work.registers.clone();
        if !self.until("the cluster forms", FORMS_WITHIN_MS, || registers.answered.get() > 0) {
            return;
        }
        self.hurt();
        self.injector.heal(&mut self.sim, &self.machines);
        self.work.phase.heal();
        let feed = self.work.feed.clone();
        let through = || registers.are_healed() && feed.is_through();
        if !self.until("all work is finished", FINISHES_WITHIN_MS, through) {
            return;
        }
        self.work.phase.finish();
        if !self.until("clients end", FINISHES_WITHIN_MS, || registers.have_ended()) {
            return;
        }
        self.audit();
        self.work.phase.end();
    }

    /// The phase in which nothing is safe.
    fn hurt(&mut self) {
        let ends = world::now_ms() + self.plan.unsafe_ms;
        let mut next = world::now_ms() + self.injector.pause_ms(self.plan.fault_pause_ms);
        while world::now_ms() < ends && self.step() {
            if world::now_ms() >= next && !self.plan.faults.is_empty() {
                self.injector.inject(&mut self.sim, &self.machines, &self.plan.faults);
                next = world::now_ms() + self.injector.pause_ms(self.plan.fault_pause_ms);
            }
            self.injector.tend(&mut self.sim, &self.machines);
        }
    }

    fn audit(&mut self) {
        let audit = Audit {
            board: self.board.clone(),
            nodes: self.plan.nodes,
            registers: self.work.registers.clone(),
            feed: self.work.feed.clone(),
            journal: self.work.journal.clone(),
        };
        let is_done = Rc::new(Cell::new(false));
        let done = is_done.clone();
        self.sim.client("auditor", async move {
            audit.run().await;
            done.set(true);
            Ok(())
        });
        self.until("everything is looked at", AUDIT_WITHIN_MS, || is_done.get());
    }

    /// Lets time pass until it holds; otherwise that is a violation.
    fn until(&mut self, what: &str, within_ms: u64, holds: impl Fn() -> bool) -> bool {
        let deadline = world::now_ms() + within_ms;
        while !holds() {
            if world::now_ms() > deadline {
                let left = self.work.feed.left();
                self.board.violated(format!(
                    "not within {within_ms} ms: {what}; the feed still has {left:?}"
                ));
                return false;
            }
            if !self.step() {
                return false;
            }
            self.injector.tend(&mut self.sim, &self.machines);
        }
        self.board.take(&Event::Fault { what: format!("reached: {what}") });
        true
    }

    /// One millisecond; false once something is violated.
    fn step(&mut self) -> bool {
        if let Err(error) = self.sim.step() {
            self.board.violated(format!("a machine ended: {error}"));
        }
        world::set_elapsed(self.sim.elapsed());
        !self.board.is_violated()
    }
}
