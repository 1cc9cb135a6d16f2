//! One client: writes a listing, reads it back by id and its ZIP, takes the next one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::memory::{Memory, Seen};
use super::place::Place;
use super::record::{Outcome, Tally, Write};
use crate::Error;
use crate::http::{Answer, Connection};
use crate::operator::{now_ms, timestamp};

/// Every so many writes a listing moves to the other ZIP.
const MOVE_EVERY: u64 = 3;
/// The ZIPs are read after every so many writes.
const READ_ZIP_EVERY: u64 = 4;
/// Most listings that clients have in one ZIP, with room.
const ZIP_LIMIT: usize = 10_000;
/// What the body of a listing is filled with.
const REMARKS: &str = "Light pours in through tall windows all day. ";

/// A client of one shard, and what it knows.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    connection: Connection,
    memories: Vec<Memory>,
    /// Time of the last write: the operator never gives one twice.
    last_ms: u64,
    tally: Arc<Mutex<Tally>>,
}

impl Client {
    pub(super) fn new(router: &str, place: Place, tally: Arc<Mutex<Tally>>) -> Client {
        let memories = vec![Memory::default(); place.ids.len()];
        Client { place, connection: Connection::to(router), memories, last_ms: 0, tally }
    }

    /// Works until `stop`, with at least `pause` between two writes.
    pub(super) async fn run(mut self, pause: Duration, stop: Arc<AtomicBool>) -> Client {
        let mut beat = tokio::time::interval(pause);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            beat.tick().await;
            let at = turn as usize % self.place.ids.len();
            self.write(at).await;
            self.read(at).await;
            if turn % READ_ZIP_EVERY == 0 {
                self.read_zip(turn / READ_ZIP_EVERY % 2).await;
            }
            turn += 1;
        }
        self
    }

    /// Reads everything once more; what was acknowledged and is not there is lost.
    pub(super) async fn look_for_lost(&mut self) {
        for at in 0..self.place.ids.len() {
            let id = &self.place.ids[at];
            let answer = self.connection.get(&format!("/v1/listings/{id}"), &[]).await;
            let told = match answer.map_err(|error| error.to_string()).and_then(seen) {
                Ok(found) => self.memories[at].on_read(found),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = told {
                self.note(|tally| &mut tally.lost, at, &reason);
            }
        }
        for zip in 0..2 {
            self.read_zip(zip).await;
        }
    }

    async fn write(&mut self, at: usize) {
        let number = self.memories[at].on_send();
        let now = now_ms().max(self.last_ms + 1);
        self.last_ms = now;
        let id = &self.place.ids[at];
        let body = json!({
            "ListingKey": id,
            "PostalCode": self.place.zips[zip_of(number)],
            "ModificationTimestamp": timestamp(now),
            "ListPrice": number,
            "PublicRemarks": REMARKS.repeat(8 + at),
        });
        let sent = now.to_string();
        let headers = [("content-type", "application/json"), ("platbook-sent", sent.as_str())];
        let path = format!("/v1/listings/{id}");
        let began = Instant::now();
        let answer = self.connection.put(&path, &headers, body.to_string()).await;
        let ended = Instant::now();
        let (outcome, told) = judge(&answer);
        self.lock(|tally| tally.writes.push(Write { began, ended, outcome }));
        match told {
            Ok(revision) => {
                if let Err(reason) = self.memories[at].on_done(revision) {
                    self.note(|tally| &mut tally.reads_back, at, &reason);
                }
            }
            Err(reason) => {
                let took = (ended - began).as_millis();
                let reason = format!("{outcome:?} after {took} ms: {reason}");
                self.note(|tally| &mut tally.failed_writes, at, &reason);
            }
        }
    }

    async fn read(&mut self, at: usize) {
        let path = format!("/v1/listings/{}", self.place.ids[at]);
        let answer = self.connection.get(&path, &[]).await;
        match answer.map_err(|error| error.to_string()).and_then(seen) {
            Err(reason) => self.note(|tally| &mut tally.failed_reads, at, &reason),
            Ok(found) => {
                self.lock(|tally| tally.reads += 1);
                if let Err(reason) = self.memories[at].on_read(found) {
                    self.note(|tally| &mut tally.reads_back, at, &reason);
                }
            }
        }
    }

    /// Reads one of the two ZIPs and looks at every listing of this client.
    async fn read_zip(&mut self, which: u64) {
        let zip = &self.place.zips[which as usize];
        let query = format!("fields=ListingKey,ListPrice&limit={ZIP_LIMIT}");
        let path = format!("/v1/zips/{zip}/listings?{query}");
        let answer = self.connection.get(&path, &[]).await;
        let rows = match answer.map_err(|error| error.to_string()).and_then(rows) {
            Err(reason) => return self.note(|tally| &mut tally.failed_reads, 0, &reason),
            Ok(rows) => rows,
        };
        self.lock(|tally| tally.reads += 1);
        for at in 0..self.place.ids.len() {
            let id = self.place.ids[at].as_str();
            let row = rows.iter().find(|row| row["ListingKey"] == id);
            let found = row.map(|row| row["ListPrice"].as_u64().unwrap_or(0));
            let memory = &self.memories[at];
            let puts_here = |number| zip_of(number) == which as usize;
            if let Err(reason) = memory.on_zip(found, puts_here) {
                self.note(|tally| &mut tally.reads_back, at, &reason);
            }
        }
    }

    fn note(
        &self,
        kind: impl FnOnce(&mut Tally) -> &mut super::record::Sentences,
        at: usize,
        reason: &str,
    ) {
        let sentence = format!("shard {}, {}: {reason}", self.place.shard, self.place.ids[at]);
        self.lock(|tally| kind(tally).push(sentence));
    }

    fn lock<T>(&self, with: impl FnOnce(&mut Tally) -> T) -> T {
        with(&mut self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The ZIP into which a write puts its listing.
fn zip_of(number: u64) -> usize {
    (number / MOVE_EVERY % 2) as usize
}

/// How a write ended, and its revision or why it has none.
fn judge(answer: &Result<Answer, Error>) -> (Outcome, Result<u64, String>) {
    let answer = match answer {
        // Whoever gets no answer knows nothing.
        Err(error) => return (Outcome::Unknown, Err(error.to_string())),
        Ok(answer) => answer,
    };
    let said = answer.json();
    let revision = said["revision"].as_str().and_then(|revision| revision.parse().ok());
    let told = format!("{} {}", answer.status, answer.text());
    match (answer.status, said["outcome"].as_str(), revision) {
        // A copy is what a router makes of a write whose answer it missed and asked again.
        (200, Some("applied" | "duplicate"), Some(revision)) => (Outcome::Done, Ok(revision)),
        (400..=499 | 503 | 507, _, _) => (Outcome::Refused, Err(told)),
        (_, _, _) => (Outcome::Unknown, Err(told)),
    }
}

/// What a read by id shows.
fn seen(answer: Answer) -> Result<Option<Seen>, String> {
    let said = answer.json();
    match answer.status {
        404 if said["code"] == "listing_not_found" => return Ok(None),
        200 => {}
        status => return Err(format!("{status} {}", answer.text())),
    }
    let revision = answer.header("platbook-revision").and_then(|text| text.parse().ok());
    match (said["ListPrice"].as_u64(), revision) {
        (Some(number), Some(revision)) => Ok(Some(Seen { number, revision })),
        (_, _) => Err(format!("no number or no revision in {}", answer.text())),
    }
}

/// What a read of a ZIP shows.
fn rows(answer: Answer) -> Result<Vec<Value>, String> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|error| error.to_string()),
        status => Err(format!("{status} {}", answer.text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, Error> {
        Ok(Answer { status, headers: Default::default(), body: body.to_string().into() })
    }

    #[test]
    fn only_an_answer_that_says_so_means_that_nothing_happened() {
        let outcome = |answer| judge(&answer).0;
        let done = r#"{"outcome":"applied","revision":"7"}"#;
        assert_eq!(judge(&answer(200, done)), (Outcome::Done, Ok(7)));
        assert_eq!(outcome(answer(200, r#"{"outcome":"stale"}"#)), Outcome::Unknown);
        assert_eq!(outcome(answer(503, "")), Outcome::Refused);
        assert_eq!(outcome(answer(429, "")), Outcome::Refused);
        assert_eq!(outcome(answer(504, "")), Outcome::Unknown);
        assert_eq!(outcome(answer(500, "")), Outcome::Unknown);
        let error = Error::Http { url: "x".into(), reason: "reset".into() };
        assert_eq!(outcome(Err(error)), Outcome::Unknown);
    }

    #[test]
    fn a_read_that_is_no_answer_shows_nothing() {
        let read = |status, body: &str| seen(answer(status, body).expect("an answer"));
        assert_eq!(read(404, r#"{"code":"listing_not_found"}"#), Ok(None));
        assert!(read(404, "").is_err());
        assert!(read(503, "").is_err());
        assert!(read(200, r#"{"ListPrice":1}"#).is_err(), "no revision");
    }
}
