//! What is done to the machines and the network between them, and undone.

use std::collections::BTreeMap;
use std::time::Duration;

use platbook_chaos_tests::operator::Chance;
use platbook_engine::log::faults::Faults;
use turmoil::Sim;

use crate::board::{Board, Event};
use crate::machines::Machines;
use crate::world;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A node's process dies.
    Kill,
    /// A node's machine loses power: what was not synced may be gone.
    Power,
    /// All nodes die at once.
    KillAll,
    /// All nodes lose power at once.
    PowerAll,
    /// A router dies.
    KillRouter,
    /// Two machines don't reach each other.
    Cut,
    /// A node reaches nobody.
    Isolate,
    /// One machine does not reach another one, which reaches it.
    OneWay,
    /// Packets between two machines are late, and then all come at once.
    Hold,
    /// Packets of one node take long.
    SlowNetwork,
    /// Syncs of one node take long.
    SlowDisk,
    /// A sync fails.
    SyncError,
    /// A write fails.
    WriteError,
    /// The disk stops between two changes, as before a power loss, and the power goes.
    DiskStops,
    /// The log's disk is full.
    DiskFull,
    /// A node's clock is wrong.
    Clock,
}

impl Fault {
    pub(crate) const ALL: [Fault; 16] = [
        Fault::Kill,
        Fault::Power,
        Fault::KillAll,
        Fault::PowerAll,
        Fault::KillRouter,
        Fault::Cut,
        Fault::Isolate,
        Fault::OneWay,
        Fault::Hold,
        Fault::SlowNetwork,
        Fault::SlowDisk,
        Fault::SyncError,
        Fault::WriteError,
        Fault::DiskStops,
        Fault::DiskFull,
        Fault::Clock,
    ];

    /// Whether it means nothing where there is one node.
    pub(crate) fn needs_peers(self) -> bool {
        matches!(self, Fault::Isolate | Fault::SlowNetwork)
    }
}

/// How a fault ends.
#[derive(Clone, Debug)]
enum Undo {
    StartNode(usize),
    StartRouter(usize),
    Repair(String, String),
    RepairOneWay(String, String),
    Release(String, String),
    Latency(String, String),
    Disk(usize),
    Power(usize),
    Clock(usize),
}

/// Does faults, one after the other, and remembers how to undo them.
pub(crate) struct Injector {
    chance: Chance,
    board: Board,
    latency: Duration,
    /// By time in milliseconds and number.
    undo: BTreeMap<(u64, u64), Undo>,
    done: u64,
    down: Vec<bool>,
}

impl Injector {
    pub(crate) fn new(seed: u64, nodes: usize, latency: Duration, board: Board) -> Injector {
        let chance = Chance::new(seed, "faults");
        Injector {
            chance,
            board,
            latency,
            undo: BTreeMap::new(),
            done: 0,
            down: vec![false; nodes],
        }
    }

    /// A pause until the next fault.
    pub(crate) fn pause_ms(&mut self, most: u64) -> u64 {
        50 + self.chance.below(most)
    }

    /// Does one of `faults`.
    pub(crate) fn inject(&mut self, sim: &mut Sim<'_>, machines: &Machines, faults: &[Fault]) {
        let fault = faults[self.chance.below(faults.len() as u64) as usize];
        let node = self.chance.below(machines.nodes.len() as u64) as usize;
        match fault {
            Fault::Kill => self.kill(sim, machines, &[node], false),
            Fault::Power => self.kill(sim, machines, &[node], true),
            Fault::KillAll | Fault::PowerAll => {
                let all: Vec<usize> = (0..machines.nodes.len()).collect();
                self.kill(sim, machines, &all, fault == Fault::PowerAll);
            }
            Fault::KillRouter => self.kill_router(sim, machines),
            Fault::Cut | Fault::OneWay | Fault::Hold => self.cut(sim, machines, fault),
            Fault::Isolate | Fault::SlowNetwork => self.isolate(sim, machines, node, fault),
            Fault::SlowDisk
            | Fault::SyncError
            | Fault::WriteError
            | Fault::DiskStops
            | Fault::DiskFull => self.disk(machines, node, fault),
            Fault::Clock => self.clock(machines, node),
        }
    }

    fn note(&mut self, fault: &str, whom: &str) {
        self.board.reached(&format!("fault {fault}"));
        self.board.take(&Event::Fault { what: format!("{fault} {whom}") });
    }

    fn later(&mut self, most_ms: u64, undo: Undo) {
        let at = world::now_ms() + 50 + self.chance.below(most_ms);
        self.done += 1;
        self.undo.insert((at, self.done), undo);
    }

    fn kill(&mut self, sim: &mut Sim<'_>, machines: &Machines, nodes: &[usize], power: bool) {
        for at in nodes.iter().copied().filter(|at| !self.down[*at]).collect::<Vec<_>>() {
            let mut machine = machines.nodes[at].borrow_mut();
            if machine.has_ended {
                continue;
            }
            let (whom, power) = (machine.name.clone(), power || machine.needs_power_loss);
            self.note(if power { "power" } else { "kill" }, &whom);
            self.board.take(&Event::Dies { node: machine.id, power });
            let seed = self.chance.below(u64::MAX);
            machine.leave(power.then_some(seed));
            drop(machine);
            sim.crash(whom.as_str());
            machines.nodes[at].borrow().forget();
            self.down[at] = true;
            self.later(4_000, Undo::StartNode(at));
        }
    }

    fn kill_router(&mut self, sim: &mut Sim<'_>, machines: &Machines) {
        let at = self.chance.below(machines.routers.len() as u64) as usize;
        let router = machines.routers[at].as_str();
        if sim.is_host_running(router) {
            self.note("kill", router);
            sim.crash(router);
            self.later(1_500, Undo::StartRouter(at));
        }
    }

    /// Two different machines, of which the first is a node.
    fn pair(&mut self, machines: &Machines) -> (String, String) {
        let nodes = machines.nodes.len();
        let first = self.chance.below(nodes as u64) as usize;
        let all = nodes + machines.routers.len();
        let second = (first + 1 + self.chance.below(all as u64 - 1) as usize) % all;
        let name = |at: usize| match at < nodes {
            true => machines.nodes[at].borrow().name.clone(),
            false => machines.routers[at - nodes].clone(),
        };
        (name(first), name(second))
    }

    fn cut(&mut self, sim: &mut Sim<'_>, machines: &Machines, fault: Fault) {
        let (a, b) = self.pair(machines);
        let whom = format!("{a} {b}");
        match fault {
            Fault::OneWay => {
                self.note("one-way", &whom);
                sim.partition_oneway(a.as_str(), b.as_str());
                self.later(6_000, Undo::RepairOneWay(a, b));
            }
            Fault::Hold => {
                self.note("hold", &whom);
                sim.hold(a.as_str(), b.as_str());
                self.later(3_000, Undo::Release(a, b));
            }
            _ => {
                self.note("cut", &whom);
                sim.partition(a.as_str(), b.as_str());
                self.later(6_000, Undo::Repair(a, b));
            }
        }
    }

    fn isolate(&mut self, sim: &mut Sim<'_>, machines: &Machines, node: usize, fault: Fault) {
        let own = machines.nodes[node].borrow().name.clone();
        let name = if fault == Fault::Isolate { "isolate" } else { "slow-network" };
        self.note(name, &own);
        let latency = Duration::from_millis(50 + self.chance.below(400));
        let ends = 500 + self.chance.below(6_000);
        let others = machines.nodes.iter().map(|other| other.borrow().name.clone());
        let others: Vec<String> =
            others.chain(machines.routers.iter().cloned()).filter(|other| *other != own).collect();
        for other in others {
            self.done += 1;
            let undo = if fault == Fault::Isolate {
                sim.partition(own.as_str(), other.as_str());
                Undo::Repair(own.clone(), other)
            } else {
                sim.set_link_max_message_latency(own.as_str(), other.as_str(), latency);
                Undo::Latency(own.clone(), other)
            };
            self.undo.insert((world::now_ms() + ends, self.done), undo);
        }
    }

    fn disk(&mut self, machines: &Machines, node: usize, fault: Fault) {
        let mut machine = machines.nodes[node].borrow_mut();
        if self.down[node] || machine.has_ended {
            return;
        }
        let (good, chance) = (machines.no_faults(), &mut self.chance);
        let faults = match fault {
            Fault::SlowDisk => {
                Faults { sync_delay: Duration::from_millis(20 + chance.below(600)), ..good }
            }
            Fault::SyncError => Faults { sync_fails_in: Some(chance.below(20)), ..good },
            Fault::WriteError => Faults { write_fails_in: Some(chance.below(20)), ..good },
            Fault::DiskStops => Faults { stops_in: Some(chance.below(40)), ..good },
            _ => Faults { bytes_max: Some(0), ..good },
        };
        machine.files.set_faults(faults);
        machine.may_end |= fault != Fault::SlowDisk;
        machine.needs_power_loss |= fault == Fault::DiskStops;
        let (name, most_ms) = match fault {
            Fault::SlowDisk => ("slow-disk", 5_000),
            Fault::SyncError => ("sync-error", 3_000),
            Fault::WriteError => ("write-error", 3_000),
            Fault::DiskStops => ("disk-stops", 3_000),
            _ => ("disk-full", 3_000),
        };
        let whom = machine.name.clone();
        drop(machine);
        self.note(name, &whom);
        let stops = fault == Fault::DiskStops;
        self.later(most_ms, if stops { Undo::Power(node) } else { Undo::Disk(node) });
    }

    fn clock(&mut self, machines: &Machines, node: usize) {
        let most = [200, 3_000, 60_000][self.chance.below(3) as usize];
        let ahead = self.chance.below(2 * most) as i64 - most as i64;
        let machine = machines.nodes[node].borrow();
        machine.clock.set_ahead(ahead);
        let whom = format!("{} {ahead} ms", machine.name);
        self.note("clock", &whom);
        self.later(8_000, Undo::Clock(node));
    }

    /// Starts nodes again that ended by themselves, with a good disk.
    pub(crate) fn tend(&mut self, sim: &mut Sim<'_>, machines: &Machines) {
        for at in 0..machines.nodes.len() {
            if machines.nodes[at].borrow().has_ended && !self.down[at] {
                self.board.reached("node stopped itself");
                self.down[at] = true;
                self.later(2_000, Undo::StartNode(at));
            }
        }
        let now = world::now_ms();
        while let Some(entry) = self.undo.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let undo = entry.remove();
            self.end(sim, machines, undo);
        }
    }

    /// Ends all faults at once.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, machines: &Machines) {
        self.board.take(&Event::Fault { what: "none: everything heals".to_string() });
        while let Some((_, undo)) = self.undo.pop_first() {
            self.end(sim, machines, undo);
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, machines: &Machines, undo: Undo) {
        self.board.take(&Event::Fault { what: format!("ends: {undo:?}") });
        match undo {
            Undo::StartNode(at) => self.start(sim, machines, at),
            Undo::StartRouter(at) => sim.bounce(machines.routers[at].as_str()),
            Undo::Repair(a, b) => sim.repair(a.as_str(), b.as_str()),
            Undo::RepairOneWay(a, b) => sim.repair_oneway(a.as_str(), b.as_str()),
            Undo::Release(a, b) => sim.release(a.as_str(), b.as_str()),
            Undo::Latency(a, b) => {
                sim.set_link_max_message_latency(a.as_str(), b.as_str(), self.latency);
            }
            // It comes back like any other that lost power.
            Undo::Power(at) => self.kill(sim, machines, &[at], true),
            Undo::Disk(at) => machines.nodes[at].borrow().files.set_faults(machines.no_faults()),
            Undo::Clock(at) => machines.nodes[at].borrow().clock.set_ahead(0),
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, machines: &Machines, at: usize) {
        let name = {
            let mut machine = machines.nodes[at].borrow_mut();
            if machine.has_ended {
                // Whoever repairs a disk starts the machine anew.
                let seed = self.chance.below(u64::MAX);
                machine.leave(Some(seed));
            }
            machine.files.set_faults(machines.no_faults());
            machine.name.clone()
        };
        self.down[at] = false;
        sim.bounce(name.as_str());
    }
}
