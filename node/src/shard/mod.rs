//! One shard as this node serves it: the Raft group, what queues before it, and reads behind it.
//!
//! [`proposer`] gathers operations into entries, [`barrier`] shares confirmations of leadership
//! between readers, [`moment`] what they found, [`sweeper`] finishes what callers left half done
//! and lets old markers go.

mod barrier;
mod moment;
mod proposer;
mod reach;
mod shards;
mod sweeper;

pub(crate) use moment::Moment;
pub(crate) use reach::Reach;
pub(crate) use shards::Shards;

use std::time::Duration;

use bytes::Bytes;
use platbook_engine::command;
use platbook_engine::store::{Applied, ShardStore};
use platbook_engine::system::{SystemAnswer, SystemCommand};
use platbook_protocol::ShardId;
use platbook_protocol::op::OpOutcome;
use platbook_protocol::register::Recreate;
use platbook_protocol::rpc::{Consistency, Refusal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::clock::Clock;
use crate::raft::Group;

/// What the leader of a shard stamps into every batch, besides the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) skew_ms: u64,
    pub(crate) recreate: Recreate,
    pub(crate) tombstone_retention_ms: u64,
}

/// How long a shard's own tasks may take to end.
const TASKS_TIMEOUT: Duration = Duration::from_secs(2);

/// A shard that lives here. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Shard {
    group: Group,
    proposals: mpsc::Sender<proposer::Proposal>,
    readers: mpsc::Sender<barrier::Waiting>,
    moment: moment::LastMoment,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shard {
    pub(crate) fn start(group: Group, rules: Rules, clock: Clock, reach: Reach) -> Shard {
        let (proposals, proposed) = mpsc::channel(proposer::QUEUE_MAX);
        let (readers, reading) = mpsc::channel(barrier::QUEUE_MAX);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let moment = moment::LastMoment::default();
        let shard = Shard { group: group.clone(), proposals, readers, moment, stop, tasks };
        shard.spawn(proposer::run(group.clone(), rules, clock.clone(), proposed));
        shard.spawn(barrier::run(group, reading));
        shard.spawn(sweeper::run(shard.clone(), clock, reach));
        shard
    }

    /// Starts a task that ends with the shard: each holds its store, and with it the database.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    pub(crate) fn id(&self) -> ShardId {
        self.group.shard()
    }

    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    pub(crate) fn store(&self) -> &ShardStore {
        self.group.store()
    }

    /// Cancelled when the shard leaves this node or the node stops.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// Proposes encoded operations and waits until they are applied.
    pub(crate) async fn propose(
        &self,
        ops: Bytes,
        count: usize,
        deadline: Instant,
    ) -> Result<Vec<OpOutcome>, Refusal> {
        let (answer, answered) = oneshot::channel();
        let proposal = proposer::Proposal { ops, count, deadline, answer };
        let late = |_| self.refusal("no room in the queue within the deadline");
        tokio::time::timeout_at(deadline, self.proposals.send(proposal))
            .await
            .map_err(late)?
            .map_err(|_| self.refusal("the shard stopped"))?;
        // A proposal that was taken may be in the log: from here on, silence means unknown.
        let unknown = |reason: &str| Refusal::Unknown { shard: self.id(), reason: reason.into() };
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(unknown("the shard stopped")),
            Err(_) => Err(unknown("not applied within the deadline")),
        }
    }

    /// Proposes one command of the system shard.
    pub(crate) async fn propose_system(
        &self,
        command: &SystemCommand,
        timeout: Duration,
    ) -> Result<SystemAnswer, Refusal> {
        let unknown = |reason: &str| Refusal::Unknown { shard: self.id(), reason: reason.into() };
        let pending = self.group.propose(command::system(command)).await?;
        match tokio::time::timeout(timeout, pending.outcome()).await {
            Ok(Ok(Applied::System(answer))) => Ok(answer),
            Ok(Ok(Applied::Blank | Applied::Ops(_))) => Err(unknown("answer of another kind")),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(unknown("not applied within the deadline")),
        }
    }

    /// Returns when a read of [`Shard::store`] sees everything acknowledged before this call.
    pub(crate) async fn barrier(
        &self,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let confirmed = async {
            match consistency {
                Consistency::Lease => self.group.barrier(consistency).await,
                Consistency::Linearizable => {
                    let (answer, answered) = oneshot::channel();
                    let sent = self.readers.send(barrier::Waiting { answer }).await;
                    sent.map_err(|_| self.refusal("the shard stopped"))?;
                    answered.await.map_err(|_| self.refusal("the shard stopped"))?
                }
            }
        };
        let late = |_| self.refusal("leadership was not confirmed within the deadline");
        tokio::time::timeout_at(deadline, confirmed).await.map_err(late)?
    }

    /// A moment of which all changes are known, no older than `age_max`; `None` where this replica
    /// does not lead, or cannot make sure within the deadline.
    pub(crate) async fn moment(
        &self,
        clock: &Clock,
        age_max: Duration,
        deadline: Instant,
    ) -> Option<Moment> {
        if let Some(known) = self.moment.fresh(age_max) {
            return Some(known);
        }
        if !self.group.is_leader() {
            return None;
        }
        let at = clock.now();
        self.barrier(Consistency::Linearizable, deadline).await.ok()?;
        let moment = Moment { at, seq: self.store().applied().seq };
        self.moment.keep(moment);
        Some(moment)
    }

    pub(crate) async fn stop(&self) {
        // The group first: it refuses what still waits.
        self.group.stop().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(TASKS_TIMEOUT, self.tasks.wait()).await.is_err() {
            warn!(shard = %self.id(), left = self.tasks.len(), "tasks did not end in time");
        }
    }

    fn refusal(&self, reason: &str) -> Refusal {
        Refusal::Unavailable { shard: self.id(), reason: reason.into() }
    }
}
