//! How faults are done and undone.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::fault::Fault;
use super::target::Target;
use crate::links::{Flow, Links, Place};
use crate::operator::Chance;
use crate::undo::{Debt, Keeper, Undo, Who};
use crate::{Error, Scrape, wait};

/// How long a fault lasts, in milliseconds.
const LASTS_MS_MIN: u64 = 1_000;
const LASTS_MS_MAX: u64 = 4_000;
/// A link that flaps is cut and healed this often.
const FLAP_EVERY: Duration = Duration::from_millis(100);
const LATE_BY: Duration = Duration::from_millis(100);
const SLOW_SYNC_US: u64 = 300_000;
const LOST_PERCENT: u32 = 20;
/// How long a node may take to notice that its disk failed, and to stop; or that it is nearly full.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
/// A tracer is asked to let go; longer than this it never takes.
const TRACER_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How far a clock is put off, in seconds.
const CLOCK_OFF_S: i64 = 30;
/// A clock that strobes jumps this often: its process looks once a second.
const STROBE_EVERY: Duration = Duration::from_millis(1_500);
/// A clock is compared with the others' every five seconds; it is off for longer than that.
const CLOCK_LASTS: Duration = Duration::from_secs(8);

/// Does and undoes faults.
#[derive(Debug)]
pub(super) struct Injector {
    chance: Chance,
    keeper: Keeper,
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
    pub(super) fn new(seed: u64, keeper: Keeper) -> Injector {
        Injector { chance: Chance::new(seed, "faults"), keeper, deck: Vec::new() }
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
        target: &mut Target,
        fault: Fault,
    ) -> Result<String, Error> {
        let nodes = target.nodes();
        let at = self.chance.below(nodes as u64) as usize;
        let lasts = LASTS_MS_MIN + self.chance.below(LASTS_MS_MAX - LASTS_MS_MIN);
        let lasts = Duration::from_millis(lasts);
        let is_ahead = self.chance.below(2) == 0;
        let node = format!("node {}", at + 1);
        match fault {
            Fault::Kill => {
                target.kill(at)?;
                tokio::time::sleep(lasts).await;
                target.start(at)?;
            }
            Fault::KillAll => {
                target.kill_all()?;
                (0..nodes).try_for_each(|at| target.start(at))?;
                return Ok("all nodes".to_string());
            }
            Fault::Pause => {
                let paused = target.pause(at, &self.keeper)?;
                tokio::time::sleep(lasts).await;
                drop(paused);
            }
            Fault::Power => lose_power(target, &[at], lasts).await?,
            Fault::PowerAll => {
                lose_power(target, &(0..nodes).collect::<Vec<_>>(), lasts).await?;
                return Ok("all nodes".to_string());
            }
            Fault::Turns => self.turns(target, at, lasts).await?,
            Fault::Loss => lose_packets(target, at, lasts).await?,
            Fault::SlowDisk => {
                let delay = format!("inject=fdatasync:delay_enter={SLOW_SYNC_US}");
                let tracer = self.trace(target.pid(at)?, &delay)?;
                tokio::time::sleep(lasts).await;
                let_go(tracer).await?;
            }
            Fault::SyncError => {
                let error = "inject=fdatasync:error=EIO:when=1";
                let tracer = self.trace(target.pid(at)?, error)?;
                let ended = target.ended(at, NOTICED_WITHIN).await;
                let_go(tracer).await?;
                ended?;
                target.start(at)?;
            }
            Fault::DiskFull => self.fill(target, &[at], lasts).await?,
            Fault::AllDisksFull => {
                self.fill(target, &(0..nodes).collect::<Vec<_>>(), lasts).await?;
                return Ok("all nodes".to_string());
            }
            Fault::Clock | Fault::Strobe => set_clock(target, at, fault, is_ahead).await?,
            // All others are done to the network.
            _ => {
                disturb(&target.own()?.links, fault, (at, nodes), lasts).await;
                if fault == Fault::Bridge {
                    return Ok(format!("{node} and node {}", (at + 1) % nodes + 1));
                }
            }
        }
        Ok(node)
    }

    /// The two nodes behind `at` are paused in turn; `at` loses power while the second one is.
    async fn turns(&self, target: &mut Target, at: usize, lasts: Duration) -> Result<(), Error> {
        let behind = |by: usize| (at + by) % target.nodes();
        let (first, second) = (behind(1), behind(2));
        let paused = target.pause(first, &self.keeper)?;
        tokio::time::sleep(lasts).await;
        drop(paused);
        let paused = target.pause(second, &self.keeper)?;
        tokio::time::sleep(lasts).await;
        target.cut_power(&[at])?;
        drop(paused);
        tokio::time::sleep(lasts).await;
        target.restore_power(&[at]).await
    }

    /// Fills disks, and makes room again once their nodes have noticed.
    async fn fill(&self, target: &Target, all: &[usize], lasts: Duration) -> Result<(), Error> {
        let own = target.own()?;
        let disks = own.disks()?;
        let filled = all.iter().map(|at| disks.fill(*at, &self.keeper));
        let filled = filled.collect::<Result<Vec<Debt>, Error>>()?;
        for at in all {
            notices(&own.cluster.node_addresses[*at], true).await?;
        }
        tokio::time::sleep(lasts).await;
        drop(filled);
        for at in all {
            notices(&own.cluster.node_addresses[*at], false).await?;
        }
        Ok(())
    }

    /// Starts to interfere with the system calls of a process.
    fn trace(&self, pid: u32, injection: &str) -> Result<(Child, Option<Debt>), Error> {
        let started = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", injection])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let failed = |source| Error::Start { name: "strace".to_string(), source };
        let tracer = started.map_err(failed)?;
        let who = tracer.id().and_then(Who::is);
        let debt = who.map(|who| self.keeper.owe(Undo::End(who))).transpose()?;
        Ok((tracer, debt))
    }
}

async fn lose_power(target: &mut Target, nodes: &[usize], lasts: Duration) -> Result<(), Error> {
    target.cut_power(nodes)?;
    tokio::time::sleep(lasts).await;
    target.restore_power(nodes).await
}

/// Loses packets to and from a node's port.
async fn lose_packets(target: &Target, at: usize, lasts: Duration) -> Result<(), Error> {
    let own = target.own()?;
    let packets = own.packets()?;
    packets.lose(&own.cluster.node_addresses[at], LOST_PERCENT)?;
    tokio::time::sleep(lasts).await;
    packets.lose_none()
}

/// Waits until a node has noticed whether its disk is nearly full.
async fn notices(address: &str, is_full: bool) -> Result<(), Error> {
    let what = format!("{address} is read-only: {is_full}");
    wait::until(&what, NOTICED_WITHIN, async || {
        let scrape = Scrape::of(address).await.map_err(|error| error.to_string())?;
        match (scrape.sum("platbook_node_read_only", "") > 0.0) == is_full {
            true => Ok(()),
            false => Err("not yet".to_string()),
        }
    })
    .await
}

/// Puts a clock off, for good or on and off, and right again.
async fn set_clock(target: &Target, at: usize, fault: Fault, is_ahead: bool) -> Result<(), Error> {
    let clocks = target.own()?.clocks()?;
    let off = if is_ahead { CLOCK_OFF_S } else { -CLOCK_OFF_S };
    let jumps = CLOCK_LASTS.as_millis() / STROBE_EVERY.as_millis();
    match fault {
        Fault::Strobe => {
            for jump in 0..jumps {
                clocks.set(at, if jump % 2 == 0 { off } else { 0 })?;
                tokio::time::sleep(STROBE_EVERY).await;
            }
        }
        _ => {
            clocks.set(at, off)?;
            tokio::time::sleep(CLOCK_LASTS).await;
        }
    }
    clocks.set(at, 0)
}

/// Cuts or slows the links of one node, and heals them.
async fn disturb(links: &Links, fault: Fault, (at, nodes): (usize, usize), lasts: Duration) {
    match fault {
        Fault::Flap => {
            let rounds = lasts.as_millis() / FLAP_EVERY.as_millis() / 2;
            for _ in 0..rounds {
                isolate(links, (at, nodes), Fault::Partition);
                tokio::time::sleep(FLAP_EVERY).await;
                links.heal();
                tokio::time::sleep(FLAP_EVERY).await;
            }
        }
        Fault::Bridge => {
            links.cut(Place::Node(at), Place::Node((at + 1) % nodes));
            tokio::time::sleep(lasts).await;
        }
        _ => {
            isolate(links, (at, nodes), fault);
            tokio::time::sleep(lasts).await;
        }
    }
    links.heal();
}

/// Changes the links of one node.
pub(crate) fn isolate(links: &Links, (at, nodes): (usize, usize), fault: Fault) {
    let own = Place::Node(at);
    let others = (0..nodes).filter(|other| *other != at).map(Place::Node);
    let cut = Flow { is_cut: true, ..Flow::default() };
    let late = Flow { delay: LATE_BY, ..Flow::default() };
    for other in others.chain([Place::Router]) {
        match fault {
            Fault::Deaf => links.set(other, own, cut),
            Fault::Mute => links.set(own, other, cut),
            Fault::Late => {
                links.set(own, other, late);
                links.set(other, own, late);
            }
            Fault::RouterCut if other != Place::Router => {}
            _ => links.cut(own, other),
        }
    }
}

/// Ends a tracer, which lets the process go on untouched.
async fn let_go((mut tracer, debt): (Child, Option<Debt>)) -> Result<(), Error> {
    let failed = |source| Error::Signal { name: "strace".to_string(), source };
    // Paying it asks the tracer to end; it may have done so with the process that it traced.
    drop(debt);
    match tokio::time::timeout(TRACER_ENDS_WITHIN, tracer.wait()).await {
        Ok(ended) => ended.map(|_| ()).map_err(failed),
        Err(_) => tracer.kill().await.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_fault_is_drawn_once_before_any_is_drawn_again() {
        let keeper = Keeper::start(std::path::Path::new("true")).expect("any program");
        let mut injector = Injector::new(5, keeper);
        for _ in 0..3 {
            let mut drawn: Vec<Fault> =
                Fault::ALL.iter().map(|_| injector.draw(&Fault::ALL, 100).0).collect();
            drawn.sort_unstable();
            assert_eq!(drawn, Fault::ALL);
        }
    }
}
