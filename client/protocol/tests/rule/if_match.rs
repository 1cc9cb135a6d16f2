//! Conditional writes: who sees revision R may replace R, once, whatever the clocks say.

use platbook_protocol::Revision;
use platbook_protocol::coordination::{Answer, Coordination, Step, Verdict};
use platbook_protocol::register::{
    Admitted, Context, Decision, Label, Message, Recreate, Register, Settled,
};
use platbook_protocol::row::WriteOutcome;

use crate::universe::{admission, admit, context, delete, numbered, upsert};

const SKEW_MS: u64 = 5;

fn rule() -> Context {
    context(SKEW_MS, Recreate::BothClocks)
}

fn admit_if(register: &mut Register, message: Message, expected: Revision) -> Admitted {
    let mut admission = admission(message);
    admission.if_match = Some(expected);
    register.admit(admission, &rule())
}

/// A live listing in ZIP 0.
fn live() -> Register {
    let mut register = Register::default();
    admit(&mut register, upsert(100, 100, 0, 1), &rule());
    register
}

fn assert_refused(register: &mut Register, message: Message, expected: Revision) {
    let before = register.clone();
    let revision = register.revision;
    let admitted = admit_if(register, message, expected);
    assert_eq!(admitted.decision, Decision::PreconditionFailed { revision });
    assert_eq!(*register, before, "a refusal has no effect");
}

#[test]
fn only_one_of_two_that_saw_the_same_revision_replaces_it() {
    let mut register = live();
    let seen = register.revision;
    let first = admit_if(&mut register, upsert(200, 200, 0, 2), seen);
    assert_eq!(first.label, Label::Applied);
    assert!(register.revision > seen);
    assert_refused(&mut register, upsert(300, 300, 0, 3), seen);
    assert_refused(&mut register, delete(300), seen);
}

#[test]
fn a_retry_is_recognised_and_not_refused() {
    let mut register = live();
    let seen = register.revision;
    let update = upsert(200, 200, 0, 2);
    admit_if(&mut register, update, seen);
    let after = register.clone();
    let again = admit_if(&mut register, update, seen);
    assert_eq!(again.label, Label::Duplicate);
    assert!(matches!(again.decision, Decision::Do { target: Some(_), .. }));
    assert_eq!(register, after);
}

#[test]
fn it_wins_over_newer_clocks_of_what_it_replaces() {
    let mut register = live();
    let seen = register.revision;
    let update = upsert(1, 1, 1, 2);
    let admitted = admit_if(&mut register, update, seen);
    assert_eq!(admitted.label, Label::Applied);
    assert!(register.alive);
    assert_eq!(register.zip, Some(numbered(1)));
    let after = register.clone();
    assert_eq!(admit_if(&mut register, update, seen).label, Label::Duplicate);
    assert_eq!(register, after, "a retry carries the clocks of its first attempt");
}

#[test]
fn it_wins_although_its_modified_lies_before_an_earlier_delete() {
    let mut register = live();
    admit(&mut register, delete(200), &rule());
    admit(&mut register, upsert(300, 300, 0, 2), &rule());
    let seen = register.revision;
    let admitted = admit_if(&mut register, upsert(50, 310, 0, 3), seen);
    assert_eq!((admitted.label, register.alive), (Label::Applied, true));
    assert_eq!(admitted.suspect, None);
}

#[test]
fn a_setting_that_was_changed_does_not_turn_it_into_a_delete() {
    let lenient = context(SKEW_MS, Recreate::QueueTime);
    let mut register = live();
    admit(&mut register, delete(200), &lenient);
    admit(&mut register, upsert(150, 300, 0, 2), &lenient);
    assert!(register.alive);
    let seen = register.revision;
    admit_if(&mut register, upsert(60, 310, 0, 3), seen);
    assert!(register.alive, "the test of modified against the delete is waived");
}

#[test]
fn a_delete_wins_over_a_newer_sent_and_its_retry_is_recognised() {
    let mut register = live();
    let seen = register.revision;
    assert_eq!(admit_if(&mut register, delete(1), seen).label, Label::Applied);
    assert!(!register.alive);
    let after = register.clone();
    let again = admit_if(&mut register, delete(1), seen);
    assert!(matches!(again.decision, Decision::Do { target: None, .. }), "{again:?}");
    assert_eq!(register, after);
}

#[test]
fn the_retry_of_a_delete_does_not_kill_what_was_re_created() {
    let mut register = live();
    let seen = register.revision;
    admit_if(&mut register, delete(1), seen);
    admit(&mut register, upsert(500, 500, 0, 2), &rule());
    assert!(register.alive);
    assert_refused(&mut register, delete(1), seen);
}

#[test]
fn what_does_not_exist_has_no_revision_to_match() {
    let mut unknown = Register::default();
    for expected in [0, 1, 77] {
        assert_refused(&mut unknown, upsert(10, 10, 0, 1), Revision(expected));
        assert_refused(&mut unknown, delete(10), Revision(expected));
    }
    let mut dead = live();
    admit(&mut dead, delete(200), &rule());
    let current = dead.revision;
    assert_refused(&mut dead, upsert(300, 300, 0, 2), current);
    assert_refused(&mut dead, delete(300), current);
}

#[test]
fn the_condition_is_asked_once_although_the_message_is_admitted_again() {
    let mut register = live();
    let mut conditional = admission(upsert(1, 1, 1, 2));
    conditional.if_match = Some(register.revision);
    conditional.hold = true;
    let mut coordination = Coordination::new(conditional);
    let mut next = |coordination: &mut Coordination| {
        let Step::Admit(admission) = coordination.next() else { panic!("an admission is due") };
        let admitted = register.admit(admission, &rule());
        coordination.on(Answer::Admitted(admitted)).expect("it was asked for");
        admission
    };
    assert!(next(&mut coordination).if_match.is_some());
    let horizon = Revision(u64::MAX / 2);
    let expired = Answer::Written(WriteOutcome::Expired { horizon });
    coordination.on(expired).expect("a write was due");
    let again = next(&mut coordination);
    assert_eq!((again.if_match, again.hold, again.floor), (None, false, horizon));
    coordination.on(Answer::Row(None)).expect("a known message looks first");
    coordination.on(Answer::Written(WriteOutcome::Done)).expect("a write was due");
    coordination.on(Answer::Erased).expect("the old ZIP is erased");
    coordination.on(Answer::Settled(Settled::Done)).expect("something was erased");
    let Step::Finished(Verdict::Acknowledge { label, revision }) = coordination.next() else {
        panic!("it is done");
    };
    assert_eq!(label, Label::Applied, "the label is that of the first admission");
    assert!(revision >= horizon);
}

#[test]
fn who_starts_over_after_busy_is_not_refused_for_what_it_did_itself() {
    let mut register = live();
    let mut conditional = admission(upsert(200, 200, 1, 2));
    conditional.if_match = Some(register.revision);
    let mut coordination = Coordination::new(conditional);
    let admitted = register.admit(conditional, &rule());
    coordination.on(Answer::Admitted(admitted)).expect("it was asked for");
    admit(&mut register, upsert(300, 300, 0, 3), &rule());
    coordination.on(Answer::Written(WriteOutcome::Superseded)).expect("a write was due");
    coordination.on(Answer::Erased).expect("the old ZIP is erased");
    coordination.on(Answer::Settled(Settled::NotCurrent)).expect("something was erased");
    for _ in 0..2 {
        let Step::Admit(admission) = coordination.next() else { panic!("an admission is due") };
        let admitted = register.admit(admission, &rule());
        assert_eq!(admitted.decision, Decision::Busy);
        coordination.on(Answer::Admitted(admitted)).expect("it was asked for");
        assert_eq!(coordination.next(), Step::Finished(Verdict::Busy));
        coordination.start_over();
    }
}
