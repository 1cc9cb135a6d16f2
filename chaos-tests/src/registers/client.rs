//! One client among several: a random call about a random listing, and what it was told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::history::{Call, Seen, Told, What};
use crate::http::{Answer, Connection};
use crate::operator::{Chance, now_ms, timestamp};

/// Of 100 calls, those that read, and those that delete.
const READS: u64 = 50;
const DELETES: u64 = 12;
/// Longest time that a router may try; long enough for an election.
const DEADLINE_MS: &str = "6000";
/// Some text, so that a body is none that fits into a header.
const REMARKS: &str = "Quiet street, afternoon sun, a garden that needs hands. ";

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) routers: Vec<String>,
    /// Listings and the two ZIPs between which each moves.
    pub(super) listings: Vec<(String, [String; 2])>,
    pub(super) calls: Vec<Mutex<Vec<Call>>>,
    /// The last stamp given out: no two writes have the same.
    pub(super) last_stamp: AtomicU64,
    pub(super) origin: Instant,
    pub(super) beats: Mutex<Vec<Beat>>,
    pub(super) stop: AtomicBool,
}

/// One call, for the report.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// When it was sent, in microseconds since the workload began.
    pub began: u64,
    /// How long its answer took, in microseconds.
    pub took: u64,
    /// Whether it wrote.
    pub is_write: bool,
    /// Whether it was done, refused, or nothing is known.
    pub end: End,
}

/// How a call ended, for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answered.
    Done,
    /// Refused: nothing happened.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Shared {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    fn stamp(&self) -> u64 {
        let now = now_ms();
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_stamp.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        now.max(last.unwrap_or_default() + 1)
    }

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Works until told to stop, with at least `pause` between two calls.
pub(super) async fn run(shared: Arc<Shared>, number: u32, seed: u64, pause: Duration) {
    let mut chance = Chance::new(seed, &format!("register client {number}"));
    let router = shared.routers[number as usize % shared.routers.len()].clone();
    let mut client = Client { shared, number, connection: Connection::to(&router) };
    let mut beat = tokio::time::interval(pause);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !client.shared.stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let at = chance.below(client.shared.listings.len() as u64) as usize;
        match chance.below(100) {
            roll if roll < READS => client.read(at).await,
            roll => client.write(at, roll < READS + DELETES, chance.below(2) as usize).await,
        }
    }
}

struct Client {
    shared: Arc<Shared>,
    number: u32,
    connection: Connection,
}

impl Client {
    async fn read(&mut self, at: usize) {
        let path = self.path(at);
        let began = self.shared.now();
        let answer = self.connection.get(&path, &[("x-deadline-ms", DEADLINE_MS)]).await;
        let seen = answer.ok().and_then(|answer| seen(&answer));
        self.beat(began, false, if seen.is_some() { End::Done } else { End::Refused });
        // A read without an answer tells nothing.
        if let Some(seen) = seen {
            self.note(at, began, true, What::Read { seen });
        }
    }

    async fn write(&mut self, at: usize, deletes: bool, zip: usize) {
        let path = self.path(at);
        // The stamp is drawn inside of the call: a write that is newer by its stamp may have begun
        // earlier, which is what makes them race.
        let began = self.shared.now();
        let stamp = self.shared.stamp();
        let sent = stamp.to_string();
        let mut headers = vec![("platbook-sent", sent.as_str()), ("x-deadline-ms", DEADLINE_MS)];
        let answer = if deletes {
            self.connection.delete(&path, &headers).await
        } else {
            let (id, zips) = &self.shared.listings[at];
            let body = json!({
                "ListingKey": id,
                "PostalCode": zips[zip],
                "ModificationTimestamp": timestamp(stamp),
                "ListPrice": stamp,
                "PublicRemarks": REMARKS.repeat(10),
            });
            headers.push(("content-type", "application/json"));
            self.connection.put(&path, &headers, body.to_string()).await
        };
        let told = told(&answer);
        let end = match told {
            Told::Refused { .. } => End::Refused,
            Told::Nothing => End::Unknown,
            Told::Done { .. } | Told::Stale => End::Done,
        };
        self.beat(began, true, end);
        let is_answered = told != Told::Nothing;
        self.note(at, began, is_answered, What::Write { stamp, deletes, told });
    }

    fn path(&self, at: usize) -> String {
        format!("/v1/listings/{}", self.shared.listings[at].0)
    }

    fn note(&self, at: usize, began: u64, is_answered: bool, what: What) {
        let ended = is_answered.then(|| self.shared.now());
        let call = Call { client: self.number, began, ended, what };
        Shared::lock(&self.shared.calls[at]).push(call);
    }

    fn beat(&self, began: u64, is_write: bool, end: End) {
        let took = self.shared.now() - began;
        Shared::lock(&self.shared.beats).push(Beat { began, took, is_write, end });
    }
}

/// What an answer to a write tells; whatever the error is, nobody knows more after it.
pub fn told<E>(answer: &Result<Answer, E>) -> Told {
    let Ok(answer) = answer else { return Told::Nothing };
    let said = answer.json();
    let revision = said["revision"].as_str().and_then(|revision| revision.parse().ok());
    match (answer.status, said["outcome"].as_str(), revision) {
        (200, Some("applied"), Some(revision)) => Told::Done { revision },
        // A copy was applied as some revision; which one is the last one's, not its own.
        (200, Some("duplicate"), _) => Told::Nothing,
        (200, Some("stale"), _) => Told::Stale,
        (status @ (400..=499 | 503 | 507), _, _) => Told::Refused { status },
        (_, _, _) => Told::Nothing,
    }
}

/// What the answer to a read shows; `None`: nothing, it failed.
pub fn seen(answer: &Answer) -> Option<Option<Seen>> {
    let said = answer.json();
    match answer.status {
        404 if said["code"] == "listing_not_found" => Some(None),
        200 => {
            let revision = answer.header("platbook-revision")?.parse().ok()?;
            Some(Some(Seen { stamp: said["ListPrice"].as_u64()?, revision }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: Default::default(), body: body.to_string().into() }
    }

    #[test]
    fn only_an_answer_that_says_so_means_that_nothing_happened() {
        let told_by = |status, body| told(&Ok::<_, Error>(answer(status, body)));
        let done = told_by(200, r#"{"outcome":"applied","revision":"7"}"#);
        assert_eq!(done, Told::Done { revision: 7 });
        assert_eq!(told_by(200, r#"{"outcome":"stale","revision":"9"}"#), Told::Stale);
        assert_eq!(told_by(503, "{}"), Told::Refused { status: 503 });
        assert_eq!(told_by(429, "{}"), Told::Refused { status: 429 });
        assert_eq!(told_by(504, "{}"), Told::Nothing);
        assert_eq!(told_by(200, "{}"), Told::Nothing);
        let error = Error::Http { url: "x".into(), reason: "reset".into() };
        assert_eq!(told(&Err(error)), Told::Nothing);
    }

    #[test]
    fn a_read_that_is_no_answer_shows_nothing() {
        assert_eq!(seen(&answer(404, r#"{"code":"listing_not_found"}"#)), Some(None));
        assert_eq!(seen(&answer(404, "{}")), None);
        assert_eq!(seen(&answer(503, "{}")), None);
    }
}
