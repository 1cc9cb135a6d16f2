//! A whole feed, shuffled and duplicated, carried out through the store.

use std::collections::VecDeque;

use platbook_protocol::coordination::{Answer, Coordination, Step, Verdict};
use platbook_protocol::oracle::Oracle;
use platbook_protocol::row::Row;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;

/// A message of the feed: listing, message, body.
type FeedMessage = (String, Message, Vec<u8>);

fn feed(rng: &mut StdRng) -> Vec<FeedMessage> {
    let zips = [ZIP_A, ZIP_B, Zip::Unknown];
    let mut feed = Vec::new();
    for i in 0..30 {
        let id = format!("id-{i}");
        for version in 0..rng.random_range(1..5u64) {
            let sent = NOW + version * MINUTE;
            let body = format!("{id} {version}").into_bytes();
            let zip = zips[rng.random_range(0..zips.len())];
            feed.push((id.clone(), upsert(zip, sent, &body), body));
        }
        if rng.random_bool(0.4) {
            let sent = TimeMs(NOW + rng.random_range(0..5u64) * MINUTE);
            feed.push((id, Message::Delete { sent }, Vec::new()));
        }
    }
    feed
}

/// Delivers a message as a router does; `false` if it stays in the queue.
fn deliver(f: &mut Fixture, clock: u64, (id, message, body): &FeedMessage) -> bool {
    let Op::Admit { admission, .. } = admit(id, *message) else { unreachable!() };
    let mut coordination = Coordination::new(admission);
    loop {
        let body = Body { summary: b"summary", frame: body };
        let op = match coordination.next() {
            Step::Admit(admission) => Op::Admit { id, admission, body: None },
            Step::Write { zip, revision, digest } => Op::Write { id, zip, revision, digest, body },
            Step::Erase { zip, revision, moved_to } => Op::Erase { id, zip, revision, moved_to },
            Step::Settle { revision } | Step::Release { revision, .. } => {
                Op::Settle { id, revision }
            }
            Step::CheckRow { zip } => {
                let row = f.shard.row(zip, id, false).unwrap().map(|view| view.row);
                coordination.on(Answer::Row(row)).unwrap();
                continue;
            }
            Step::Finished(Verdict::Acknowledge { .. }) => return true,
            Step::Finished(Verdict::Busy) => return false,
            Step::Finished(verdict) => panic!("{verdict:?}"),
        };
        let outcome = f.op(clock, op);
        coordination.on(Answer::from_outcome(outcome).unwrap()).unwrap();
    }
}

#[test]
fn a_shuffled_and_duplicated_feed_ends_in_the_rows_that_its_set_of_messages_demands() {
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let messages = feed(&mut rng);
        let mut oracle = Oracle::new(stamp(NOW).skew_ms, stamp(NOW).recreate);
        for (id, message, _) in &messages {
            oracle.observe(id, *message);
        }
        let mut queue: Vec<FeedMessage> = messages.clone();
        queue.extend(messages.iter().filter(|_| rng.random_bool(0.3)).cloned());
        queue.shuffle(&mut rng);
        let mut queue = VecDeque::from(queue);
        let (mut f, mut clock, mut deliveries) = (Fixture::new(), NOW + HOUR, 0);
        while let Some(message) = queue.pop_front() {
            clock += 1;
            deliveries += 1;
            assert!(deliveries < 10_000, "seed {seed}: the queue does not empty");
            if !deliver(&mut f, clock, &message) {
                queue.push_back(message);
            }
        }
        for zip in [ZIP_A, ZIP_B, Zip::Unknown] {
            let expected: Vec<(&str, Digest)> = oracle.listings_of(zip).collect();
            assert_eq!(f.shard.zip_state(zip).unwrap().count, expected.len() as u64);
            for (id, digest) in expected {
                let view = f.shard.row(zip, id, true).unwrap();
                let row = view.as_ref().map(|view| view.row);
                assert!(
                    matches!(row, Some(Row::Live { digest: found, .. }) if found == digest),
                    "seed {seed} id {id} zip {zip}: {row:?}"
                );
            }
        }
        assert_eq!(f.shard.unsettled(TimeMs(u64::MAX), None, 100).unwrap(), []);
    }
}
