//! What a run was, and what came of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::round::Plan;
use crate::Error;
use crate::history::Call;
use crate::registers::run::{Beat, End, Judgement};
use crate::status::Status;

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: String,
    /// Decided the faults and the calls.
    pub seed: u64,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took, in milliseconds.
    pub length_ms: u64,
    /// Storage nodes and shards.
    pub nodes: usize,
    /// Shards.
    pub shards: u32,
    /// What was done, in order.
    pub faults: Vec<Injected>,
    /// Who led what, about once a second.
    pub leaders: Vec<Leaders>,
    /// What clients felt, second by second.
    pub seconds: Vec<Second>,
    /// How late a follower of all changes was told, at most, by the second in which it was; in
    /// milliseconds. 0 where nothing was told.
    pub lags_ms: Vec<u32>,
    /// Calls about shared listings: done, refused, unknown.
    pub calls: [usize; 3],
    /// Writes and reads of clients with listings of their own: done, refused, unknown; reads.
    pub own_writes: [usize; 3],
    /// Their answered reads.
    pub own_reads: u64,
    /// What was checked, in sentences.
    pub checked: Vec<String>,
    /// What must not have happened, but did; empty for a good run.
    pub violations: Vec<String>,
    /// All calls about the shared listings with which something is wrong.
    pub histories: BTreeMap<String, Vec<Call>>,
}

/// One fault; times in milliseconds since the run began.
#[derive(Clone, Debug, Serialize)]
pub struct Injected {
    /// Its name.
    pub fault: String,
    /// Whom it met.
    pub whom: String,
    /// When it was done.
    pub from_ms: u64,
    /// When it was undone.
    pub to_ms: u64,
    /// When all nodes were ready again and calls were answered.
    pub recovered_ms: u64,
}

/// One look at the leaders.
#[derive(Clone, Debug, Serialize)]
pub struct Leaders {
    /// When, in milliseconds since the run began.
    pub at_ms: u64,
    /// The leader of each shard by number, `None` where none is known.
    pub by_shard: BTreeMap<u32, Option<u64>>,
}

/// What clients felt in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Calls answered.
    pub done: u32,
    /// Calls refused.
    pub refused: u32,
    /// Calls of which nothing is known.
    pub unknown: u32,
    /// 99th percentile of the answered ones' time, in milliseconds; they count where they ended.
    pub p99_ms: u32,
}

impl Report {
    /// Of a run that begins now.
    pub(super) fn new(plan: &Plan, began_ms: u64, nodes: usize, status: &Status) -> Report {
        Report {
            version: plan.version.clone(),
            seed: plan.seed,
            began_ms,
            length_ms: 0,
            nodes,
            shards: status.shards.iter().filter(|shard| shard.slots.is_some()).count() as u32,
            faults: Vec::new(),
            leaders: Vec::new(),
            seconds: Vec::new(),
            lags_ms: Vec::new(),
            calls: [0; 3],
            own_writes: [0; 3],
            own_reads: 0,
            checked: Vec::new(),
            violations: Vec::new(),
            histories: BTreeMap::new(),
        }
    }

    /// Takes the sentence of a check, or what it found wrong.
    pub(super) fn on_check(&mut self, found: Result<String, Error>) {
        match found {
            Ok(sentence) => self.checked.push(sentence),
            Err(error) => self.violations.push(error.to_string()),
        }
    }

    /// Takes what the clients of shared listings found.
    pub(super) fn on_judgement(&mut self, judgement: &Judgement, beats: &[Beat]) {
        self.calls = [judgement.done, judgement.refused, judgement.unknown];
        self.seconds = seconds(beats);
        self.histories = judgement.histories.clone();
        self.violations.extend(judgement.violations.iter().cloned());
        self.violations.extend(
            judgement.undecided.iter().map(|id| format!("{id}: the search for an order gave up")),
        );
        self.checked.push(format!(
            "{} listings shared by clients: an order explains every answer about {} of them",
            judgement.linearizable + judgement.undecided.len() + disordered(judgement),
            judgement.linearizable
        ));
    }
}

/// Listings that no order explains.
fn disordered(judgement: &Judgement) -> usize {
    judgement.violations.iter().filter(|told| told.contains("no order explains")).count()
}

/// Calls by the second in which they ended.
fn seconds(beats: &[Beat]) -> Vec<Second> {
    let mut all: Vec<(Second, Vec<u64>)> = Vec::new();
    for beat in beats {
        let at = ((beat.began + beat.took) / 1_000_000) as usize;
        if all.len() <= at {
            all.resize_with(at + 1, Default::default);
        }
        let (second, took) = &mut all[at];
        match beat.end {
            End::Done => {
                second.done += 1;
                took.push(beat.took);
            }
            End::Refused => second.refused += 1,
            End::Unknown => second.unknown += 1,
        }
    }
    let felt = |(mut second, mut took): (Second, Vec<u64>)| {
        took.sort_unstable();
        let rank = (took.len() * 99).div_ceil(100).max(1);
        second.p99_ms = took.get(rank - 1).map_or(0, |us| (us / 1000) as u32);
        second
    };
    all.into_iter().map(felt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_in_the_second_in_which_it_ended() {
        let beat = |began_ms: u64, took_ms: u64, end| Beat {
            began: began_ms * 1000,
            took: took_ms * 1000,
            is_write: true,
            end,
        };
        let beats = [
            beat(100, 5, End::Done),
            beat(900, 200, End::Done),
            beat(1_000, 7, End::Refused),
            beat(2_500, 1, End::Unknown),
        ];
        let second = |done, refused, unknown, p99_ms| Second { done, refused, unknown, p99_ms };
        assert_eq!(seconds(&beats), [second(1, 0, 0, 5), second(1, 1, 0, 200), second(0, 0, 1, 0)]);
    }
}
