//! The leader's housekeeping of a shard: lets old markers and registers go, and finishes what
//! callers left half done.

use std::time::Duration;

use bytes::Bytes;
use platbook_engine::store::Unsettled;
use platbook_protocol::TimeMs;
use platbook_protocol::coordination::{Answer, Coordination, Step};
use platbook_protocol::op::{Body, Op, OpList, OpOutcome};
use platbook_protocol::register::Register;
use platbook_protocol::rpc::Refusal;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Shard;
use super::reach::Reach;
use crate::blocking::blocking;
use crate::clock::Clock;

const INTERVAL: Duration = Duration::from_secs(5);
/// A register that is unsettled for this long was left by its caller.
const ABANDONED_AFTER_MS: u64 = 60_000;
/// Keys collected in one entry, and entries in one round.
const COLLECT_MAX: u32 = 512;
const COLLECT_ROUNDS_MAX: u32 = 64;
/// Registers finished in one round.
const FINISH_MAX: usize = 64;
/// Steps that finishing one register may take.
const STEPS_MAX: u32 = 64;
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until the shard stops.
pub(super) async fn run(shard: Shard, clock: Clock, reach: Reach) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turn = Turn::default();
    while shard.stopped().run_until_cancelled(ticks.tick()).await.is_some() {
        if shard.id() == platbook_protocol::ShardId::SYSTEM || !shard.group().is_leader() {
            continue;
        }
        if let Err(error) = collect(&shard).await {
            debug!(shard = %shard.id(), %error, "not swept");
        }
        if let Err(error) = finish_abandoned(&shard, &clock, &reach, &mut turn).await {
            debug!(shard = %shard.id(), %error, "abandoned registers not finished");
        }
    }
}

async fn collect(shard: &Shard) -> Result<(), Refusal> {
    for _ in 0..COLLECT_ROUNDS_MAX {
        match propose_one(shard, &Op::Sweep { collect_max: COLLECT_MAX }).await? {
            OpOutcome::Swept { more: true, .. } => {}
            _ => break,
        }
    }
    Ok(())
}

async fn propose_one(shard: &Shard, op: &Op<'_>) -> Result<OpOutcome, Refusal> {
    let mut ops = OpList::default();
    ops.push(op);
    let deadline = Instant::now() + STEP_TIMEOUT;
    let outcomes = shard.propose(Bytes::from(ops.into_bytes()), 1, deadline).await?;
    outcomes
        .into_iter()
        .next()
        .ok_or(Refusal::Unknown { shard: shard.id(), reason: "no outcome".into() })
}

/// Where the next round starts. Listings that nobody here can finish stay where they are, so the
/// oldest ones alone would keep all others waiting.
#[derive(Debug, Default, PartialEq, Eq)]
struct Turn(Option<(TimeMs, String)>);

impl Turn {
    /// Behind the last one seen, or from the oldest again once all were seen.
    fn on_round(&mut self, found: &[Unsettled]) {
        let last = found.last().filter(|_| found.len() == FINISH_MAX);
        self.0 = last.map(|last| (last.since, last.id.clone()));
    }
}

async fn finish_abandoned(
    shard: &Shard,
    clock: &Clock,
    reach: &Reach,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    let before = TimeMs(clock.now().0.saturating_sub(ABANDONED_AFTER_MS));
    let (own, after) = (shard.clone(), turn.0.clone());
    let found = blocking(move || {
        let after = after.as_ref().map(|(since, id)| (*since, id.as_str()));
        own.store().unsettled(before, after, FINISH_MAX)
    });
    let failed = |reason: String| Refusal::Unavailable { shard: shard.id(), reason };
    let found =
        found.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
    turn.on_round(&found);
    for Unsettled { id, register, held, .. } in found {
        let body = held.as_ref().map(|held| Body { summary: &held.summary, frame: &held.frame });
        match finish(shard, reach, &id, &register, body).await {
            Ok(()) => debug!(shard = %shard.id(), %id, "finished an abandoned listing"),
            Err(error) => warn!(shard = %shard.id(), %id, %error, "abandoned listing not finished"),
        }
    }
    Ok(())
}

/// Does what the caller of the last message left: erases what is dead, writes what is held.
async fn finish(
    shard: &Shard,
    reach: &Reach,
    id: &str,
    register: &Register,
    held: Option<Body<'_>>,
) -> Result<(), Refusal> {
    let Some(mut coordination) = Coordination::finishing(register) else { return Ok(()) };
    for _ in 0..STEPS_MAX {
        let answer = match coordination.next() {
            Step::Finished(_) => return Ok(()),
            Step::Admit(admission) => {
                propose_one(shard, &Op::Admit { id, admission, body: None }).await?
            }
            Step::Settle { revision } | Step::Release { revision, .. } => {
                propose_one(shard, &Op::Settle { id, revision }).await?
            }
            Step::Erase { zip, revision, moved_to } => {
                reach.propose(zip, &Op::Erase { id, zip, revision, moved_to }).await?
            }
            Step::Write { zip, revision, digest } => match held {
                Some(body) => {
                    reach.propose(zip, &Op::Write { id, zip, revision, digest, body }).await?
                }
                // Nobody has the body: only the sender can finish this one.
                None => return Ok(()),
            },
            Step::CheckRow { zip } => {
                let row = reach.read_row(zip, id).await?;
                if coordination.on(Answer::Row(row)).is_err() {
                    return Err(unexpected(shard));
                }
                continue;
            }
        };
        let answer = Answer::from_outcome(answer).ok_or_else(|| unexpected(shard))?;
        coordination.on(answer).map_err(|_| unexpected(shard))?;
    }
    Err(unexpected(shard))
}

fn unexpected(shard: &Shard) -> Refusal {
    Refusal::Unknown { shard: shard.id(), reason: "answer of another kind".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsettled(count: usize) -> Vec<Unsettled> {
        let one = |at: usize| Unsettled {
            since: TimeMs(at as u64),
            id: format!("id-{at}"),
            register: Register::default(),
            held: None,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn listings_that_cannot_be_finished_do_not_keep_others_waiting() {
        let mut turn = Turn::default();
        turn.on_round(&unsettled(FINISH_MAX));
        assert_eq!(turn, Turn(Some((TimeMs(FINISH_MAX as u64 - 1), "id-63".into()))));
        turn.on_round(&unsettled(FINISH_MAX - 1));
        assert_eq!(turn, Turn::default(), "all were seen: from the oldest again");
        turn.on_round(&unsettled(FINISH_MAX));
        turn.on_round(&[]);
        assert_eq!(turn, Turn::default());
    }
}
