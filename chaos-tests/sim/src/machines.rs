//! The machines on which nodes and routers run, and their lives.

use std::cell::RefCell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use platbook_engine::log::faults::{Faults, FaultyFiles};
use platbook_node::{Clock, NodeConfig, Seams, Simulated};
use platbook_protocol::NodeId;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use crate::board::{Board, Event};
use crate::disk::Disk;
use crate::plan::Plan;

const NODE_PORT: u16 = 7001;
const ROUTER_PORT: u16 = 8080;
/// Memory of a node: little, so that its limits are met.
const MEMORY_BYTES: u64 = 64 << 20;

/// One node's machine: what a crash leaves.
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    /// The disk of its log.
    pub(crate) files: FaultyFiles,
    pub(crate) clock: Clock,
    /// Where the tables of this life are.
    root: PathBuf,
    life: u32,
    /// The process ended by itself in this life.
    pub(crate) has_ended: bool,
    /// Its disk is as bad in this life that it may end by itself.
    pub(crate) may_end: bool,
    /// Its disk stopped: only a loss of power brings it back.
    pub(crate) needs_power_loss: bool,
}

/// All machines of one run.
pub(crate) struct Machines {
    pub(crate) nodes: Vec<Rc<RefCell<Machine>>>,
    pub(crate) routers: Vec<String>,
    sync_delay: Duration,
}

/// The address under which a router is asked.
pub(crate) fn router_address(name: &str) -> String {
    format!("{name}:{ROUTER_PORT}")
}

/// The address under which a node is asked.
pub(crate) fn node_address(name: &str) -> String {
    format!("{name}:{NODE_PORT}")
}

impl Machines {
    /// Starts all of them; the tables are below `root`.
    pub(crate) fn start(sim: &mut Sim<'_>, plan: &Plan, root: &Path, board: &Board) -> Machines {
        let sync_delay = Duration::from_millis(plan.sync_ms);
        let nodes: Vec<_> = (1..=plan.nodes)
            .map(|id| {
                let machine = Machine {
                    id: NodeId(id),
                    name: format!("node{id}"),
                    files: FaultyFiles::new(),
                    clock: Clock::default(),
                    root: root.join(format!("node{id}")),
                    life: 0,
                    has_ended: false,
                    may_end: false,
                    needs_power_loss: false,
                };
                machine.files.set_faults(Faults { sync_delay, ..Faults::default() });
                Rc::new(RefCell::new(machine))
            })
            .collect();
        for machine in &nodes {
            host_node(sim, machine.clone(), plan.clone(), board.clone());
        }
        let routers: Vec<String> = (1..=plan.routers).map(|at| format!("router{at}")).collect();
        for router in &routers {
            host_router(sim, router.clone(), plan.nodes);
        }
        Machines { nodes, routers, sync_delay }
    }

    /// Faults of a disk that is as good as any.
    pub(crate) fn no_faults(&self) -> Faults {
        Faults { sync_delay: self.sync_delay, ..Faults::default() }
    }
}

impl Machine {
    fn data(&self, life: u32) -> PathBuf {
        self.root.join(format!("life-{life}"))
    }

    /// What is left to the next life: tables as they are in their files, and of the log what was
    /// written, or after a power loss what was synced and what luck kept besides.
    pub(crate) fn leave(&mut self, power: Option<u64>) {
        let (from, to) = (self.data(self.life), self.data(self.life + 1));
        copy(&from, &to);
        if let Some(seed) = power {
            self.files = self.files.fork_at_power_loss(seed);
            self.needs_power_loss = false;
        }
    }

    /// Removes what only earlier lives needed.
    pub(crate) fn forget(&self) {
        // Whoever still holds it loses nothing by it.
        let _ = fs::remove_dir_all(self.data(self.life));
    }

    fn begin(&mut self) -> u32 {
        self.life += 1;
        self.has_ended = false;
        self.may_end = false;
        self.life
    }
}

fn host_node(sim: &mut Sim<'_>, machine: Rc<RefCell<Machine>>, plan: Plan, board: Board) {
    let name = machine.borrow().name.clone();
    sim.host(name, move || {
        let (machine, board) = (machine.clone(), board.clone());
        let config = {
            let mut machine = machine.borrow_mut();
            let (node, life) = (machine.id, machine.begin());
            board.take(&Event::Starts { node, life });
            config(&plan, &machine)
        };
        let seams = seams(&plan, &machine.borrow(), &board);
        async move {
            let ended = platbook_node::run_in(seams, config, std::future::pending()).await;
            let why = ended.err().map_or("without an error".to_string(), |e| e.to_string());
            let mut machine = machine.borrow_mut();
            machine.has_ended = true;
            board.take(&Event::Ends { node: machine.id, why: why.clone() });
            if !machine.may_end {
                board.violated(format!("node {} ended though its disk is good: {why}", machine.id));
            }
            Ok(())
        }
    });
}

fn seams(plan: &Plan, machine: &Machine, board: &Board) -> Seams {
    let disk = Disk::new(machine.id, machine.files.clone(), board.clone());
    Seams {
        clock: machine.clock.clone(),
        log_files: Some(Arc::new(disk)),
        simulated: Some(Simulated {
            flush_every: plan.flush_every,
            segment_bytes: plan.segment_bytes,
            witness: Arc::new(board.clone()),
        }),
    }
}

fn config(plan: &Plan, machine: &Machine) -> NodeConfig {
    let peers: Vec<String> =
        (1..=plan.nodes).map(|id| format!("{id}={}", node_address(&format!("node{id}")))).collect();
    let config = serde_json::json!({
        "id": machine.id.0,
        "data": machine.data(machine.life),
        "listen": SocketAddr::from((Ipv4Addr::UNSPECIFIED, NODE_PORT)),
        "advertise": node_address(&machine.name),
        "insecure": true,
        "peers": peers,
        "shards": plan.shards,
        "memory-max": MEMORY_BYTES,
        "log-bytes-max": plan.log_bytes_max,
        "heartbeat-ms": plan.heartbeat_ms,
        "election-ms": plan.election_ms,
        "disk-free-percent-min": 0,
        "scrub-hours": 0,
    });
    serde_json::from_value(config).expect("a configuration")
}

fn host_router(sim: &mut Sim<'_>, name: String, nodes: u64) {
    sim.host(name, move || async move {
        let config = platbook_router::Config {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, ROUTER_PORT)),
            nodes: (1..=nodes).map(|id| node_address(&format!("node{id}"))).collect(),
            insecure: true,
            ..platbook_router::Config::default()
        };
        let server =
            platbook_router::Server::bind(config, platbook_router::Clock::system()).await?;
        server.serve(CancellationToken::new()).await;
        Ok(())
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    let entries = fs::read_dir(from).expect("the tables of the last life");
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
            continue;
        }
        match fs::copy(&path, &to) {
            Ok(_) => {}
            // RocksDB removes what it no longer needs behind the scenes.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{} cannot be copied: {error}", path.display()),
        }
    }
}
