//! What entries do to rows, totals and changes.

use bytes::Bytes;
use platbook_protocol::Seq;
use platbook_protocol::follow::ChangeKind;
use platbook_protocol::register::{Admission, Decision, Settled};
use platbook_protocol::row::{Row, WriteOutcome};
use platbook_protocol::rpc::{RowView, ZipState};

use super::*;
use crate::error::StoreError;
use crate::store::Change;

#[test]
fn a_row_is_written_replaced_and_erased_and_each_is_a_change() {
    let mut f = Fixture::new();
    let done = OpOutcome::Written(WriteOutcome::Done);
    assert_eq!(f.op(NOW, write("A", ZIP_A, at(NOW), b"one")), done);
    let live = |n, body: &[u8]| Row::Live { revision: Revision(n), digest: digest(body) };
    let view = RowView {
        row: live(at(NOW), b"one"),
        summary: b"summary".to_vec(),
        frame: b"one".to_vec(),
    };
    assert_eq!(f.shard.row(ZIP_A, "A", true).unwrap(), Some(view.clone()));
    let bare = RowView { summary: Vec::new(), frame: Vec::new(), ..view };
    assert_eq!(f.shard.row(ZIP_A, "A", false).unwrap(), Some(bare));

    f.ops(
        NOW + 1,
        &[
            write("A", ZIP_A, at(NOW + 1), b"seven bytes"),
            write("B", ZIP_A, at(NOW + 1), b"b"),
            write("C", ZIP_B, at(NOW + 1), b"c"),
        ],
    );
    let state = f.shard.zip_state(ZIP_A).unwrap();
    assert_eq!(state, ZipState { count: 2, bytes: 12, seq: Seq(3), shard_seq: Seq(4) });

    let moved =
        Op::Erase { id: "A", zip: ZIP_A, revision: Revision(at(NOW + 2)), moved_to: Some(ZIP_B) };
    assert_eq!(f.op(NOW + 2, moved), OpOutcome::Erased);
    let state = f.shard.zip_state(ZIP_A).unwrap();
    assert_eq!(state, ZipState { count: 1, bytes: 1, seq: Seq(5), shard_seq: Seq(5) });

    let effects = f.shard.effects(0..u64::MAX, 10).unwrap();
    assert_eq!(effects.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2]);
    let seqs: Vec<(u64, u64)> =
        effects.iter().flat_map(|(_, e)| &e.changes).map(|c| (c.seq.0, c.prev.0)).collect();
    assert_eq!(seqs, [(1, 0), (2, 1), (3, 2), (4, 0), (5, 3)]);
    assert_eq!(
        effects[2].1.changes[0],
        Change {
            ordinal: 0,
            seq: Seq(5),
            prev: Seq(3),
            kind: ChangeKind::Moved { to: ZIP_B },
            zip: ZIP_A,
            id: "A".to_string(),
            revision: Revision(at(NOW + 2)),
            before: Some(b"summary".to_vec()),
        }
    );
}

#[test]
fn what_changes_nothing_for_readers_is_no_change() {
    let mut f = Fixture::new();
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    let before = f.shard.applied().seq;
    // The same again, an older one, a marker over nothing, a re-stamp of the same body.
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    f.op(NOW, write("A", ZIP_A, at(NOW) - 1, b"old"));
    f.op(NOW, erase("B", ZIP_A, at(NOW)));
    f.op(NOW + 1, write("A", ZIP_A, at(NOW + 1), b"one"));
    assert_eq!(f.shard.applied().seq, before);
    assert_eq!(f.shard.effects(1..u64::MAX, 10).unwrap(), []);
    let state = f.shard.zip_state(ZIP_A).unwrap();
    assert_eq!((state.count, state.bytes, state.seq), (1, 3, before));
}

#[test]
fn operations_of_one_batch_see_each_other() {
    let mut f = Fixture::new();
    let outcomes = f.ops(
        NOW,
        &[
            write("A", ZIP_A, at(NOW), b"one"),
            erase("A", ZIP_A, at(NOW) + 1),
            write("A", ZIP_A, at(NOW), b"one"),
            admit("A", upsert(ZIP_A, NOW, b"one")),
            admit("A", upsert(ZIP_A, NOW, b"one")),
        ],
    );
    assert_eq!(outcomes[2], OpOutcome::Written(WriteOutcome::Superseded));
    assert_eq!(f.shard.zip_state(ZIP_A).unwrap().count, 0);
    assert_eq!(outcomes[3..].len(), 2);
    let OpOutcome::Admitted(second) = &outcomes[4] else { panic!("{outcomes:?}") };
    assert_eq!(second.label, platbook_protocol::register::Label::Duplicate);
}

#[test]
fn a_slot_of_another_shard_is_refused_without_effect() {
    let slots = SlotRange { first: Slot::of_zip(&ZIP_A), last: Slot::of_zip(&ZIP_A) };
    let mut f = Fixture::of(SHARD, Some(slots));
    let outcomes = f.ops(
        NOW,
        &[
            write("A", ZIP_A, at(NOW), b"mine"),
            write("A", ZIP_B, at(NOW), b"foreign"),
            admit("A", upsert(ZIP_A, NOW, b"mine")),
            Op::Unquarantine { message_id: "m" },
        ],
    );
    assert_eq!(outcomes[0], OpOutcome::Written(WriteOutcome::Done));
    assert_eq!(outcomes[1..], vec![OpOutcome::WrongShard; 3]);
    assert_eq!(f.shard.row(ZIP_B, "A", false).unwrap(), None);
}

#[test]
fn a_move_is_unsettled_until_it_is_settled() {
    let mut f = Fixture::new();
    f.op(NOW, admit("A", upsert(ZIP_A, NOW, b"one")));
    assert_eq!(f.shard.unsettled(TimeMs(u64::MAX), None, 10).unwrap(), []);
    f.op(NOW + 1, admit("A", upsert(ZIP_B, NOW + 1, b"two")));
    let unsettled = f.shard.unsettled(TimeMs(NOW + 2), None, 10).unwrap();
    assert_eq!(unsettled.len(), 1);
    assert_eq!(unsettled[0].since, TimeMs(NOW + 1));
    assert_eq!(f.shard.unsettled(TimeMs(NOW + 1), None, 10).unwrap(), []);
    let seen = Some((TimeMs(NOW + 1), "A"));
    assert_eq!(f.shard.unsettled(TimeMs(u64::MAX), seen, 10).unwrap(), []);

    let revision = f.shard.register("A").unwrap().unwrap().revision;
    let old = Op::Settle { id: "A", revision: Revision(1) };
    assert_eq!(f.op(NOW + 2, old), OpOutcome::Settled(Settled::NotCurrent));
    let settle = Op::Settle { id: "A", revision };
    assert_eq!(f.op(NOW + 2, settle), OpOutcome::Settled(Settled::Done));
    assert_eq!(f.shard.unsettled(TimeMs(u64::MAX), None, 10).unwrap(), []);
}

#[test]
fn a_held_body_stays_until_settled_or_superseded() {
    let mut f = Fixture::new();
    let hold = |message, frame| {
        let Op::Admit { id, admission, .. } = admit("A", message) else { unreachable!() };
        let admission = Admission { hold: true, ..admission };
        Op::Admit { id, admission, body: Some(Body { summary: b"s", frame }) }
    };
    let held = |f: &Fixture| {
        let list = f.shard.unsettled(TimeMs(u64::MAX), None, 10).unwrap();
        list.into_iter().map(|u| u.held.map(|held| held.frame)).collect::<Vec<_>>()
    };
    f.op(NOW, hold(upsert(ZIP_A, NOW, b"one"), b"one"));
    assert_eq!(held(&f), [Some(b"one".to_vec())]);
    // A duplicate without the body, then an older message: the body stays.
    f.op(NOW, admit("A", upsert(ZIP_A, NOW, b"one")));
    f.op(NOW, hold(upsert(ZIP_A, NOW - 1, b"old"), b"old"));
    assert_eq!(held(&f), [Some(b"one".to_vec())]);
    f.op(NOW + 1, hold(upsert(ZIP_A, NOW + 1, b"two"), b"two"));
    assert_eq!(held(&f), [Some(b"two".to_vec())]);
    let revision = f.shard.register("A").unwrap().unwrap().revision;
    f.op(NOW + 2, Op::Settle { id: "A", revision });
    assert_eq!(held(&f), []);
    f.op(NOW + 3, hold(upsert(ZIP_A, NOW + 3, b"three"), b"three"));
    f.op(NOW + 4, admit("A", upsert(ZIP_A, NOW + 4, b"four")));
    assert_eq!(held(&f), []);
    let stored = f.shard.inner.db().get(&crate::store::key::Key::Held("A").encode(), |_| ());
    assert_eq!(stored.unwrap(), None);
}

#[test]
fn what_is_refused_leaves_no_register() {
    let mut f = Fixture::new();
    let Op::Admit { id, admission, body } = admit("A", upsert(ZIP_A, NOW, b"one")) else {
        unreachable!()
    };
    let admission = Admission { if_match: Some(Revision(5)), ..admission };
    let outcome = f.op(NOW, Op::Admit { id, admission, body });
    let OpOutcome::Admitted(admitted) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(admitted.decision, Decision::PreconditionFailed { .. }));
    assert_eq!(f.shard.register("A").unwrap(), None);
}

#[test]
fn an_entry_that_cannot_be_read_stops_the_shard_and_has_no_effect() {
    let mut f = Fixture::new();
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    let before = f.hash();
    let position = |index| Position { term: 1, index };
    let good = ops_body(NOW, &[write("B", ZIP_A, at(NOW), b"two")]);
    let bad = EntryBody::Command(Bytes::from_static(b"\x01\x01short"));
    let entries = vec![
        Entry { position: position(1), body: good.clone() },
        Entry { position: position(2), body: bad },
    ];
    let failed = f.shard.apply(entries).unwrap_err();
    assert!(matches!(failed, StoreError::Entry { index: 2, .. }), "{failed}");
    assert_eq!(f.hash(), before);
    for index in [0, 2] {
        let gap = f.shard.apply(vec![Entry { position: position(index), body: good.clone() }]);
        assert!(matches!(gap, Err(StoreError::OutOfOrder { expected: 1, .. })));
    }
    f.shard.apply(vec![Entry { position: position(1), body: good }]).unwrap();
}

#[test]
fn the_store_counts_what_it_does() {
    let mut f = Fixture::new();
    f.ops(NOW, &[write("A", ZIP_A, at(NOW), b"one"), erase("B", ZIP_A, at(NOW))]);
    let counters = f.store.counters();
    let counted = (counters.batches, counters.entries, counters.operations, counters.changes);
    assert_eq!(counted, (1, 1, 2, 1));
    assert!(counters.batch_bytes > 0 && counters.memtable_bytes > 0);
    assert_eq!((counters.writes_stopped, f.store.background_error()), (false, None));
}

#[test]
fn membership_is_kept_with_its_position() {
    let mut f = Fixture::new();
    f.push(EntryBody::Membership(Bytes::from_static(b"one")));
    f.push(EntryBody::Blank);
    let position = |index| Some(Position { term: 1, index });
    let expected = Some((position(0), Bytes::from_static(b"one")));
    assert_eq!(f.shard.applied().membership, expected);
    assert_eq!(f.shard.applied().position, position(1));
}

#[test]
fn a_change_is_found_in_the_log_by_its_seq() {
    let mut f = Fixture::new();
    for entry in 0..40u64 {
        let ids: Vec<String> = (0..entry % 3).map(|i| format!("{entry}-{i}")).collect();
        let ops: Vec<Op<'_>> =
            ids.iter().map(|id| write(id, ZIP_A, at(NOW), id.as_bytes())).collect();
        f.ops(NOW, &ops);
    }
    let check = |f: &Fixture, first: u64| {
        for (index, effects) in f.shard.effects(first..u64::MAX, 100).unwrap() {
            for change in effects.changes {
                assert_eq!(f.shard.index_of_change(change.seq).unwrap(), Some(index));
            }
        }
    };
    check(&f, 0);
    assert_eq!(f.shard.index_of_change(Seq(f.shard.applied().seq.0 + 1)).unwrap(), None);
    f.shard.trim_effects(20).unwrap();
    assert_eq!(f.shard.index_of_change(Seq(1)).unwrap(), None);
    assert_eq!(f.shard.effects(0..20, 100).unwrap(), []);
    check(&f, 20);
}

#[test]
fn a_shard_of_another_replica_is_not_opened() {
    let mut f = Fixture::new();
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    let Fixture { dir: _dir, store, shard, .. } = f;
    drop(shard);
    let other = ReplicaId(10);
    let refused = store.shard(SHARD, Some(ALL), other).unwrap_err();
    assert!(matches!(refused, StoreError::WrongReplica { found: REPLICA, .. }));
    store.destroy(SHARD, Some(ALL)).unwrap();
    let fresh = store.shard(SHARD, Some(ALL), other).unwrap();
    assert_eq!(fresh.applied(), Default::default());
    assert_eq!(fresh.row(ZIP_A, "A", false).unwrap(), None);
    assert!(store.shard(SHARD, Some(ALL), REPLICA).is_err());
    fresh.destroy().unwrap();
    let third = store.shard(SHARD, Some(ALL), REPLICA).unwrap();
    let blank = Entry { position: Position { term: 1, index: 0 }, body: EntryBody::Blank };
    let refused = fresh.apply(vec![blank.clone()]).unwrap_err();
    assert!(matches!(refused, StoreError::Destroyed { shard: SHARD }));
    third.apply(vec![blank]).unwrap();
}
