//! Many messages under way at a time: each round's steps are grouped by shard and handed to the
//! gatherers as one vector, and whoever is answered goes on without waiting for the others.
//!
//! A message whose row is written has its verdict; that its register lets go of the body is done
//! behind the caller's back. Where too much of that is under way, the caller waits for its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use platbook_protocol::op::{OpList, OpOutcome};
use platbook_protocol::rpc::RowView;
use platbook_protocol::{ShardId, Slot};
use rand::RngExt;
use tokio::time::Instant;
use tracing::debug;

use super::flight::{Ask, Delivery, Ending, Flight, Then};
use crate::batch::{Shards, Source};
use crate::error::Failure;

/// Pause before a message is tried again; doubled each time up to [`PAUSE_MS_MAX`], with jitter.
const PAUSE_MS_MIN: u64 = 4;
/// Longest pause.
const PAUSE_MS_MAX: u64 = 250;

/// Carries `deliveries` through, or as far as `deadline` allows; endings are in the same order.
pub(crate) async fn deliver(
    shards: Arc<Shards>,
    source: Source,
    deliveries: Vec<Delivery>,
    deadline: Instant,
) -> Vec<Ending> {
    let flights = deliveries.into_iter().map(Flight::new).collect();
    let groups = FuturesUnordered::new();
    let mut wave = Wave { shards, source, deadline, flights, groups, pause_ms: PAUSE_MS_MIN };
    wave.dispatch((0..wave.flights.len()).collect());
    while let Some(answered) = wave.groups.next().await {
        wave.on_answered(answered);
    }
    wave.flights.into_iter().map(Flight::into_ending).collect()
}

/// What a group of messages got, by their indices.
enum Answered {
    Ops(ShardId, Vec<usize>, Vec<Result<OpOutcome, Failure>>),
    Rows(ShardId, Vec<usize>, Vec<Result<Option<RowView>, Failure>>),
    Rested(Vec<usize>),
    Released,
}

struct Wave {
    shards: Arc<Shards>,
    source: Source,
    deadline: Instant,
    flights: Vec<Flight>,
    groups: FuturesUnordered<BoxFuture<'static, Answered>>,
    pause_ms: u64,
}

impl Wave {
    fn on_answered(&mut self, answered: Answered) {
        let mut go = Vec::new();
        let mut pause = Vec::new();
        let mut sort = |index: usize, then: Then| match then {
            Then::Go => go.push(index),
            Then::Pause => pause.push(index),
            Then::Stop => {}
        };
        match answered {
            Answered::Ops(shard, indices, results) => {
                for (index, result) in indices.iter().copied().zip(results) {
                    sort(index, self.flights[index].on_op(shard, result));
                }
                self.release(&indices);
            }
            Answered::Rows(shard, indices, results) => {
                for (index, result) in indices.iter().copied().zip(results) {
                    sort(index, self.flights[index].on_row(shard, result));
                }
                self.release(&indices);
            }
            Answered::Rested(indices) => go = indices,
            Answered::Released => {}
        }
        self.dispatch(go);
        self.rest(pause);
    }

    /// Hands in the next step of each of these messages.
    fn dispatch(&mut self, indices: Vec<usize>) {
        let mut ops: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        let mut rows: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        let mut pause = Vec::new();
        let shard_of = |slot| self.shards.leaders().directory().shard_of(slot);
        for index in indices {
            let flight = &mut self.flights[index];
            let (slot, groups) = match flight.ask() {
                Ask::Op(slot) => (slot, &mut ops),
                Ask::Row(zip) => (Slot::of_zip(&zip), &mut rows),
                Ask::Nothing => continue,
            };
            match shard_of(slot) {
                Some(shard) => groups.entry(shard).or_default().push(index),
                None => match flight.on_no_shard() {
                    Then::Go | Then::Pause => pause.push(index),
                    Then::Stop => {}
                },
            }
        }
        for (shard, indices) in ops {
            self.hand_in_ops(shard, indices);
        }
        for (shard, indices) in rows {
            self.hand_in_rows(shard, indices);
        }
        self.rest(pause);
    }

    fn hand_in_ops(&mut self, shard: ShardId, indices: Vec<usize>) {
        let mut list = OpList::default();
        let mut ends = Vec::with_capacity(indices.len());
        let mut asked = Vec::with_capacity(indices.len());
        for index in indices {
            let flight = &mut self.flights[index];
            match flight.op() {
                Some(op) => {
                    list.push(&op);
                    ends.push(list.bytes().len());
                    asked.push(index);
                }
                None => {
                    flight.on_no_body();
                }
            }
        }
        let bytes = Bytes::from(list.into_bytes());
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let ops = starts.zip(&ends).map(|(start, end)| bytes.slice(start..*end)).collect();
        let (shards, source, deadline) = (self.shards.clone(), self.source, self.deadline);
        self.groups.push(Box::pin(async move {
            let results = shards.propose(shard, source, ops, deadline).await;
            Answered::Ops(shard, asked, results)
        }));
    }

    fn hand_in_rows(&mut self, shard: ShardId, indices: Vec<usize>) {
        let mut rows = Vec::with_capacity(indices.len());
        let mut asked = Vec::with_capacity(indices.len());
        for index in indices {
            let flight = &self.flights[index];
            if let Ask::Row(zip) = flight.ask() {
                rows.push((zip, flight.id().clone()));
                asked.push(index);
            }
        }
        let (shards, source, deadline) = (self.shards.clone(), self.source, self.deadline);
        self.groups.push(Box::pin(async move {
            let results = shards.rows(shard, source, rows, deadline).await;
            Answered::Rows(shard, asked, results)
        }));
    }

    /// Remembers where those of the messages that have their ending put their listings, and lets
    /// their registers let go of the bodies.
    fn release(&mut self, indices: &[usize]) {
        let mut lists: BTreeMap<ShardId, Vec<Bytes>> = BTreeMap::new();
        for index in indices {
            let flight = &mut self.flights[*index];
            if let Some(zip) = flight.home() {
                self.shards.homes().note(flight.id(), zip);
            }
            let Some((slot, op)) = flight.take_release() else { continue };
            // Nobody's slot for the moment: the sweeper finds it later.
            let Some(shard) = self.shards.leaders().directory().shard_of(slot) else { continue };
            let mut list = OpList::default();
            list.push(&op);
            lists.entry(shard).or_default().push(list.into_bytes().into());
        }
        for (shard, ops) in lists {
            let permit = self.shards.try_release(ops.len());
            let (shards, source) = (self.shards.clone(), self.source);
            // What finds no leader until then is left to the shard's sweeper.
            let deadline = self.deadline;
            let is_unseen = permit.is_some();
            let released = async move {
                let results = shards.propose(shard, source, ops, deadline).await;
                let failed = results.iter().filter(|result| result.is_err()).count();
                if failed > 0 {
                    debug!(%shard, failed, "bodies not let go of: the sweeper will");
                }
                drop(permit);
            };
            match is_unseen {
                true => drop(tokio::spawn(released)),
                false => self.groups.push(Box::pin(released.map(|()| Answered::Released))),
            }
        }
    }

    /// Lets these messages wait a moment, or gives them up if there is none.
    fn rest(&mut self, indices: Vec<usize>) {
        if indices.is_empty() {
            return;
        }
        let jittered = rand::rng().random_range(self.pause_ms / 2..=self.pause_ms);
        let pause = Duration::from_millis(jittered);
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
        if Instant::now() + pause >= self.deadline {
            for index in indices {
                self.flights[index].give_up();
            }
            return;
        }
        self.groups.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Answered::Rested(indices)
        }));
    }
}
