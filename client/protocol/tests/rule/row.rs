//! What one row accepts.

use platbook_protocol::row::{
    Effect, MARKER_RETENTION_MS, Row, WriteOutcome, erase, horizon_after, is_collectable, write,
};
use platbook_protocol::{Digest, Revision, TimeMs};

const BODY: Digest = Digest([1; 16]);
const OTHER: Digest = Digest([2; 16]);
const NONE: Revision = Revision(0);

fn live(revision: u64, digest: Digest) -> Option<Row> {
    Some(Row::Live { revision: Revision(revision), digest })
}

fn marker(revision: u64, laid: u64) -> Option<Row> {
    Some(Row::Marker { revision: Revision(revision), laid: TimeMs(laid) })
}

#[test]
fn only_a_greater_revision_is_written() {
    for row in [live(10, OTHER), marker(10, 0)] {
        let (outcome, effect) = write(row, Revision(9), BODY, NONE);
        assert_eq!((outcome, effect.put), (WriteOutcome::Superseded, None));
        let (outcome, effect) = write(row, Revision(10), BODY, NONE);
        assert_eq!((outcome, effect.put), (WriteOutcome::Done, None));
        let (outcome, effect) = write(row, Revision(11), BODY, NONE);
        assert_eq!(outcome, WriteOutcome::Done);
        assert_eq!(effect, Effect { put: live(11, BODY), is_change: true });
    }
}

#[test]
fn the_same_body_at_a_greater_revision_is_no_change() {
    let (outcome, effect) = write(live(10, BODY), Revision(11), BODY, NONE);
    assert_eq!(outcome, WriteOutcome::Done);
    assert_eq!(effect, Effect { put: live(11, BODY), is_change: false });
}

#[test]
fn below_the_horizon_only_a_live_row_is_written() {
    let horizon = Revision(100);
    for row in [None, marker(10, 0)] {
        let (outcome, effect) = write(row, Revision(99), BODY, horizon);
        assert_eq!((outcome, effect.put), (WriteOutcome::Expired { horizon }, None));
        assert_eq!(write(row, Revision(100), BODY, horizon).0, WriteOutcome::Done);
    }
    assert_eq!(write(live(10, OTHER), Revision(99), BODY, horizon).0, WriteOutcome::Done);
    assert_eq!(write(marker(99, 0), Revision(99), BODY, horizon).0, WriteOutcome::Done);
}

#[test]
fn an_erase_leaves_a_marker_also_over_nothing() {
    let laid = TimeMs(7);
    assert_eq!(erase(None, Revision(5), laid), Effect { put: marker(5, 7), is_change: false });
    let over_live = erase(live(4, BODY), Revision(5), laid);
    assert_eq!(over_live, Effect { put: marker(5, 7), is_change: true });
    let over_marker = erase(marker(4, 1), Revision(5), laid);
    assert_eq!(over_marker, Effect { put: marker(5, 7), is_change: false });
}

#[test]
fn an_erase_spares_what_is_as_new() {
    for row in [live(5, BODY), live(6, BODY), marker(5, 1), marker(6, 1)] {
        assert_eq!(erase(row, Revision(5), TimeMs(7)), Effect { put: None, is_change: false });
    }
}

#[test]
fn a_marker_stays_an_hour_and_until_the_horizon_has_passed_it() {
    let laid = 10 * MARKER_RETENTION_MS;
    let revision = Revision::at(TimeMs(laid));
    let row = Row::Marker { revision, laid: TimeMs(laid) };
    let due = TimeMs(laid + MARKER_RETENTION_MS);
    let later = TimeMs(due.0 + 1);
    assert!(!is_collectable(row, horizon_after(NONE, due), due));
    assert!(is_collectable(row, horizon_after(NONE, later), later));
    assert!(!is_collectable(row, revision, later), "the horizon has not passed it");
    let old = Row::Marker { revision: Revision(1), laid: TimeMs(laid) };
    assert!(!is_collectable(old, horizon_after(NONE, due), due), "an old erase, laid just now");
    let kept = Row::Live { revision, digest: BODY };
    assert!(!is_collectable(kept, Revision(u64::MAX), TimeMs(u64::MAX)));
}

#[test]
fn the_horizon_never_falls() {
    let ahead = horizon_after(NONE, TimeMs(5 * MARKER_RETENTION_MS));
    assert_eq!(ahead, Revision::at(TimeMs(4 * MARKER_RETENTION_MS)));
    assert_eq!(horizon_after(ahead, TimeMs(0)), ahead);
}
