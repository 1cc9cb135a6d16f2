//! Quarantine and suspects.

use platbook_protocol::codec;
use platbook_protocol::register::Suspicion;
use platbook_protocol::rpc::QuarantineRecord;

use super::*;
use crate::store::db::Batch;
use crate::store::key::Key;
use crate::store::value::state::State;
use crate::store::{QUARANTINE_BYTES_MAX, QUARANTINE_COUNT_MAX};

fn record(body: &[u8]) -> QuarantineRecord {
    QuarantineRecord {
        code: "bad_json".to_string(),
        detail: "expected value at line 1 column 1".to_string(),
        body: body.to_vec(),
        attributes: vec![("source".to_string(), "test".to_string())],
        sent: TimeMs(NOW),
        quarantined: TimeMs(NOW + 1),
    }
}

fn quarantine<'a>(message_id: &'a str, encoded: &'a [u8]) -> Op<'a> {
    Op::Quarantine { message_id, record: encoded }
}

#[test]
fn lists_are_read_in_pages_over_all_slots() {
    let mut f = Fixture::new();
    let ids: Vec<String> = (0..50).map(|i| format!("m-{i}")).collect();
    let encoded: Vec<Vec<u8>> =
        ids.iter().map(|id| codec::encode(&record(id.as_bytes()))).collect();
    for (id, encoded) in ids.iter().zip(&encoded) {
        f.ops(
            NOW,
            &[
                quarantine(id, encoded),
                write(id, ZIP_A, at(NOW), b"other keys between the lists"),
                // Far ahead of `sent`: a suspect.
                admit(
                    id,
                    match upsert(ZIP_A, NOW, b"body") {
                        Message::Upsert(mut m) => {
                            m.version.modified = TimeMs(NOW + HOUR);
                            Message::Upsert(m)
                        }
                        delete @ Message::Delete { .. } => delete,
                    },
                ),
            ],
        );
    }
    let (mut messages, mut suspects) = (Vec::new(), Vec::new());
    loop {
        let after = messages.last().map(|(id, _): &(String, QuarantineRecord)| id.as_str());
        let page = f.shard.quarantined(after, 7).unwrap();
        if page.is_empty() {
            break;
        }
        messages.extend(page);
    }
    loop {
        let after = suspects.last().map(|(id, ..): &(String, Suspicion, TimeMs)| id.as_str());
        let page = f.shard.suspects(after, 7).unwrap();
        if page.is_empty() {
            break;
        }
        suspects.extend(page);
    }
    let mut expected = ids.clone();
    expected.sort_by_key(|id| (Slot::of_id(id), id.clone()));
    let listed: Vec<String> = messages.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(listed, expected);
    assert!(messages.iter().all(|(id, r)| *r == record(id.as_bytes())));
    let listed: Vec<String> = suspects.iter().map(|(id, ..)| id.clone()).collect();
    assert_eq!(listed, expected);
    assert!(suspects.iter().all(|(_, why, _)| *why == Suspicion::ModifiedAhead));
}

#[test]
fn the_quarantine_counts_what_it_holds_and_repeats_change_nothing() {
    let mut f = Fixture::new();
    let encoded = codec::encode(&record(b"body"));
    f.op(NOW, quarantine("m", &encoded));
    let applied = f.shard.applied();
    assert_eq!(applied.quarantine_count, 1);
    let other = codec::encode(&record(b"another body"));
    assert_eq!(f.op(NOW, quarantine("m", &other)), OpOutcome::Noted);
    assert_eq!(f.shard.applied().quarantine_bytes, applied.quarantine_bytes);
    assert_eq!(f.shard.quarantined(None, 9).unwrap()[0].1, record(b"body"));
    f.op(NOW, Op::Unquarantine { message_id: "m" });
    f.op(NOW, Op::Unquarantine { message_id: "m" });
    let applied = f.shard.applied();
    assert_eq!((applied.quarantine_count, applied.quarantine_bytes), (0, 0));
}

#[test]
fn a_full_quarantine_refuses_but_still_answers_repeats() {
    for (count, bytes) in [(QUARANTINE_COUNT_MAX - 1, 0), (0, QUARANTINE_BYTES_MAX - 150)] {
        let mut f = Fixture::new();
        f.push(EntryBody::Blank);
        let state = State {
            position: f.shard.applied().position,
            quarantine_count: count,
            quarantine_bytes: bytes,
            ..State::default()
        };
        let mut batch = Batch::default();
        batch.put(&Key::State(SHARD).encode(), &state.encode());
        f.shard.inner.db().write(batch).unwrap();
        f.shard.inner.reload().unwrap();

        let encoded = codec::encode(&record(b"body"));
        assert_eq!(f.op(NOW, quarantine("a", &encoded)), OpOutcome::Noted);
        assert_eq!(f.op(NOW, quarantine("b", &encoded)), OpOutcome::QuarantineFull);
        assert_eq!(f.op(NOW, quarantine("a", &encoded)), OpOutcome::Noted);
        f.op(NOW, Op::Unquarantine { message_id: "a" });
        assert_eq!(f.op(NOW, quarantine("b", &encoded)), OpOutcome::Noted);
    }
}
