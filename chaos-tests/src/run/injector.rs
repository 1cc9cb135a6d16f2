//! How faults are done and undone.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::fault::Fault;
use crate::links::{Flow, Links, Place};
use crate::operator::Chance;
use crate::{Cluster, Error};

/// How long a fault lasts, in milliseconds.
const LASTS_MS_MIN: u64 = 1_000;
const LASTS_MS_MAX: u64 = 4_000;
/// A link that flaps is cut and healed this often.
const FLAP_EVERY: Duration = Duration::from_millis(100);
const LATE_BY: Duration = Duration::from_millis(100);
const SLOW_SYNC_US: u64 = 300_000;
/// How long a node may take to notice that its disk failed, and to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(20);
/// A tracer is asked to let go; longer than this it never takes.
const TRACER_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Does and undoes faults.
#[derive(Debug)]
pub(super) struct Injector {
    links: Links,
    chance: Chance,
    nodes: usize,
    /// Faults still to be done before any is done again.
    deck: Vec<Fault>,
}

/// Whether processes can be traced here, which the faults of disks need.
pub fn can_trace() -> bool {
    let traced = std::process::Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "trace=fdatasync", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    traced.is_ok_and(|status| status.success())
}

impl Injector {
    pub(super) fn new(links: Links, seed: u64, nodes: usize) -> Injector {
        Injector { links, chance: Chance::new(seed, "faults"), nodes, deck: Vec::new() }
    }

    /// One of these faults, and the pause before it. Each is drawn once before any is drawn again.
    pub(super) fn draw(&mut self, faults: &[Fault], pause_ms_max: u64) -> (Fault, Duration) {
        if self.deck.is_empty() {
            self.deck.extend_from_slice(faults);
        }
        let fault = self.deck.swap_remove(self.chance.below(self.deck.len() as u64) as usize);
        (fault, Duration::from_millis(200 + self.chance.below(pause_ms_max)))
    }

    /// Does it, lets it last, undoes it; tells whom it met. The cluster has not recovered yet.
    pub(super) async fn inject(
        &mut self,
        cluster: &mut Cluster,
        fault: Fault,
    ) -> Result<String, Error> {
        let at = self.chance.below(self.nodes as u64) as usize;
        let lasts = LASTS_MS_MIN + self.chance.below(LASTS_MS_MAX - LASTS_MS_MIN);
        let lasts = Duration::from_millis(lasts);
        let node = format!("node {}", at + 1);
        match fault {
            Fault::Kill => {
                cluster.kill_node(at)?;
                tokio::time::sleep(lasts).await;
                cluster.start_node(at)?;
            }
            Fault::KillAll => {
                cluster.kill_all_nodes()?;
                for at in 0..self.nodes {
                    cluster.start_node(at)?;
                }
                return Ok("all nodes".to_string());
            }
            Fault::Pause => {
                cluster.nodes[at].pause()?;
                tokio::time::sleep(lasts).await;
                cluster.nodes[at].resume()?;
            }
            Fault::SlowDisk => {
                let delay = format!("inject=fdatasync:delay_enter={SLOW_SYNC_US}");
                let tracer = trace(cluster.nodes[at].pid(), &delay)?;
                tokio::time::sleep(lasts).await;
                let_go(tracer).await?;
            }
            Fault::SyncError => {
                let tracer = trace(cluster.nodes[at].pid(), "inject=fdatasync:error=EIO:when=1")?;
                let ended = cluster.nodes[at].ended_within(STOPS_WITHIN).await;
                let_go(tracer).await?;
                if ended?.success() {
                    let what = format!("{node} went on although its disk failed");
                    return Err(Error::Violated { what });
                }
                cluster.start_node(at)?;
            }
            Fault::Flap => {
                let rounds = lasts.as_millis() / FLAP_EVERY.as_millis() / 2;
                for _ in 0..rounds {
                    self.isolate(at, Fault::Partition);
                    tokio::time::sleep(FLAP_EVERY).await;
                    self.links.heal();
                    tokio::time::sleep(FLAP_EVERY).await;
                }
            }
            Fault::Bridge => {
                let other = (at + 1) % self.nodes;
                self.links.cut(Place::Node(at), Place::Node(other));
                tokio::time::sleep(lasts).await;
                self.links.heal();
                return Ok(format!("{node} and node {}", other + 1));
            }
            Fault::Partition | Fault::Deaf | Fault::Mute | Fault::Late | Fault::RouterCut => {
                self.isolate(at, fault);
                tokio::time::sleep(lasts).await;
                self.links.heal();
            }
        }
        Ok(node)
    }

    /// Changes the links of one node.
    fn isolate(&self, at: usize, fault: Fault) {
        let own = Place::Node(at);
        let nodes = (0..self.nodes).filter(|other| *other != at).map(Place::Node);
        let cut = Flow { is_cut: true, ..Flow::default() };
        let late = Flow { delay: LATE_BY, ..Flow::default() };
        for other in nodes.chain([Place::Router]) {
            match fault {
                Fault::Deaf => self.links.set(other, own, cut),
                Fault::Mute => self.links.set(own, other, cut),
                Fault::Late => {
                    self.links.set(own, other, late);
                    self.links.set(other, own, late);
                }
                Fault::RouterCut if other != Place::Router => {}
                _ => self.links.cut(own, other),
            }
        }
    }
}

/// Starts to interfere with the system calls of a process.
fn trace(pid: u32, injection: &str) -> Result<Child, Error> {
    let started = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", injection])
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    started.map_err(|source| Error::Start { name: "strace".to_string(), source })
}

/// Ends a tracer, which lets the process go on untouched.
async fn let_go(mut tracer: Child) -> Result<(), Error> {
    let failed = |source| Error::Signal { name: "strace".to_string(), source };
    if let Some(pid) = tracer.id() {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        // It may have ended with the process that it traced.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
    match tokio::time::timeout(TRACER_ENDS_WITHIN, tracer.wait()).await {
        Ok(ended) => ended.map(|_| ()).map_err(failed),
        Err(_) => tracer.kill().await.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_drawn_once_before_any_is_drawn_again() {
        let mut injector = Injector::new(Links::default(), 5, 3);
        for _ in 0..3 {
            let mut drawn: Vec<Fault> =
                Fault::ALL.iter().map(|_| injector.draw(&Fault::ALL, 100).0).collect();
            drawn.sort_unstable();
            assert_eq!(drawn, Fault::ALL);
        }
    }
}
