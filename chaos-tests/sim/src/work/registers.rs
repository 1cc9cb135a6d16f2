//! Clients that write, delete and read the same listings, and keep what they were told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use platbook_chaos_tests::history::linear::{self, Verdict};
use platbook_chaos_tests::history::{Call, Told, What, order};
use platbook_chaos_tests::operator::{Chance, timestamp};
use platbook_chaos_tests::registers::{seen, told};
use serde_json::json;
use tokio::time::sleep;

use super::Phase;
use crate::board::{Board, Event};
use crate::http::Http;
use crate::plan::Plan;
use crate::world;

/// Of 100 calls, those that read, and those that delete.
const READS: u64 = 45;
const DELETES: u64 = 12;
/// How long a router may try, and how long its answer is waited for.
const DEADLINE_MS: &str = "3000";
const PATIENCE: Duration = Duration::from_secs(5);
/// ZIPs between which the listings move.
const FIRST_ZIP: u64 = 60_000;
/// Calls after everything healed that must be answered.
const HEALED_CALLS: u64 = 3;

/// What all clients share.
pub(crate) struct Registers {
    pub(crate) phase: Phase,
    board: Board,
    clients: u64,
    listings: u64,
    histories: Vec<RefCell<Vec<Call>>>,
    /// The last stamp given out: no two writes have the same.
    last_stamp: Cell<u64>,
    /// Answered writes and reads.
    pub(crate) answered: Cell<u64>,
    /// Clients that were served after everything healed.
    healed: Cell<u64>,
    ended: Cell<u64>,
}

impl Registers {
    pub(crate) fn new(plan: &Plan, phase: Phase, board: Board) -> Rc<Registers> {
        Rc::new(Registers {
            phase,
            board,
            clients: plan.clients,
            listings: plan.listings,
            histories: (0..plan.listings).map(|_| RefCell::default()).collect(),
            last_stamp: Cell::new(0),
            answered: Cell::new(0),
            healed: Cell::new(0),
            ended: Cell::new(0),
        })
    }

    /// Every client was served again.
    pub(crate) fn are_healed(&self) -> bool {
        self.healed.get() == self.clients
    }

    /// No call is under way.
    pub(crate) fn have_ended(&self) -> bool {
        self.ended.get() == self.clients
    }

    /// The ids, and the ZIPs in which they may be.
    pub(crate) fn places(&self) -> Vec<(String, [String; 2])> {
        (0..self.listings).map(|at| (id(at), [zip(at, 0), zip(at, 1)])).collect()
    }

    fn stamp(&self) -> u64 {
        let now = world::BEGINS_MS + world::now_ms();
        let stamp = now.max(self.last_stamp.get() + 1);
        self.last_stamp.set(stamp);
        stamp
    }

    /// Judges the histories.
    pub(crate) fn judge(&self) {
        for (at, history) in self.histories.iter().enumerate() {
            let calls = history.borrow();
            for told in order::check(&calls) {
                self.board.violated(format!("{}: {told}", id(at as u64)));
            }
            match linear::check(&calls) {
                Verdict::Linearizable => self.board.reached("listing with an order"),
                Verdict::Undecided => self.board.reached("listing undecided"),
                Verdict::Violated { explained, stuck } => self.board.violated(format!(
                    "{}: no order explains its {} calls; after {explained} of them this one does \
                     not fit: {stuck:?}; all: {calls:?}",
                    id(at as u64),
                    calls.len()
                )),
            }
        }
    }
}

fn id(at: u64) -> String {
    format!("register-{at}")
}

fn zip(at: u64, which: u64) -> String {
    (FIRST_ZIP + 2 * at + which).to_string()
}

/// One client, until the work is finished.
pub(crate) async fn run(shared: Rc<Registers>, number: u64, plan: Plan, router: String) {
    let chance = Chance::new(plan.seed, &format!("register client {number}"));
    let http = Http::to(router);
    let mut client = Client { shared: shared.clone(), number, chance, http };
    let mut answered_since = 0;
    while !shared.phase.is_finished() {
        sleep(Duration::from_millis(1 + client.chance.below(plan.pause_ms))).await;
        let healed = shared.phase.is_healed();
        let is_answered = client.call().await;
        if is_answered {
            shared.answered.set(shared.answered.get() + 1);
        }
        if healed && is_answered && answered_since < HEALED_CALLS {
            answered_since += 1;
            if answered_since == HEALED_CALLS {
                shared.healed.set(shared.healed.get() + 1);
            }
        }
    }
    shared.ended.set(shared.ended.get() + 1);
}

struct Client {
    shared: Rc<Registers>,
    number: u64,
    chance: Chance,
    http: Http,
}

impl Client {
    /// One call; whether it was answered.
    async fn call(&mut self) -> bool {
        let at = self.chance.below(self.shared.listings);
        match self.chance.below(100) {
            roll if roll < READS => self.read(at).await,
            roll => {
                let which = self.chance.below(2);
                self.write(at, roll < READS + DELETES, which).await
            }
        }
    }

    async fn read(&mut self, at: u64) -> bool {
        let (path, began) = (format!("/v1/listings/{}", id(at)), now_us());
        let headers = [("x-deadline-ms", DEADLINE_MS)];
        let answer = self.http.call(Method::GET, &path, &headers, "", PATIENCE).await;
        // A read without an answer tells nothing.
        let Some(seen) = answer.ok().and_then(|answer| seen(&answer)) else { return false };
        self.note(at, began, true, What::Read { seen });
        true
    }

    async fn write(&mut self, at: u64, deletes: bool, which: u64) -> bool {
        let (path, began) = (format!("/v1/listings/{}", id(at)), now_us());
        let stamp = self.shared.stamp();
        let sent = stamp.to_string();
        let mut headers = vec![("platbook-sent", sent.as_str()), ("x-deadline-ms", DEADLINE_MS)];
        let (method, body) = match deletes {
            true => (Method::DELETE, String::new()),
            false => {
                headers.push(("content-type", "application/json"));
                let listing = json!({
                    "ListingKey": id(at),
                    "PostalCode": zip(at, which),
                    "ModificationTimestamp": timestamp(stamp),
                    "ListPrice": stamp,
                });
                (Method::PUT, listing.to_string())
            }
        };
        let answer = self.http.call(method, &path, &headers, body, PATIENCE).await;
        let told = told(&answer);
        self.note(at, began, told != Told::Nothing, What::Write { stamp, deletes, told });
        matches!(told, Told::Done { .. } | Told::Stale)
    }

    fn note(&self, at: u64, began: u64, is_answered: bool, what: What) {
        let client = format!("client {}", self.number);
        self.shared.board.take(&Event::Told { client, what: format!("{} {what:?}", id(at)) });
        let ended = is_answered.then(now_us);
        let call = Call { client: self.number as u32, began, ended, what };
        self.shared.histories[at as usize].borrow_mut().push(call);
    }
}

/// Calls of one client follow each other, also within a millisecond.
fn now_us() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let now = (world::now_ms() * 1000).max(LAST.get() + 1);
    LAST.set(now);
    now
}
