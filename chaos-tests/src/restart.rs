//! Kills all nodes at the same moment in the middle of the feed, round after round.
//!
//! Two kinds of input run meanwhile. The feed, whose journal tells what the store must hold once it
//! is drained; and clients that write single listings, because a message that was acknowledged and
//! lost could hide behind its copy, which the feed delivers later, while a client writes once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::load::place::places;
use crate::load::{Load, Tally};
use crate::operator::answers::{self, Compared};
use crate::operator::queue::BATCH_MAX;
use crate::operator::{Chance, Messages, Queue, now_ms};
use crate::status::Status;
use crate::{Cluster, Error};

/// A queue that does not get shorter for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(90);
/// How often the queue is asked how much is left.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Where the feed notes what it accepted.
const JOURNAL: &str = "journal.ndjson";

/// What the queue does to the messages, as SQS may; the seed decides to which.
pub fn feed_faults(dir: &Path, seed: u64) -> Vec<String> {
    let faults = ["--shuffle", "500", "--duplicate", "0.05", "--resurrect", "0.01"];
    let mut flags: Vec<String> = faults.map(ToString::to_string).to_vec();
    flags.extend(["--fail-delete".to_string(), "0.01".to_string()]);
    flags.extend(["--seed".to_string(), seed.to_string()]);
    flags.extend(["--journal".to_string(), dir.join(JOURNAL).display().to_string()]);
    flags
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often all nodes are killed.
    pub rounds: u32,
    /// Decides the moments.
    pub seed: u64,
    /// Messages a second.
    pub rate: u32,
    /// The directory of the cluster.
    pub dir: PathBuf,
    /// ZIPs to compare, besides those of the messages.
    pub zips: Vec<String>,
    /// Least time between two writes of a client; there is one client a shard.
    pub pause: Duration,
}

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// Messages sent.
    pub sent: u64,
    /// What was compared at the end of the last round.
    pub compared: Compared,
    /// What the clients saw.
    pub tally: Tally,
    /// The longest time from the kill until everything was ready.
    pub longest: Duration,
}

/// Sends all `messages` in equal shares, a kill in each; `tell` gets a line for each round.
pub async fn run(
    cluster: &mut Cluster,
    plan: &Plan,
    mut messages: Messages,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let status = Status::of(&cluster.router_address).await?;
    let places = places(&status, 1, "chaos")?;
    let load = Load::start(&cluster.router_address, places, plan.pause).await?;
    let mut chance = Chance::new(plan.seed, "restart");
    let queue = Queue::of(cluster);
    let share = messages.remaining().div_ceil(plan.rounds.max(1) as usize).max(2);
    let mut report = Report {
        sent: 0,
        compared: Compared::default(),
        tally: Tally::default(),
        longest: Duration::ZERO,
    };
    for round in 1..=plan.rounds {
        let from = Instant::now();
        let before = chance.below(share as u64) as usize;
        report.sent += send(&mut messages, before, plan, cluster, &queue).await?;
        let killed_at = Instant::now();
        cluster.kill_all_nodes()?;
        let left_at_kill = queue.left().await?;
        // The operator does not notice.
        let while_dead = (share - before).min(before / 4 + BATCH_MAX);
        report.sent += send(&mut messages, while_dead, plan, cluster, &queue).await?;
        cluster.restart_all_nodes().await?;
        let ready = killed_at.elapsed();
        report.longest = report.longest.max(ready);
        let rest = share.saturating_sub(before + while_dead);
        report.sent += send(&mut messages, rest, plan, cluster, &queue).await?;
        drain(cluster, &queue).await?;
        report.compared = compare(cluster, &plan.dir, &plan.zips, report.sent).await?;
        if load.went_back() {
            break;
        }
        tell(&format!(
            "round {round}/{}: all nodes killed with {left_at_kill} messages in the queue, ready \
             after {} ms; {} listings right in {} ZIPs; {:.1} s",
            plan.rounds,
            ready.as_millis(),
            report.compared.listings,
            report.compared.zips,
            from.elapsed().as_secs_f64()
        ));
    }
    report.tally = load.end().await?;
    if report.tally.violations().is_empty() {
        cluster.verify().await?;
    }
    Ok(report)
}

/// Sends so many messages, or what is left of them.
async fn send(
    messages: &mut Messages,
    count: usize,
    plan: &Plan,
    cluster: &mut Cluster,
    queue: &Queue,
) -> Result<u64, Error> {
    let mut beat = tokio::time::interval(Duration::from_secs(BATCH_MAX as u64) / plan.rate.max(1));
    let mut sent = 0;
    while sent < count {
        beat.tick().await;
        let batch = messages.batch(now_ms(), BATCH_MAX.min(count - sent));
        if batch.is_empty() {
            break;
        }
        queue.send(&batch).await?;
        cluster.check()?;
        sent += batch.len();
    }
    Ok(sent as u64)
}

/// Waits until the ingester has acknowledged everything.
pub(crate) async fn drain(cluster: &mut Cluster, queue: &Queue) -> Result<(), Error> {
    let mut beat = tokio::time::interval(LOOK_EVERY);
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        beat.tick().await;
        cluster.check()?;
        let left = queue.left().await?;
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, since) = (left, Instant::now());
        }
        if since.elapsed() >= STUCK_AFTER {
            let what = format!("the queue is stuck at {left} messages");
            return Err(Error::Violated { what });
        }
    }
}

/// Compares `zips` and the feed's with what the feed's journal in `dir` makes of them.
pub(crate) async fn compare(
    cluster: &Cluster,
    dir: &Path,
    zips: &[String],
    sent: u64,
) -> Result<Compared, Error> {
    let expected = answers::expected(&dir.join(JOURNAL))?;
    if expected.messages as u64 != sent {
        let what = format!("the queue accepted {} of {sent} messages", expected.messages);
        return Err(Error::Violated { what });
    }
    answers::compare(&cluster.router_address, zips, &expected).await
}
