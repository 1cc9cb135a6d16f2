//! The coordinator's steps, where the exploration of the model cannot see them: what travels, what
//! is bounded, and what a wrong peer can do.

use platbook_protocol::coordination::{
    Answer, Coordination, READMITS_MAX, Step, UnexpectedAnswer, Verdict,
};
use platbook_protocol::register::{
    Admission, Admitted, Context, Decision, Label, Message, Recreate, Register, Settled,
};
use platbook_protocol::row::{Row, WriteOutcome};
use platbook_protocol::{Digest, Revision};

use crate::universe::{admission, admit, context, delete, numbered, upsert};

fn rule() -> Context {
    context(5, Recreate::BothClocks)
}

/// Carries out the admission that is due.
fn admit_step(coordination: &mut Coordination, register: &mut Register) -> Admission {
    let Step::Admit(admission) = coordination.next() else { panic!("an admission is due") };
    let admitted = register.admit(admission, &rule());
    coordination.on(Answer::Admitted(admitted)).expect("an admission was due");
    admission
}

fn started(register: &mut Register, message: Message) -> Coordination {
    let mut coordination = Coordination::new(admission(message));
    admit_step(&mut coordination, register);
    coordination
}

#[test]
fn a_new_body_is_written_at_once_and_a_known_one_only_after_a_look() {
    let mut register = Register::default();
    let first = started(&mut register, upsert(10, 10, 0, 1));
    assert!(matches!(first.next(), Step::Write { .. }));
    for known in [upsert(10, 10, 0, 1), upsert(10, 20, 0, 1), upsert(10, 5, 0, 1)] {
        let mut again = started(&mut register, known);
        assert_eq!(again.next(), Step::CheckRow { zip: numbered(0) });
        let Message::Upsert(upsert) = known else { panic!("all are upserts") };
        let (revision, digest) = (register.revision, upsert.version.digest);
        again.on(Answer::Row(Some(Row::Live { revision, digest }))).expect("a look was due");
        assert!(matches!(again.next(), Step::Finished(Verdict::Acknowledge { .. })));
    }
}

#[test]
fn the_same_body_of_an_earlier_life_is_written_again() {
    let mut register = Register::default();
    admit(&mut register, upsert(10, 10, 0, 1), &rule());
    let earlier = register.revision;
    admit(&mut register, delete(12), &rule());
    admit(&mut register, upsert(10, 14, 0, 1), &rule());
    let mut again = started(&mut register, upsert(10, 14, 0, 1));
    let digest = register.upsert.expect("it was joined").version.digest;
    again.on(Answer::Row(Some(Row::Live { revision: earlier, digest }))).expect("a look was due");
    let revision = register.revision;
    assert_eq!(again.next(), Step::Write { zip: numbered(0), revision, digest });
}

#[test]
fn a_step_is_the_same_until_it_is_answered_and_a_wrong_answer_changes_nothing() {
    let mut register = Register::default();
    let mut coordination = started(&mut register, upsert(10, 10, 0, 1));
    let before = coordination.clone();
    for wrong in [Answer::Erased, Answer::Row(None), Answer::Settled(Settled::Done)] {
        assert_eq!(coordination.on(wrong), Err(UnexpectedAnswer));
        assert_eq!(coordination, before);
    }
    coordination.on(Answer::Written(WriteOutcome::Done)).expect("a write was due");
    let finished = coordination.clone();
    assert_eq!(coordination.on(Answer::Erased), Err(UnexpectedAnswer));
    assert_eq!(coordination, finished);
}

#[test]
fn a_peer_cannot_make_a_delete_write_a_row() {
    let mut coordination = Coordination::new(admission(delete(10)));
    let (revision, target) = (Revision(1), Some(numbered(0)));
    let decision = Decision::Do { revision, target, erase: Vec::new(), settle: false };
    let admitted = Admitted { decision, label: Label::Applied, suspect: None };
    assert_eq!(coordination.on(Answer::Admitted(admitted)), Err(UnexpectedAnswer));
    assert!(matches!(coordination.next(), Step::Admit(_)));
}

#[test]
fn what_expires_again_and_again_is_left_to_a_later_delivery() {
    let mut register = Register::default();
    let mut coordination = Coordination::new(admission(upsert(10, 10, 0, 1)));
    let mut admissions = 0;
    let mut horizon = Revision::at(rule().clock);
    let verdict = loop {
        match coordination.next() {
            Step::Admit(_) => {
                admissions += 1;
                let floor = admit_step(&mut coordination, &mut register).floor;
                assert!(admissions == 1 || floor == horizon);
            }
            Step::CheckRow { .. } => coordination.on(Answer::Row(None)).expect("a look was due"),
            Step::Write { revision, .. } => {
                horizon = revision.next();
                let expired = Answer::Written(WriteOutcome::Expired { horizon });
                coordination.on(expired).expect("a write was due");
            }
            Step::Finished(verdict) => break verdict,
            Step::Erase { .. } | Step::Settle { .. } | Step::Release { .. } => {
                panic!("nothing is to be erased")
            }
        }
    };
    assert_eq!((verdict, admissions), (Verdict::Busy, u32::from(READMITS_MAX) + 1));
}

#[test]
fn a_move_erases_after_its_write_also_when_that_was_superseded() {
    for outcome in [WriteOutcome::Done, WriteOutcome::Superseded] {
        let mut register = Register::default();
        admit(&mut register, upsert(10, 10, 0, 1), &rule());
        let mut coordination = started(&mut register, upsert(20, 20, 1, 2));
        let revision = register.revision;
        coordination.on(Answer::Written(outcome)).expect("a write was due");
        let moved_to = Some(numbered(1));
        assert_eq!(coordination.next(), Step::Erase { zip: numbered(0), revision, moved_to });
        coordination.on(Answer::Erased).expect("an erase was due");
        assert_eq!(coordination.next(), Step::Settle { revision });
        coordination.on(Answer::Settled(Settled::NotCurrent)).expect("a settling was due");
        assert!(matches!(coordination.next(), Step::Admit(_)));
    }
}

#[test]
fn the_sweeper_finishes_the_dead_and_looks_before_it_writes() {
    let mut register = Register::default();
    assert_eq!(Coordination::finishing(&register), None);
    admit(&mut register, upsert(10, 10, 0, 1), &rule());
    assert_eq!(Coordination::finishing(&register), None, "its message comes again");
    admit(&mut register, upsert(20, 20, 1, 2), &rule());
    let mut moving = Coordination::finishing(&register).expect("the old ZIP is to be erased");
    admit_step(&mut moving, &mut register);
    assert_eq!(moving.next(), Step::CheckRow { zip: numbered(1) });

    admit(&mut register, delete(30), &rule());
    let mut dead = Coordination::finishing(&register).expect("two ZIPs are to be erased");
    admit_step(&mut dead, &mut register);
    let mut erased = Vec::new();
    while let Step::Erase { zip, moved_to: None, .. } = dead.next() {
        erased.push(zip);
        dead.on(Answer::Erased).expect("an erase was due");
    }
    erased.sort();
    assert_eq!(erased, [numbered(0), numbered(1)]);
    let Step::Settle { revision } = dead.next() else { panic!("it is to be settled") };
    assert_eq!(register.settle(revision), Settled::Done);
    assert_eq!(Coordination::finishing(&register), None);
}

#[test]
fn the_sweeper_does_not_found_the_register_of_a_collected_id() {
    let mut register = Register::default();
    admit(&mut register, upsert(10, 10, 0, 1), &rule());
    admit(&mut register, delete(30), &rule());
    let sweeper = Coordination::finishing(&register).expect("it is to be erased");
    let Step::Admit(admission) = sweeper.next() else { panic!("an admission is due") };
    let mut collected = Register::default();
    let mut context = rule();
    context.register_horizon = context.clock;
    assert_eq!(collected.admit(admission, &context).decision, Decision::TooOld);
    assert_eq!(collected, Register::default());
}

#[test]
fn a_held_body_is_let_go_after_the_verdict_where_nothing_is_erased() {
    let mut register = Register::default();
    let mut put = admission(upsert(10, 10, 0, 1));
    put.hold = true;
    let mut coordination = Coordination::new(put);
    admit_step(&mut coordination, &mut register);
    assert!(register.held);
    coordination.on(Answer::Written(WriteOutcome::Done)).expect("a write was due");
    let Step::Release { verdict, revision } = coordination.next() else { panic!("it is told") };
    assert_eq!(verdict, Verdict::Acknowledge { label: Label::Applied, revision });
    let mut superseded = coordination.clone();
    superseded.on(Answer::Settled(Settled::NotCurrent)).expect("a release was due");
    assert_eq!(superseded.next(), Step::Finished(verdict), "whatever comes of it");
    assert_eq!(register.settle(revision), Settled::Done);
    assert!(!register.held);
    coordination.on(Answer::Settled(Settled::Done)).expect("a release was due");
    assert_eq!(coordination.next(), Step::Finished(verdict));
}

#[test]
fn a_held_body_that_moves_is_settled_before_the_verdict() {
    let mut register = Register::default();
    admit(&mut register, upsert(10, 10, 0, 1), &rule());
    let mut put = admission(upsert(20, 20, 1, 2));
    put.hold = true;
    let mut coordination = Coordination::new(put);
    admit_step(&mut coordination, &mut register);
    coordination.on(Answer::Written(WriteOutcome::Done)).expect("a write was due");
    coordination.on(Answer::Erased).expect("an erase was due");
    assert!(matches!(coordination.next(), Step::Settle { .. }));
}

#[test]
fn a_superseded_message_waits_for_the_winner() {
    let mut register = Register::default();
    admit(&mut register, upsert(20, 20, 0, 2), &rule());
    let digest = Digest::default();
    let row = |revision| Answer::Row(Some(Row::Live { revision, digest }));
    let revision = register.revision;
    let earlier = Revision(revision.0 - 1);
    for (answer, acknowledged) in
        [(Answer::Row(None), false), (row(earlier), false), (row(revision), true)]
    {
        let mut stale = started(&mut register, upsert(10, 10, 0, 1));
        assert_eq!(stale.next(), Step::CheckRow { zip: numbered(0) });
        stale.on(answer).expect("a look was due");
        let Step::Finished(verdict) = stale.next() else { panic!("it has its verdict") };
        let label = Label::Stale;
        let expected = match acknowledged {
            true => Verdict::Acknowledge { label, revision },
            false => Verdict::Busy,
        };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn a_coordination_is_small() {
    assert!(size_of::<Coordination>() <= 256, "{}", size_of::<Coordination>());
}
