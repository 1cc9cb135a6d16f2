//! Sweeps: what they collect, what they keep, what they let through afterwards.

use platbook_protocol::register::{Admission, Decision, Suspicion};
use platbook_protocol::row::WriteOutcome;

use super::*;

const SWEEP: Op<'_> = Op::Sweep { collect_max: 100 };

fn swept(collected: u32, more: bool) -> OpOutcome {
    OpOutcome::Swept { collected, more }
}

#[test]
fn a_marker_goes_after_an_hour_and_writes_below_the_horizon_are_refused() {
    let mut f = Fixture::new();
    f.op(NOW, write("A", ZIP_A, at(NOW), b"one"));
    f.op(NOW, erase("A", ZIP_A, at(NOW) + 1));
    assert_eq!(f.op(NOW + HOUR, SWEEP), swept(0, false));
    assert!(f.shard.row(ZIP_A, "A", false).unwrap().is_some());
    assert_eq!(f.op(NOW + HOUR + 1, SWEEP), swept(1, false));
    assert_eq!(f.shard.row(ZIP_A, "A", false).unwrap(), None);
    let horizon = Revision(at(NOW + 1));
    assert_eq!(f.shard.applied().horizon, horizon);
    let late = f.op(NOW + HOUR + 2, write("A", ZIP_A, at(NOW), b"one"));
    assert_eq!(late, OpOutcome::Written(WriteOutcome::Expired { horizon }));
    // A clock that steps back moves nothing.
    f.op(NOW, SWEEP);
    assert_eq!(f.shard.applied().horizon, horizon);
}

#[test]
fn a_marker_that_was_overwritten_is_not_collected_in_its_row_s_place() {
    let mut f = Fixture::new();
    f.op(NOW, erase("A", ZIP_A, at(NOW)));
    f.op(NOW + 1, write("A", ZIP_A, at(NOW + 1), b"one"));
    f.op(NOW, erase("B", ZIP_A, at(NOW)));
    f.op(NOW + HOUR, erase("B", ZIP_A, at(NOW + HOUR)));
    assert_eq!(f.op(NOW + HOUR + MINUTE, SWEEP), swept(0, false));
    assert!(f.shard.row(ZIP_A, "A", false).unwrap().is_some());
    assert_eq!(f.op(NOW + 3 * HOUR, SWEEP), swept(1, false));
    assert_eq!(f.shard.row(ZIP_A, "B", false).unwrap(), None);
}

#[test]
fn a_sweep_in_the_batch_of_what_it_collects_collects_the_same() {
    let (one, mut many) = (Fixture::new(), Fixture::new());
    // The second clock is far ahead of the first: the marker is due at once.
    let entries = [
        ops_body(NOW, &[erase("A", ZIP_A, at(NOW)), erase("B", ZIP_A, at(NOW))]),
        ops_body(NOW + HOUR, &[write("B", ZIP_A, at(NOW + HOUR), b"b")]),
        ops_body(NOW + 2 * HOUR, &[SWEEP]),
    ];
    for body in &entries {
        many.push(body.clone());
    }
    one.shard.apply(many.log.clone()).unwrap();
    assert_eq!(one.hash(), many.hash());
    assert_eq!(one.shard.row(ZIP_A, "A", false).unwrap(), None);
}

#[test]
fn a_sweep_stops_at_its_limit_and_says_so() {
    let mut f = Fixture::new();
    for id in ["A", "B", "C"] {
        f.op(NOW, erase(id, ZIP_A, at(NOW)));
    }
    let step = Op::Sweep { collect_max: 2 };
    assert_eq!(f.op(NOW + 2 * HOUR, step), swept(2, true));
    assert_eq!(f.op(NOW + 2 * HOUR, step), swept(1, false));
}

#[test]
fn a_dead_register_goes_after_its_retention_and_raises_the_floor() {
    let mut f = Fixture::new();
    f.op(NOW, admit("A", upsert(ZIP_A, NOW, b"one")));
    f.op(NOW + 1, admit("A", Message::Delete { sent: TimeMs(NOW + 1) }));
    let revision = f.shard.register("A").unwrap().unwrap().revision;
    // Unsettled: it stays, however old.
    assert_eq!(f.op(NOW + 100 * DAY, SWEEP), swept(0, false));
    f.op(NOW + 100 * DAY, Op::Settle { id: "A", revision });
    assert_eq!(f.op(NOW + 160 * DAY, SWEEP), swept(0, false));
    assert_eq!(f.op(NOW + 160 * DAY + 1, SWEEP), swept(1, false));
    assert_eq!(f.shard.register("A").unwrap(), None);
    let applied = f.shard.applied();
    assert_eq!(applied.floor, revision);
    assert_eq!(applied.register_horizon, TimeMs(NOW + 100 * DAY + 1));

    let Op::Admit { id, admission, body } = admit("A", upsert(ZIP_A, NOW, b"one")) else {
        unreachable!()
    };
    let admitted = |f: &mut Fixture, queued| {
        let admission = Admission { queued: TimeMs(queued), ..admission };
        match f.op(NOW, Op::Admit { id, admission, body }) {
            OpOutcome::Admitted(admitted) => admitted.decision,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(admitted(&mut f, NOW + 100 * DAY), Decision::TooOld);
    match admitted(&mut f, NOW + 100 * DAY + 1) {
        Decision::Do { revision: fresh, .. } => assert!(fresh > revision),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_late_delete_of_a_dead_id_prolongs_its_memory() {
    let mut f = Fixture::new();
    f.op(NOW, admit("A", Message::Delete { sent: TimeMs(NOW) }));
    f.op(NOW + 59 * DAY, admit("A", Message::Delete { sent: TimeMs(NOW + 59 * DAY) }));
    assert_eq!(f.op(NOW + 61 * DAY, SWEEP), swept(0, false));
    assert_eq!(f.op(NOW + 120 * DAY, SWEEP), swept(1, false));
}

#[test]
fn a_half_written_listing_is_listed_once_and_until_it_settles() {
    let mut f = Fixture::new();
    f.op(NOW, admit("A", upsert(ZIP_A, NOW, b"one")));
    f.op(NOW + 1, admit("A", upsert(ZIP_B, NOW + 1, b"two")));
    f.op(NOW + 1 + 10 * MINUTE, SWEEP);
    assert_eq!(f.shard.suspects(None, 10).unwrap(), []);
    let noticed = NOW + 2 + 10 * MINUTE;
    f.op(noticed, SWEEP);
    let listed = vec![("A".to_string(), Suspicion::HalfWritten, TimeMs(noticed))];
    assert_eq!(f.shard.suspects(None, 10).unwrap(), listed);
    // Somebody looked at it: it is not listed again.
    f.op(noticed, Op::ClearSuspect { id: "A" });
    f.op(noticed + HOUR, SWEEP);
    assert_eq!(f.shard.suspects(None, 10).unwrap(), []);

    f.op(noticed, admit("A", upsert(ZIP_A, NOW + 2, b"three")));
    f.op(noticed + HOUR, SWEEP);
    assert_eq!(f.shard.suspects(None, 10).unwrap().len(), 1);
    let revision = f.shard.register("A").unwrap().unwrap().revision;
    f.op(noticed + HOUR, Op::Settle { id: "A", revision });
    assert_eq!(f.shard.suspects(None, 10).unwrap(), []);
}
