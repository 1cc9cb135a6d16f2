//! One message on its way to its verdict. No I/O: what to ask next, and what an answer or a
//! failure means for the message as a whole.
//!
//! Invariant: once a step may have had an effect, the message ends with its verdict or as unknown,
//! never as refused. A message that is busy was recorded, and its row may have been seen.

use platbook_protocol::coordination::{Answer, Coordination, Step, Verdict};
use platbook_protocol::listing::{Prepared, PreparedBody};
use platbook_protocol::op::{Op, OpOutcome};
use platbook_protocol::register::{Admission, Label, Message};
use platbook_protocol::rpc::RowView;
use platbook_protocol::{ListingId, Revision, ShardId, Slot, Zip};

use crate::error::Failure;

/// How often a message that meets a half-finished newer one is tried again, where the caller sends
/// it again anyway.
const BUSY_TRIES_MAX: u8 = 8;

/// One message to be carried through.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The message.
    pub(crate) prepared: Prepared,
    /// The revision that the caller wants to replace.
    pub(crate) if_match: Option<Revision>,
    /// The caller cannot promise to send again.
    pub(crate) hold: bool,
}

/// How a message ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The rules decided.
    Verdict(Verdict),
    /// It was not carried through; what may be concluded holds for the whole message.
    Failed(Failure),
}

/// What to ask next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An operation, see [`Flight::op`], in the shard of this slot.
    Op(Slot),
    /// A linearizable read of the row.
    Row(Zip),
    /// Nothing.
    Nothing,
}

/// What to do with a message after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Ask the next step.
    Go,
    /// Ask again after a pause.
    Pause,
    /// It has its ending.
    Stop,
}

/// A message under way.
pub(crate) struct Flight {
    id: ListingId,
    body: Option<PreparedBody>,
    coordination: Coordination,
    /// A step may have had an effect.
    touched: bool,
    /// The caller will send it again: it need not be waited for here.
    is_resent: bool,
    busy_tries: u8,
    /// The last answer was "busy".
    is_busy: bool,
    /// Why it pauses.
    trouble: Option<Failure>,
    ending: Option<Ending>,
    /// It has its ending, and the register still holds its body.
    owes_release: Option<Revision>,
}

impl Flight {
    /// A message of which nothing was asked yet.
    pub(crate) fn new(delivery: Delivery) -> Flight {
        let Delivery { prepared, if_match, hold } = delivery;
        let Prepared { id, message, queued, body } = prepared;
        let admission = Admission { message, queued, floor: Revision(0), if_match, hold };
        Flight {
            id,
            body,
            coordination: Coordination::new(admission),
            touched: false,
            is_resent: !hold,
            busy_tries: 0,
            is_busy: false,
            trouble: None,
            ending: None,
            owes_release: None,
        }
    }

    /// The listing.
    pub(crate) fn id(&self) -> &ListingId {
        &self.id
    }

    /// What to ask next.
    pub(crate) fn ask(&self) -> Ask {
        if self.ending.is_some() {
            return Ask::Nothing;
        }
        match self.coordination.next() {
            Step::Admit(_) | Step::Settle { .. } => Ask::Op(Slot::of_id(self.id.as_str())),
            Step::Write { zip, .. } | Step::Erase { zip, .. } => Ask::Op(Slot::of_zip(&zip)),
            Step::CheckRow { zip } => Ask::Row(zip),
            Step::Release { .. } | Step::Finished(_) => Ask::Nothing,
        }
    }

    /// The ZIP in which it stands now, if its message put it there.
    pub(crate) fn home(&self) -> Option<Zip> {
        match (&self.ending, self.coordination.message()) {
            (
                Some(Ending::Verdict(Verdict::Acknowledge { label: Label::Applied, .. })),
                Message::Upsert(upsert),
            ) => Some(upsert.zip),
            _ => None,
        }
    }

    /// Gives, once, what is left to do after its ending, and which shard's slot that is for.
    pub(crate) fn take_release(&mut self) -> Option<(Slot, Op<'_>)> {
        let revision = self.owes_release.take()?;
        let id = self.id.as_str();
        Some((Slot::of_id(id), Op::Settle { id, revision }))
    }

    /// The operation to ask; `None` where [`Flight::ask`] asks for none.
    pub(crate) fn op(&self) -> Option<Op<'_>> {
        let id = self.id.as_str();
        let body = self.body.as_ref().map(PreparedBody::as_body);
        match self.coordination.next() {
            Step::Admit(admission) => {
                Some(Op::Admit { id, admission, body: body.filter(|_| admission.hold) })
            }
            Step::Write { zip, revision, digest } => {
                body.map(|body| Op::Write { id, zip, revision, digest, body })
            }
            Step::Erase { zip, revision, moved_to } => {
                Some(Op::Erase { id, zip, revision, moved_to })
            }
            Step::Settle { revision } => Some(Op::Settle { id, revision }),
            Step::CheckRow { .. } | Step::Release { .. } | Step::Finished(_) => None,
        }
    }

    /// Takes the answer to an operation of `shard`.
    pub(crate) fn on_op(&mut self, shard: ShardId, result: Result<OpOutcome, Failure>) -> Then {
        match result {
            Ok(OpOutcome::WrongShard) => {
                let reason = "the slot moved to another shard".into();
                self.pause(Failure::Unavailable { shard, reason })
            }
            Ok(outcome) => match Answer::from_outcome(outcome) {
                Some(answer) => self.on_answer(shard, answer),
                None => self.fail(unexpected(shard)),
            },
            Err(failure) => self.on_failure(failure),
        }
    }

    /// Takes the answer to a read of a row of `shard`.
    pub(crate) fn on_row(
        &mut self,
        shard: ShardId,
        result: Result<Option<RowView>, Failure>,
    ) -> Then {
        match result {
            Ok(view) => self.on_answer(shard, Answer::Row(view.map(|view| view.row))),
            Err(failure) => self.on_failure(failure),
        }
    }

    /// The shard of the next step is not known yet.
    pub(crate) fn on_no_shard(&mut self) -> Then {
        let reason = "no shard owns the slot".into();
        self.pause(Failure::Unavailable { shard: ShardId::SYSTEM, reason })
    }

    /// A write was decided for a message that has no body.
    pub(crate) fn on_no_body(&mut self) -> Then {
        self.fail(unexpected(ShardId::SYSTEM))
    }

    /// Ends it because no time is left.
    pub(crate) fn give_up(&mut self) {
        if self.is_busy && self.is_resent {
            // An answer of its own: it was recorded, and whoever brings the newer one finishes.
            self.ending = Some(Ending::Verdict(Verdict::Busy));
            return;
        }
        let late = || Failure::Unavailable {
            shard: ShardId::SYSTEM,
            reason: "the deadline passed".into(),
        };
        let failure = self.trouble.take().unwrap_or_else(late);
        self.fail(failure);
    }

    /// How it ended.
    pub(crate) fn into_ending(mut self) -> Ending {
        if self.ending.is_none() {
            self.give_up();
        }
        self.ending.expect("giving up is an ending")
    }

    fn on_answer(&mut self, shard: ShardId, answer: Answer) -> Then {
        if self.coordination.on(answer).is_err() {
            return self.fail(unexpected(shard));
        }
        self.trouble = None;
        self.is_busy = false;
        let verdict = match self.coordination.next() {
            Step::Finished(verdict) => verdict,
            Step::Release { verdict, revision } => {
                self.owes_release = Some(revision);
                verdict
            }
            Step::Admit(_)
            | Step::CheckRow { .. }
            | Step::Write { .. }
            | Step::Erase { .. }
            | Step::Settle { .. } => {
                self.touched = true;
                return Then::Go;
            }
        };
        match verdict {
            Verdict::Busy if !self.is_resent || self.busy_tries < BUSY_TRIES_MAX => {
                // Whoever brings the newer message is at work: usually this very request.
                self.touched = true;
                self.busy_tries = self.busy_tries.saturating_add(1);
                self.is_busy = true;
                self.coordination.start_over();
                let reason = "a newer write of the listing is half done".into();
                self.pause(Failure::Unknown { shard, reason })
            }
            Verdict::Busy
            | Verdict::Acknowledge { .. }
            | Verdict::TooOld
            | Verdict::PreconditionFailed { .. } => {
                self.ending = Some(Ending::Verdict(verdict));
                Then::Stop
            }
        }
    }

    fn on_failure(&mut self, failure: Failure) -> Then {
        match failure {
            // What was begun is worth waiting for; what was not is sent again by the client.
            Failure::Overloaded { .. } if self.touched => self.pause(failure),
            Failure::Overloaded { .. }
            | Failure::DiskFull { .. }
            | Failure::Unavailable { .. }
            | Failure::Unknown { .. }
            | Failure::Refused { .. } => self.fail(failure),
        }
    }

    fn pause(&mut self, trouble: Failure) -> Then {
        self.trouble = Some(trouble);
        Then::Pause
    }

    fn fail(&mut self, failure: Failure) -> Then {
        let failure = match failure {
            Failure::Overloaded { shard, .. }
            | Failure::DiskFull { shard }
            | Failure::Unavailable { shard, .. }
            | Failure::Refused { shard, .. }
                if self.touched =>
            {
                Failure::Unknown { shard, reason: failure.to_string().into() }
            }
            failure => failure,
        };
        self.ending = Some(Ending::Failed(failure));
        Then::Stop
    }
}

fn unexpected(shard: ShardId) -> Failure {
    Failure::Refused { shard, reason: "the answer does not belong to the step".into() }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::register::{Admitted, Decision};
    use platbook_protocol::row::WriteOutcome;
    use platbook_protocol::{TimeMs, Zip};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn flight() -> Flight {
        flight_of(true)
    }

    fn flight_of(hold: bool) -> Flight {
        let id = ListingId::try_new("a").unwrap();
        let message = Message::Delete { sent: TimeMs(5) };
        let prepared = Prepared { id, message, queued: TimeMs(5), body: None };
        Flight::new(Delivery { prepared, if_match: Some(Revision(4)), hold })
    }

    fn admitted(decision: Decision) -> Result<OpOutcome, Failure> {
        Ok(OpOutcome::Admitted(Admitted { decision, label: Label::Applied, suspect: None }))
    }

    fn erase_two() -> Decision {
        let zips = [Zip::Unknown, Zip::normalise(Some("94110"))];
        Decision::Do { revision: Revision(9), target: None, erase: zips.to_vec(), settle: true }
    }

    #[test]
    fn before_anything_happened_a_failure_keeps_its_name() {
        for failure in [
            Failure::DiskFull { shard: SHARD },
            Failure::Unavailable { shard: SHARD, reason: "x".into() },
            Failure::Overloaded { shard: SHARD, retry_after_ms: 1 },
        ] {
            let mut flight = flight();
            assert_eq!(flight.on_op(SHARD, Err(failure.clone())), Then::Stop);
            assert_eq!(flight.into_ending(), Ending::Failed(failure));
        }
    }

    #[test]
    fn after_the_admission_every_failure_is_unknown() {
        for failure in [
            Failure::DiskFull { shard: SHARD },
            Failure::Unavailable { shard: SHARD, reason: "x".into() },
            Failure::Unknown { shard: SHARD, reason: "x".into() },
        ] {
            let mut flight = flight();
            assert_eq!(flight.on_op(SHARD, admitted(erase_two())), Then::Go);
            assert_eq!(flight.on_op(SHARD, Err(failure)), Then::Stop);
            let ending = flight.into_ending();
            assert!(matches!(ending, Ending::Failed(f) if f.is_unknown()));
        }
    }

    #[test]
    fn overload_in_the_middle_is_waited_for_and_ends_as_unknown() {
        let mut flight = flight();
        flight.on_op(SHARD, admitted(erase_two()));
        let failure = Failure::Overloaded { shard: SHARD, retry_after_ms: 1 };
        assert_eq!(flight.on_op(SHARD, Err(failure)), Then::Pause);
        assert!(matches!(flight.ask(), Ask::Op(_)), "the same step again");
        flight.give_up();
        assert!(matches!(flight.into_ending(), Ending::Failed(f) if f.is_unknown()));
    }

    #[test]
    fn busy_is_tried_again_and_then_reported_as_busy() {
        let mut flight = flight_of(false);
        for _ in 0..BUSY_TRIES_MAX {
            assert_eq!(flight.on_op(SHARD, admitted(Decision::Busy)), Then::Pause);
        }
        assert_eq!(flight.on_op(SHARD, admitted(Decision::Busy)), Then::Stop);
        assert_eq!(flight.into_ending(), Ending::Verdict(Verdict::Busy));
    }

    /// A write that was applied and then met a half-finished newer one was told as stale, although
    /// readers had seen it; with `If-Match` it was even refused.
    #[test]
    fn what_was_applied_before_it_was_busy_is_told_as_applied_and_asks_for_no_revision_again() {
        let mut flight = flight();
        flight.on_op(SHARD, admitted(Decision::Busy));
        let Some(Op::Admit { admission, .. }) = flight.op() else { panic!("it is admitted again") };
        assert_eq!(admission.if_match, None);
        let decision = Decision::Settled { revision: Revision(12) };
        let again = Admitted { decision, label: Label::Stale, suspect: None };
        assert_eq!(flight.on_op(SHARD, Ok(OpOutcome::Admitted(again))), Then::Stop);
        let verdict = Verdict::Acknowledge { label: Label::Applied, revision: Revision(12) };
        assert_eq!(flight.into_ending(), Ending::Verdict(verdict));
    }

    #[test]
    fn a_write_is_told_once_its_row_is_there_and_its_body_is_let_go_of_behind_it() {
        use platbook_protocol::Digest;
        use platbook_protocol::register::{Upsert, Version};
        let id = ListingId::try_new("a").unwrap();
        let (time, digest, zip) = (TimeMs(5), Digest::default(), Zip::Unknown);
        let version = Version { modified: time, sent: time, digest };
        let message = Message::Upsert(Upsert { version, zip });
        let prepared = Prepared { id, message, queued: time, body: None };
        let mut flight = Flight::new(Delivery { prepared, if_match: None, hold: true });
        let (revision, target) = (Revision(9), Some(zip));
        let decision = Decision::Do { revision, target, erase: Vec::new(), settle: true };
        assert_eq!(flight.on_op(SHARD, admitted(decision)), Then::Go);
        assert_eq!(flight.take_release(), None);
        let written = Ok(OpOutcome::Written(WriteOutcome::Done));
        assert_eq!(flight.on_op(SHARD, written), Then::Stop);
        assert_eq!(flight.ask(), Ask::Nothing);
        let release = (Slot::of_id("a"), Op::Settle { id: "a", revision });
        assert_eq!(flight.take_release(), Some(release));
        assert_eq!(flight.take_release(), None, "once");
        let verdict = Verdict::Acknowledge { label: Label::Applied, revision };
        assert_eq!(flight.into_ending(), Ending::Verdict(verdict));
    }

    #[test]
    fn a_deadline_while_busy_is_busy() {
        let mut flight = flight_of(false);
        flight.on_op(SHARD, admitted(Decision::Busy));
        assert_eq!(flight.into_ending(), Ending::Verdict(Verdict::Busy));
    }

    /// It was answered with 503 after eight tries, although its row had been there to be read.
    #[test]
    fn what_nobody_sends_again_waits_for_the_newer_one_and_is_never_refused_as_busy() {
        let mut flight = flight();
        for _ in 0..1_000 {
            assert_eq!(flight.on_op(SHARD, admitted(Decision::Busy)), Then::Pause);
        }
        flight.give_up();
        assert!(matches!(flight.into_ending(), Ending::Failed(f) if f.is_unknown()));
    }

    #[test]
    fn an_answer_of_another_step_is_no_refusal_once_something_happened() {
        let mut flight = flight();
        flight.on_op(SHARD, admitted(erase_two()));
        let odd = Ok(OpOutcome::Written(WriteOutcome::Done));
        assert_eq!(flight.on_op(SHARD, odd), Then::Stop);
        assert!(matches!(flight.into_ending(), Ending::Failed(f) if f.is_unknown()));
    }
}
