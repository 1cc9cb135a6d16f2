//! All clients, and what their histories are worth.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

pub use super::client::{Beat, End};
use super::client::{Shared, run};
use crate::Error;
use crate::history::linear::{self, Verdict};
use crate::history::{Call, order};

/// ZIPs between which the listings move, far from those of other workloads.
const FIRST_ZIP: u32 = 60_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Routers, `host:port`; clients are spread over them.
    pub routers: Vec<String>,
    /// What the ids of its listings begin with: they must not be there before.
    pub name: String,
    /// Clients.
    pub clients: u32,
    /// Listings that they share.
    pub listings: u32,
    /// Decides who calls what.
    pub seed: u64,
    /// Least time between two calls of a client.
    pub pause: Duration,
}

/// Running clients. Dropping it ends them.
#[derive(Debug)]
pub struct Registers {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

/// What the histories are worth.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Calls by how they ended: done, refused, unknown.
    pub done: usize,
    /// Refused calls: nothing happened.
    pub refused: usize,
    /// Writes of which nothing is known.
    pub unknown: usize,
    /// Listings whose history has an order.
    pub linearizable: usize,
    /// Listings for which the search would take too long.
    pub undecided: Vec<String>,
    /// What no order explains, in sentences.
    pub violations: Vec<String>,
    /// The calls of listings with violations, to be looked at.
    pub histories: BTreeMap<String, Vec<Call>>,
}

impl Registers {
    /// Starts the clients.
    pub fn start(plan: &Plan) -> Registers {
        let zip = |number: u32| (FIRST_ZIP + number).to_string();
        let listings = (0..plan.listings)
            .map(|at| (format!("{}-{at}", plan.name), [zip(2 * at), zip(2 * at + 1)]))
            .collect();
        let shared = Arc::new(Shared {
            routers: plan.routers.clone(),
            listings,
            calls: (0..plan.listings).map(|_| Mutex::default()).collect(),
            last_stamp: AtomicU64::new(0),
            origin: Instant::now(),
            beats: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let start = |number| tokio::spawn(run(shared.clone(), number, plan.seed, plan.pause));
        Registers { clients: (0..plan.clients).map(start).collect(), shared }
    }

    /// The listings and the two ZIPs between which each moves.
    pub fn listings(&self) -> &[(String, [String; 2])] {
        &self.shared.listings
    }

    /// When the workload began: the report's time 0.
    pub fn origin(&self) -> Instant {
        self.shared.origin
    }

    /// Answered writes and reads since `from` that began after it.
    pub fn done_since(&self, from: Instant) -> usize {
        let from = from.duration_since(self.shared.origin).as_micros() as u64;
        let beats = Shared::lock(&self.shared.beats);
        beats
            .iter()
            .rev()
            .take_while(|b| b.began + b.took >= from)
            .filter(|b| b.began >= from)
            .filter(|beat| beat.end == End::Done)
            .count()
    }

    /// Ends the clients and judges what they were told.
    pub async fn end(mut self) -> Result<(Judgement, Vec<Beat>), Error> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.map_err(|panic| Error::Malformed {
                what: "a client of the registers".to_string(),
                reason: panic.to_string(),
            })?;
        }
        let beats = std::mem::take(&mut *Shared::lock(&self.shared.beats));
        let shared = self.shared.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let histories = shared.listings.iter().zip(&shared.calls);
            histories
                .map(|((id, _), calls)| (id.clone(), Shared::lock(calls).clone()))
                .collect::<BTreeMap<_, _>>()
        });
        let histories = judged.await.map_err(|panic| Error::Malformed {
            what: "histories".to_string(),
            reason: panic.to_string(),
        })?;
        let mut judgement = judge(&histories);
        let count = |end| beats.iter().filter(|beat| beat.end == end).count();
        judgement.done = count(End::Done);
        judgement.refused = count(End::Refused);
        judgement.unknown = count(End::Unknown);
        Ok((judgement, beats))
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// Judges each listing's history on its own.
fn judge(histories: &BTreeMap<String, Vec<Call>>) -> Judgement {
    let mut judgement = Judgement::default();
    for (id, calls) in histories {
        let before = judgement.violations.len();
        let told = order::check(calls);
        judgement.violations.extend(told.iter().map(|told| format!("{id}: {told}")));
        match linear::check(calls) {
            Verdict::Linearizable => judgement.linearizable += 1,
            Verdict::Undecided => judgement.undecided.push(id.clone()),
            Verdict::Violated { explained, stuck } => judgement.violations.push(format!(
                "{id}: no order explains its {} calls; after {explained} of them this one does not \
                 fit: {stuck:?}",
                calls.len()
            )),
        }
        if judgement.violations.len() > before {
            judgement.histories.insert(id.clone(), calls.clone());
        }
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script::{put, read};

    #[test]
    fn each_listing_is_judged_on_its_own() {
        let histories = BTreeMap::from([
            ("good".to_string(), vec![put((0, 1), 1), read((2, 3), 1)]),
            ("bad".to_string(), vec![put((0, 1), 1), put((2, 3), 2), read((4, 5), 1)]),
        ]);
        let judgement = judge(&histories);
        assert_eq!(judgement.linearizable, 1);
        assert_eq!(judgement.violations.len(), 2, "by order and by search: {judgement:?}");
        assert!(judgement.violations.iter().all(|told| told.starts_with("bad: ")));
    }
}
