//! Carrying one message through: which step comes next, and what its answer means.
//!
//! A message is admitted to the register of its id, and the register's decision is then carried
//! out at the rows: the target first and awaited, then the erases, then the settling, and only
//! then is the message acknowledged. Where nothing was to be erased, the row alone is what it is
//! acknowledged for; a body that the register holds is let go behind the caller's back.
//! [`Coordination`] is that loop without any I/O, so that the router, the leader's sweeper and the
//! model test run the same code.
//!
//! - The coordinator follows the decision, never the message: an upsert may kill, a delete may
//!   change nothing.
//! - Every step may be repeated, and a coordinator may vanish anywhere: whoever delivers a message
//!   of the id again finishes the work. After an unknown outcome the driver either carries out
//!   [`Coordination::next`] again or drops the message unacknowledged.
//! - Only a revision proves that a row was written. The same digest does not: a row may still hold
//!   the same body from an earlier life, and a slow writer of the life between may yet come.

use crate::op::OpOutcome;
use crate::register::{Admission, Admitted, Decision, Label, Message, Register, Settled};
use crate::row::{Row, WriteOutcome};
use crate::{Digest, Revision, TimeMs, Zip};

/// How often a message is admitted again (after an expired write, or because something newer was
/// decided) before it is left to a later delivery.
pub const READMITS_MAX: u8 = 8;

/// What the driver does next; its result goes to [`Coordination::on`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `Op::Admit` in the shard of the id, with the body if `hold` is set.
    Admit(Admission),
    /// A linearizable read of the row, without its body.
    CheckRow {
        /// Where.
        zip: Zip,
    },
    /// `Op::Write` in the shard of the ZIP. A driver without the body drops the message.
    Write {
        /// Where.
        zip: Zip,
        /// Revision that the register gave.
        revision: Revision,
        /// Content of the message.
        digest: Digest,
    },
    /// `Op::Erase` in the shard of the ZIP.
    Erase {
        /// Where.
        zip: Zip,
        /// Revision that the register gave.
        revision: Revision,
        /// The ZIP it moved to; `None` where it was deleted.
        moved_to: Option<Zip>,
    },
    /// `Op::Settle` in the shard of the id.
    Settle {
        /// Revision that was carried out.
        revision: Revision,
    },
    /// The verdict stands and may be told. What is left is `Op::Settle` in the shard of the id, so
    /// that the register lets go of the body it holds: at any later time, whatever its answer is.
    /// Where nobody does it, the sweeper will.
    Release {
        /// What becomes of the message.
        verdict: Verdict,
        /// Revision that was carried out.
        revision: Revision,
    },
    /// Nothing: the message has its verdict.
    Finished(Verdict),
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Its effect, or that of a newer message, is durable: delete it from the queue.
    Acknowledge {
        /// How to call it towards the user.
        label: Label,
        /// Revision of the decision that stands.
        revision: Revision,
    },
    /// A newer message has not been carried out yet: leave it in the queue for a short while. Does
    /// not count towards quarantine.
    Busy,
    /// Older than what is remembered of unknown ids: quarantine.
    TooOld,
    /// The `If-Match` revision is not the current one. No effect.
    PreconditionFailed {
        /// The current revision.
        revision: Revision,
    },
}

/// Result of a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of `Admit`.
    Admitted(Admitted),
    /// Of `CheckRow`: what stands there.
    Row(Option<Row>),
    /// Of `Write`.
    Written(WriteOutcome),
    /// Of `Erase`.
    Erased,
    /// Of `Settle` and `Release`.
    Settled(Settled),
}

impl Answer {
    /// The answer that an outcome carries; `None` where the outcome answers no step.
    pub fn from_outcome(outcome: OpOutcome) -> Option<Answer> {
        match outcome {
            OpOutcome::Admitted(admitted) => Some(Answer::Admitted(admitted)),
            OpOutcome::Written(written) => Some(Answer::Written(written)),
            OpOutcome::Erased => Some(Answer::Erased),
            OpOutcome::Settled(settled) => Some(Answer::Settled(settled)),
            OpOutcome::Swept { .. }
            | OpOutcome::Noted
            | OpOutcome::WrongShard
            | OpOutcome::QuarantineFull => None,
        }
    }
}

/// The answer does not belong to the step, which is still to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answer does not belong to the step it was given for")]
pub struct UnexpectedAnswer;

/// One delivery of one message on its way to a [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordination {
    admission: Admission,
    /// Of the first admission: later ones find the message known.
    label: Option<Label>,
    readmits: u8,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Admit,
    /// Superseded: acknowledged only once the winner's row is there.
    CheckWinner {
        zip: Zip,
        revision: Revision,
    },
    /// Known before: the row may be there already, and the body need not travel.
    CheckTarget(Work, Target),
    Write(Work, Target),
    Erase(Work),
    Settle(Revision),
    Release(Verdict, Revision),
    Finished(Verdict),
}

/// What follows once nothing is left to write and to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Afterwards {
    /// Nothing.
    Nothing,
    /// The register forgets what was to be erased: before the verdict, since a newer message that
    /// finds nothing to erase is acknowledged for its row alone.
    Settle,
    /// The register lets go of a body. Nobody waits for that.
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Target {
    zip: Zip,
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Work {
    revision: Revision,
    moved_to: Option<Zip>,
    /// What is left to erase, the next one last.
    erase: Vec<Zip>,
    afterwards: Afterwards,
}

impl Work {
    fn new(revision: Revision, moved_to: Option<Zip>, erase: Vec<Zip>, settle: bool) -> Work {
        let afterwards = match (settle, erase.is_empty()) {
            (false, _) => Afterwards::Nothing,
            (true, false) => Afterwards::Settle,
            (true, true) => Afterwards::Release,
        };
        Work { revision, moved_to, erase, afterwards }
    }
}

impl Coordination {
    /// A delivery that has not done anything yet.
    pub fn new(admission: Admission) -> Coordination {
        Coordination { admission, label: None, readmits: 0, stage: Stage::Admit }
    }

    /// What is carried through.
    pub fn message(&self) -> Message {
        self.admission.message
    }

    /// After [`Verdict::Busy`]: starts over at once, where the driver would rather wait than leave
    /// the message in the queue. It keeps its label, and the condition is not asked again.
    pub fn start_over(&mut self) {
        self.readmits = 0;
        self.stage = Stage::Admit;
    }

    /// What the sweeper does for a register that nobody settled; `None` if nothing is left to do.
    /// Where the register holds no body and the row was never written, it comes to a
    /// [`Step::Write`] that cannot be carried out: the id is half written.
    pub fn finishing(register: &Register) -> Option<Coordination> {
        if !register.is_unsettled() {
            return None;
        }
        let message = match (register.alive, register.upsert, register.delete) {
            (true, Some(upsert), _) => Message::Upsert(upsert),
            (false, _, Some(sent)) => Message::Delete { sent },
            (false, Some(upsert), None) => Message::Upsert(upsert),
            (_, None, None) | (true, None, Some(_)) => return None,
        };
        // Should the register be collected meanwhile, this must not found a new one.
        let queued = TimeMs(0);
        let floor = Revision(0);
        Some(Coordination::new(Admission { message, queued, floor, if_match: None, hold: false }))
    }

    /// The step to carry out now; the same one until its answer is given.
    pub fn next(&self) -> Step {
        match &self.stage {
            Stage::Admit => Step::Admit(self.admission),
            Stage::CheckWinner { zip, .. } => Step::CheckRow { zip: *zip },
            Stage::CheckTarget(_, target) => Step::CheckRow { zip: target.zip },
            Stage::Write(work, Target { zip, digest }) => {
                Step::Write { zip: *zip, revision: work.revision, digest: *digest }
            }
            Stage::Erase(Work { revision, moved_to, erase, .. }) => Step::Erase {
                zip: *erase.last().expect("the stage is left with the last erase"),
                revision: *revision,
                moved_to: *moved_to,
            },
            Stage::Settle(revision) => Step::Settle { revision: *revision },
            Stage::Release(verdict, revision) => {
                Step::Release { verdict: *verdict, revision: *revision }
            }
            Stage::Finished(verdict) => Step::Finished(*verdict),
        }
    }

    /// Takes the answer to the current step.
    pub fn on(&mut self, answer: Answer) -> Result<(), UnexpectedAnswer> {
        let stage = std::mem::replace(&mut self.stage, Stage::Admit);
        self.stage = match (stage, answer) {
            (Stage::Admit, Answer::Admitted(admitted)) => self.on_admitted(admitted)?,
            (Stage::CheckWinner { revision, .. }, Answer::Row(row)) => {
                match stands(row, revision) {
                    true => Stage::Finished(self.acknowledge(revision)),
                    false => Stage::Finished(Verdict::Busy),
                }
            }
            (Stage::CheckTarget(work, target), Answer::Row(row)) => {
                match stands(row, work.revision) {
                    true => self.after_target(work),
                    false => Stage::Write(work, target),
                }
            }
            (Stage::Write(work, _), Answer::Written(outcome)) => match outcome {
                // Also what was superseded is erased: whoever superseded it may not know of it.
                WriteOutcome::Done | WriteOutcome::Superseded => self.after_target(work),
                WriteOutcome::Expired { horizon } => {
                    self.admission.floor = self.admission.floor.max(horizon);
                    self.admit_again()
                }
            },
            (Stage::Erase(mut work), Answer::Erased) => {
                work.erase.pop();
                self.after_target(work)
            }
            (Stage::Settle(revision), Answer::Settled(Settled::Done)) => {
                Stage::Finished(self.acknowledge(revision))
            }
            (Stage::Settle(_), Answer::Settled(Settled::NotCurrent)) => self.admit_again(),
            (Stage::Release(verdict, _), Answer::Settled(_)) => Stage::Finished(verdict),
            (stage, _) => {
                self.stage = stage;
                return Err(UnexpectedAnswer);
            }
        };
        Ok(())
    }

    fn on_admitted(&mut self, admitted: Admitted) -> Result<Stage, UnexpectedAnswer> {
        let known = admitted.label != Label::Applied;
        self.label.get_or_insert(admitted.label);
        let stage = match (admitted.decision, self.admission.message) {
            (Decision::TooOld, _) => Stage::Finished(Verdict::TooOld),
            (Decision::Busy, _) => Stage::Finished(Verdict::Busy),
            (Decision::PreconditionFailed { revision }, _) => {
                Stage::Finished(Verdict::PreconditionFailed { revision })
            }
            (Decision::Settled { revision }, _) => Stage::Finished(self.acknowledge(revision)),
            (Decision::CheckRow { zip, revision }, _) => Stage::CheckWinner { zip, revision },
            (Decision::Do { revision, target: None, erase, settle }, _) => {
                self.after_target(Work::new(revision, None, erase, settle))
            }
            (Decision::Do { revision, target: Some(zip), erase, settle }, Message::Upsert(m)) => {
                let target = Target { zip, digest: m.version.digest };
                let work = Work::new(revision, Some(zip), erase, settle);
                match known {
                    true => Stage::CheckTarget(work, target),
                    false => Stage::Write(work, target),
                }
            }
            // A delete never makes a listing live: its deliverer has no body to write.
            (Decision::Do { target: Some(_), .. }, Message::Delete { .. }) => {
                return Err(UnexpectedAnswer);
            }
        };
        // It is in the register now: neither the condition nor the body are asked for again.
        self.admission.if_match = None;
        self.admission.hold = false;
        Ok(stage)
    }

    fn after_target(&self, work: Work) -> Stage {
        let revision = work.revision;
        match (work.erase.is_empty(), work.afterwards) {
            (false, _) => Stage::Erase(work),
            (true, Afterwards::Settle) => Stage::Settle(revision),
            (true, Afterwards::Release) => Stage::Release(self.acknowledge(revision), revision),
            (true, Afterwards::Nothing) => Stage::Finished(self.acknowledge(revision)),
        }
    }

    fn admit_again(&mut self) -> Stage {
        if self.readmits == READMITS_MAX {
            return Stage::Finished(Verdict::Busy);
        }
        self.readmits += 1;
        Stage::Admit
    }

    fn acknowledge(&self, revision: Revision) -> Verdict {
        let label = self.label.expect("a message is admitted before it is acknowledged");
        Verdict::Acknowledge { label, revision }
    }
}

/// Whether the row at a decision's target proves that the decision was carried out: what stands
/// at its revision was written by it, and what stands above it replaced it.
fn stands(row: Option<Row>, revision: Revision) -> bool {
    row.is_some_and(|row| row.revision() >= revision)
}
