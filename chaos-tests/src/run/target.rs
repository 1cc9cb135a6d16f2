//! The cluster that is hurt: one of our own, or one that runs already.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clocks::Clocks;
use super::disks::Disks;
use super::fault::{Fault, Needs};
use super::packets::Packets;
use crate::links::{Links, caller};
use crate::undo::{Debt, Keeper, Undo, Who};
use crate::{Cluster, Error, cluster, http, wait};

/// Longest wait for a process that was killed to answer again, whoever starts it.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What is hurt.
#[derive(Debug)]
pub enum Target {
    /// Processes of our own.
    Own(Box<Own>),
    /// Processes that somebody else started, and starts again when they end.
    Running(Running),
}

/// A cluster of our own, and what its faults need.
#[derive(Debug)]
pub struct Own {
    /// The processes.
    pub cluster: Cluster,
    /// Between them.
    pub links: Links,
    /// Under the nodes, where file systems can be mounted.
    pub disks: Option<Disks>,
    /// Of the nodes, where the library for that is installed.
    pub clocks: Option<Clocks>,
    /// Where the run has a network of its own.
    pub packets: Option<Packets>,
}

/// Processes of this machine that run already.
#[derive(Debug)]
pub struct Running {
    /// Where the nodes listen, `host:port`.
    pub nodes: Vec<String>,
    /// A router, `host:port`.
    pub router: String,
    /// The `platbook` program, to verify with.
    pub binary: PathBuf,
}

impl Target {
    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        match self {
            Target::Own(own) => own.cluster.nodes.len(),
            Target::Running(running) => running.nodes.len(),
        }
    }

    /// A router, `host:port`.
    pub fn router(&self) -> String {
        match self {
            Target::Own(own) => own.cluster.router_address.clone(),
            Target::Running(running) => running.router.clone(),
        }
    }

    /// Why a fault cannot be done to it.
    pub(super) fn lacks(&self, fault: Fault) -> Option<&'static str> {
        let own = self.own().ok();
        match fault.needs() {
            _ if fault == Fault::Turns && self.nodes() < 3 => Some("it takes three nodes"),
            Needs::Links if own.is_none() => Some("its links are not ours"),
            Needs::Disk if own.is_none_or(|own| own.disks.is_none()) => {
                Some("its nodes have no disks of their own, or mounting fails")
            }
            Needs::Clock if own.is_none_or(|own| own.clocks.is_none()) => {
                Some("its clocks are not ours (Debian's libfaketime)")
            }
            Needs::Network if own.is_none_or(|own| own.packets.is_none()) => {
                Some("its network is not ours (root, Debian's nftables and iproute2)")
            }
            _ => None,
        }
    }

    /// The cluster, where it is ours.
    pub(super) fn own(&self) -> Result<&Own, Error> {
        match self {
            Target::Own(own) => Ok(own),
            Target::Running(_) => Err(lacks("a cluster of our own")),
        }
    }

    /// The number of a node's process.
    pub(super) fn pid(&self, at: usize) -> Result<u32, Error> {
        match self {
            Target::Own(own) => Ok(own.cluster.nodes[at].pid()),
            Target::Running(running) => running.pid(at),
        }
    }

    /// SIGKILL to a node.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), Error> {
        match self {
            Target::Own(own) => own.cluster.kill_node(at),
            Target::Running(running) => running.signal(at, Signal::SIGKILL),
        }
    }

    /// SIGKILL to all nodes at the same moment.
    pub(super) fn kill_all(&mut self) -> Result<(), Error> {
        match self {
            Target::Own(own) => own.cluster.kill_all_nodes(),
            Target::Running(running) => {
                (0..running.nodes.len()).try_for_each(|at| running.signal(at, Signal::SIGKILL))
            }
        }
    }

    /// These nodes lose power at the same moment: their disks first, then they themselves.
    pub(super) fn cut_power(&mut self, nodes: &[usize]) -> Result<(), Error> {
        let disks = self.own()?.disks()?;
        nodes.iter().try_for_each(|at| disks.cut_power(*at))?;
        nodes.iter().try_for_each(|at| self.kill(*at))
    }

    /// The power comes back, and the nodes with it.
    pub(super) async fn restore_power(&mut self, nodes: &[usize]) -> Result<(), Error> {
        for at in nodes {
            self.own()?.disks()?.restore_power(*at).await?;
            self.start(*at)?;
        }
        Ok(())
    }

    /// Starts a node that has ended, if that is for us to do.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Error> {
        match self {
            Target::Own(own) => own.cluster.start_node(at),
            Target::Running(_) => Ok(()),
        }
    }

    /// SIGSTOP to a node, until the debt is paid.
    pub(super) fn pause(&mut self, at: usize, keeper: &Keeper) -> Result<Debt, Error> {
        let pid = self.pid(at)?;
        let gone = || Error::Violated { what: format!("node {} has ended by itself", at + 1) };
        let debt = keeper.owe(Undo::Resume(Who::is(pid).ok_or_else(gone)?))?;
        signal(pid, Signal::SIGSTOP, at)?;
        Ok(debt)
    }

    /// Waits until a node whose process was `pid` has ended by itself.
    pub(super) async fn ended(&mut self, at: usize, longest: Duration) -> Result<(), Error> {
        match self {
            Target::Own(own) => {
                let status = own.cluster.nodes[at].ended_within(longest).await?;
                let what = format!("node {} ended well although its disk failed", at + 1);
                if status.success() { Err(Error::Violated { what }) } else { Ok(()) }
            }
            Target::Running(running) => {
                let before = running.pid(at)?;
                wait::until(&format!("node {} stops", at + 1), longest, async || {
                    match running.pid(at) {
                        Ok(pid) if pid == before => Err("it goes on"),
                        Ok(_) | Err(_) => Ok(()),
                    }
                })
                .await
            }
        }
    }

    /// Waits until every process answers that it is ready.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        match self {
            Target::Own(own) => own.cluster.ready().await,
            Target::Running(running) => {
                for address in running.nodes.iter().chain([&running.router]) {
                    let what = format!("{address} is ready");
                    wait::until(&what, READY_WITHIN, async || {
                        match http::get(address, "/readyz", &[]).await {
                            Ok(answer) if answer.status == 200 => Ok(()),
                            Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
                            Err(error) => Err(error.to_string()),
                        }
                    })
                    .await?;
                }
                Ok(())
            }
        }
    }

    /// Whether all replicas of each shard hold the same.
    pub(super) async fn verify(&self) -> Result<(), Error> {
        match self {
            Target::Own(own) => own.cluster.verify().await,
            Target::Running(running) => cluster::verify(&running.binary, &running.router).await,
        }
    }
}

impl Own {
    pub(super) fn disks(&self) -> Result<&Disks, Error> {
        self.disks.as_ref().ok_or_else(|| lacks("disks"))
    }

    pub(super) fn clocks(&self) -> Result<&Clocks, Error> {
        self.clocks.as_ref().ok_or_else(|| lacks("clocks"))
    }

    pub(super) fn packets(&self) -> Result<&Packets, Error> {
        self.packets.as_ref().ok_or_else(|| lacks("a network of our own"))
    }
}

/// What cannot be done is not drawn.
fn lacks(what: &str) -> Error {
    Error::Violated { what: format!("a fault was drawn that needs {what}, which there is none of") }
}

impl Running {
    /// Whoever listens where the node should.
    fn pid(&self, at: usize) -> Result<u32, Error> {
        let address = &self.nodes[at];
        let malformed = |reason: &str| Error::Malformed {
            what: format!("node {} at {address}", at + 1),
            reason: reason.to_string(),
        };
        let address: SocketAddr = address.parse().map_err(|_| malformed("not IP:PORT"))?;
        caller::listener(address)
            .ok_or_else(|| malformed("no process of this machine listens there"))
    }

    fn signal(&self, at: usize, which: Signal) -> Result<(), Error> {
        signal(self.pid(at)?, which, at)
    }
}

fn signal(pid: u32, signal: Signal, at: usize) -> Result<(), Error> {
    kill(Pid::from_raw(pid.cast_signed()), signal)
        .map_err(|errno| Error::Signal { name: format!("node {}", at + 1), source: errno.into() })
}
