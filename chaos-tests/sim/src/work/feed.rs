//! A queue that delivers in any order and more than once, and an ingester behind it that dies.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use platbook_chaos_tests::operator::oracle::{self, Expected};
use platbook_chaos_tests::operator::{Chance, timestamp};
use serde_json::json;
use tokio::time::sleep;

use super::Phase;
use crate::board::{Board, Event};
use crate::http::Http;
use crate::plan::Plan;
use crate::world;

const PATIENCE: Duration = Duration::from_secs(5);
const DEADLINE_MS: &str = "3000";
/// A message that is not deleted is delivered again after this time.
const VISIBLE_AFTER_MS: u64 = 2_000;
/// Per mille of the deliveries after which the message is delivered again all the same.
const TWICE: u64 = 100;
/// Per mille of the batches during which the ingester dies, and forgets what it had.
const DIES: u64 = 30;
const FIRST_ZIP: u64 = 70_000;
const ZIPS: u64 = 5;

/// The queue, and what it ever held.
pub(crate) struct Feed {
    board: Board,
    /// Messages in the queue: when each may be delivered.
    queue: RefCell<BTreeMap<usize, u64>>,
    /// Every message: its line without the brace at its end, and when it was sent.
    messages: RefCell<Vec<(String, u64)>>,
    to_send: Cell<u64>,
    listings: u64,
}

impl Feed {
    pub(crate) fn new(plan: &Plan, board: Board) -> Rc<Feed> {
        Rc::new(Feed {
            board,
            queue: RefCell::default(),
            messages: RefCell::default(),
            to_send: Cell::new(plan.messages),
            listings: plan.feed_listings,
        })
    }

    /// Everything is sent, received and deleted.
    pub(crate) fn is_through(&self) -> bool {
        self.to_send.get() == 0 && self.queue.borrow().is_empty()
    }

    /// How much is left, for whoever waits in vain.
    pub(crate) fn left(&self) -> (u64, usize) {
        (self.to_send.get(), self.queue.borrow().len())
    }

    /// Where its listings may be.
    pub(crate) fn zips(&self) -> Vec<String> {
        (0..ZIPS).map(|at| (FIRST_ZIP + at).to_string()).collect()
    }

    /// What the store must hold, worked out a second time.
    pub(crate) fn expected(&self) -> Expected {
        let line = |(number, (body, sent)): (usize, &(String, u64))| {
            let body = format!("{body}}}");
            json!({"message_id": number.to_string(), "sent": sent, "body": body}).to_string()
        };
        let lines: Vec<String> = self.messages.borrow().iter().enumerate().map(line).collect();
        oracle::expected(&lines.join("\n")).expect("the feed has no two bodies at one time")
    }

    fn send(&self, chance: &mut Chance) {
        let now = world::now_ms();
        let mut messages = self.messages.borrow_mut();
        let sent = (world::BEGINS_MS + now).max(messages.last().map_or(0, |(_, sent)| sent + 1));
        let id = format!("feed-{}", chance.below(self.listings));
        let body = match chance.below(5) {
            0 => format!("{{\"op\":\"delete\",\"id\":\"{id}\""),
            _ => {
                let zip = FIRST_ZIP + chance.below(ZIPS);
                let modified = sent - chance.below(2_000);
                let listing = json!({
                    "ListingKey": id,
                    "PostalCode": zip.to_string(),
                    "ModificationTimestamp": timestamp(modified),
                    "ListPrice": messages.len(),
                });
                format!("{{\"op\":\"upsert\",\"listing\":{listing}")
            }
        };
        self.queue.borrow_mut().insert(messages.len(), now + chance.below(3_000));
        messages.push((body, sent));
        self.to_send.set(self.to_send.get() - 1);
    }

    /// Some messages that may be delivered now, in any order.
    fn receive(&self, chance: &mut Chance, most: u64) -> Vec<usize> {
        let now = world::now_ms();
        let mut queue = self.queue.borrow_mut();
        let mut visible: Vec<usize> =
            queue.iter().filter(|(_, from)| **from <= now).map(|(number, _)| *number).collect();
        let mut taken = Vec::new();
        while !visible.is_empty() && (taken.len() as u64) < most {
            let number = visible.swap_remove(chance.below(visible.len() as u64) as usize);
            queue.insert(number, now + VISIBLE_AFTER_MS);
            taken.push(number);
        }
        taken
    }

    fn delete(&self, chance: &mut Chance, number: usize) {
        // A standard queue may deliver what was deleted.
        if !chance.happens(TWICE) {
            self.queue.borrow_mut().remove(&number);
        }
    }
}

/// The operator, who sends all through the run.
pub(crate) async fn send(feed: Rc<Feed>, plan: Plan) {
    let mut chance = Chance::new(plan.seed, "operator");
    let pause = (plan.unsafe_ms / plan.messages).max(1);
    while feed.to_send.get() > 0 {
        feed.send(&mut chance);
        sleep(Duration::from_millis(1 + chance.below(2 * pause))).await;
    }
}

/// One ingester, until the queue is empty and stays so.
pub(crate) async fn ingest(feed: Rc<Feed>, phase: Phase, plan: Plan, number: u64, router: String) {
    let mut chance = Chance::new(plan.seed, &format!("ingester {number}"));
    let mut http = Http::to(router);
    while !phase.is_finished() {
        let batch = feed.receive(&mut chance, plan.batch_max);
        if batch.is_empty() {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        if chance.happens(DIES) {
            feed.board.reached("ingester died");
            http = Http::to(format!("router{}:8080", 1 + chance.below(plan.routers)));
            continue;
        }
        let done = post(&feed, &mut http, &batch).await;
        done.iter().for_each(|number| feed.delete(&mut chance, *number));
        if done.is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Sends a batch; the messages that are done.
async fn post(feed: &Feed, http: &mut Http, batch: &[usize]) -> Vec<usize> {
    let line = |number: &usize| {
        let (body, sent) = &feed.messages.borrow()[*number];
        format!("{body},\"sent\":{sent}}}\n")
    };
    let body: String = batch.iter().map(line).collect();
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("platbook-resend", "promised"),
        ("x-deadline-ms", DEADLINE_MS),
    ];
    let Ok(answer) = http.call(Method::POST, "/v1/listings", &headers, body, PATIENCE).await else {
        return Vec::new();
    };
    let said = answer.json();
    if answer.status != 200 {
        let (client, what) = ("ingester".to_string(), format!("{} {said}", answer.status));
        feed.board.take(&Event::Told { client, what });
        return Vec::new();
    }
    let lines = |name: &str| said[name].as_array().cloned().unwrap_or_default();
    let busy: Vec<u64> = lines("busy").iter().filter_map(|line| line.as_u64()).collect();
    let rejected: Vec<u64> =
        lines("rejected").iter().filter_map(|entry| entry["line"].as_u64()).collect();
    let is_done = |at: &usize| {
        let line = *at as u64 + 1;
        !busy.contains(&line) && !rejected.contains(&line)
    };
    let done: Vec<usize> = (0..batch.len()).filter(is_done).map(|at| batch[at]).collect();
    let (client, what) =
        ("ingester".to_string(), format!("{} of {} done", done.len(), batch.len()));
    feed.board.take(&Event::Told { client, what });
    done
}
