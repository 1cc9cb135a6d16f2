//! Gathers the operations of many callers into few Raft entries.
//!
//! Small entries are what costs, so at most [`ENTRIES_IN_FLIGHT_MAX`] are under way while the next
//! one gathers; when nothing is under way nothing lingers.

use std::sync::Arc;

use bytes::Bytes;
use platbook_engine::command;
use platbook_engine::store::Applied;
use platbook_protocol::op::{BATCH_BYTES_MAX, BATCH_OPS_MAX, OpOutcome, Stamp};
use platbook_protocol::rpc::Refusal;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Rules;
use crate::clock::Clock;
use crate::raft::{Group, Pending};

/// Proposals that wait for their turn.
pub(super) const QUEUE_MAX: usize = 1024;
/// Entries proposed and not yet applied.
const ENTRIES_IN_FLIGHT_MAX: usize = 2;

type Outcome = Result<Vec<OpOutcome>, Refusal>;

/// Operations of one caller, already encoded.
pub(crate) struct Proposal {
    pub(super) ops: Bytes,
    pub(super) count: usize,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// Runs until every handle of the shard is gone.
pub(super) async fn run(
    group: Group,
    rules: Rules,
    clock: Clock,
    mut queue: mpsc::Receiver<Proposal>,
) {
    let room = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
    let mut carried: Option<Proposal> = None;
    loop {
        let first = match carried.take() {
            Some(proposal) => proposal,
            None => match queue.recv().await {
                Some(proposal) => proposal,
                None => return,
            },
        };
        // While this waits, the queue gathers.
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let mut batch = Batch::default();
        batch.push(first);
        while let Ok(next) = queue.try_recv() {
            if !batch.has_room_for(&next) {
                carried = Some(next);
                break;
            }
            batch.push(next);
        }
        batch.refuse_late(&group, Instant::now());
        if batch.proposals.is_empty() {
            continue;
        }
        let stamp = Stamp {
            clock: clock.now(),
            skew_ms: rules.skew_ms,
            recreate: rules.recreate,
            tombstone_retention_ms: rules.tombstone_retention_ms,
        };
        let sections: Vec<&[u8]> = batch.proposals.iter().map(|p| p.ops.as_ref()).collect();
        match group.propose(command::ops(stamp, &sections)).await {
            Err(refusal) => batch.answer(Err(refusal)),
            Ok(pending) => {
                tokio::spawn(async move {
                    batch.answer(outcomes_of(pending).await);
                    drop(permit);
                });
            }
        }
    }
}

async fn outcomes_of(pending: Pending) -> Outcome {
    let shard = pending.shard();
    match pending.outcome().await? {
        Applied::Ops(outcomes) => Ok(outcomes),
        Applied::Blank | Applied::System(_) => {
            Err(Refusal::Unknown { shard, reason: "answer of another kind".into() })
        }
    }
}

#[derive(Default)]
struct Batch {
    proposals: Vec<Proposal>,
    ops: usize,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, proposal: Proposal) {
        self.ops += proposal.count;
        self.bytes += proposal.ops.len();
        self.proposals.push(proposal);
    }

    fn has_room_for(&self, next: &Proposal) -> bool {
        self.ops + next.count <= BATCH_OPS_MAX && self.bytes + next.ops.len() <= BATCH_BYTES_MAX
    }

    /// Nobody waits for these any more, and nothing has happened yet: a clean refusal.
    fn refuse_late(&mut self, group: &Group, now: Instant) {
        let shard = group.shard();
        for proposal in self.proposals.extract_if(.., |p| p.deadline <= now) {
            let reason = "deadline passed in the queue".into();
            let _ = proposal.answer.send(Err(Refusal::Unavailable { shard, reason }));
        }
    }

    /// Gives every caller its share. Callers that left are no error.
    fn answer(self, outcome: Outcome) {
        match outcome {
            Err(refusal) => {
                for proposal in self.proposals {
                    let _ = proposal.answer.send(Err(refusal.clone()));
                }
            }
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for proposal in self.proposals {
                    let share = outcomes.by_ref().take(proposal.count).collect();
                    let _ = proposal.answer.send(Ok(share));
                }
            }
        }
    }
}
