//! The register: what is decided about one id.
//!
//! The feed is unordered and at-least-once, and a delete carries nothing but an id, so a register
//! keeps two maxima: the greatest upsert by `(modified, sent, digest)` and the greatest delete by
//! `sent`. Both are joins, so any order, any duplication and any interleaving of the same messages
//! gives the same state. The rule is pure: it knows neither clock nor disk, everything it needs is
//! in its arguments, and all replicas compute the same answer.
//!
//! In `sequenced` ordering the edge puts the operator's sequence into both `modified` and `sent`
//! and the skew is zero: the same rule then orders by the sequence alone and has no suspects.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use crate::{Digest, Revision, TimeMs, Zip};

/// Order of an upsert among upserts: the operator's clock, then the queue's, then the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Version {
    /// The operator's clock, from the payload.
    pub modified: TimeMs,
    /// The queue's clock.
    pub sent: TimeMs,
    /// Over ZIP, raw modified and minified body.
    pub digest: Digest,
}

/// The greatest upsert seen, and where it wants to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Upsert {
    /// Its order.
    pub version: Version,
    /// Its ZIP.
    pub zip: Zip,
}

/// One message about one id, without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Message {
    /// Create or update; `version.modified` is raw, the register clamps it.
    Upsert(Upsert),
    /// Delete, by the queue's clock.
    Delete {
        /// When the queue took the message.
        sent: TimeMs,
    },
}

impl Message {
    /// The queue's clock of either kind.
    pub fn sent(&self) -> TimeMs {
        match self {
            Message::Upsert(upsert) => upsert.version.sent,
            Message::Delete { sent } => *sent,
        }
    }
}

/// One delivery of a message, as its deliverer asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Admission {
    /// What the operator said.
    pub message: Message,
    /// When the queue took it, in milliseconds also where the order is a sequence.
    pub queued: TimeMs,
    /// The horizon that an expired write met; zero at first.
    pub floor: Revision,
    /// The revision that the caller wants to replace.
    pub if_match: Option<Revision>,
    /// The caller cannot promise to send again, so the body stays here until it is settled.
    pub hold: bool,
}

/// Whether an upsert newer than a delete on the queue's clock alone brings a listing back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Recreate {
    /// Both clocks must say so (a re-publication moves `modified`).
    #[default]
    BothClocks,
    /// The queue's clock is enough; the id is still listed as a suspect.
    QueueTime,
}

/// What the proposer stamped into the command, and what the shard knows.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The proposer's clock.
    pub clock: TimeMs,
    /// Largest credible distance between the two clocks.
    pub skew_ms: u64,
    /// Rule for coming back after a delete.
    pub recreate: Recreate,
    /// Greatest revision of any register that was collected: unknown ids start above it.
    pub shard_floor: Revision,
    /// Messages for unknown ids queued before this are [`Decision::TooOld`].
    pub register_horizon: TimeMs,
}

/// The state of one id. `Default` is the id that was never heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Register {
    /// Greatest upsert.
    pub upsert: Option<Upsert>,
    /// Greatest delete.
    pub delete: Option<TimeMs>,
    /// Derived from the two by the rule, kept because settings may change.
    pub alive: bool,
    /// The home: the ZIP of the greatest upsert when it was last alive.
    pub zip: Option<Zip>,
    /// Revision of the last decision.
    pub revision: Revision,
    /// Revision of the last death; rows at or below it are not to be read.
    pub died: Revision,
    /// ZIPs that may still hold a row and must be erased.
    pub old: BTreeSet<Zip>,
    /// The revision that the last conditional delete consumed, so that its retry is recognised.
    pub matched: Revision,
    /// A body is held with the register until it is settled.
    pub held: bool,
}

/// How an answer is called towards the user; the caller acts on the [`Decision`], never on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Label {
    /// The message moved the register.
    Applied,
    /// Same body, newer `sent`: no new revision, no change.
    Unchanged,
    /// Seen before.
    Duplicate,
    /// Something newer is known.
    Stale,
    /// Recorded, but the two clocks disagree about it: to be looked at.
    Suspect,
}

/// What is to be done now, by whoever delivered the message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Decision {
    /// The id is unknown and the message older than what is remembered: quarantine.
    TooOld,
    /// Nothing is left to do: acknowledge.
    Settled {
        /// Revision of the last decision.
        revision: Revision,
    },
    /// A newer message has not written its rows yet: do not acknowledge.
    Busy,
    /// Superseded: acknowledge only if the row has at least this revision.
    CheckRow {
        /// Home of the winner.
        zip: Zip,
        /// Revision of the winner.
        revision: Revision,
    },
    /// Write the target (if any) and then erase the others, all at `revision`.
    Do {
        /// Revision for all these steps.
        revision: Revision,
        /// Where the listing is to live; `None` when it is dead.
        target: Option<Zip>,
        /// Where it must be erased.
        erase: Vec<Zip>,
        /// Whether `Settle` must follow (something is erased, or a body is held).
        settle: bool,
    },
    /// The `If-Match` revision is not the current one.
    PreconditionFailed {
        /// The current revision.
        revision: Revision,
    },
}

/// A decision with its label and whether the id is to be listed as a suspect.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Admitted {
    /// What to do.
    pub decision: Decision,
    /// How to call it.
    pub label: Label,
    /// Why the id is to be looked at.
    pub suspect: Option<Suspicion>,
}

/// Why an id is on the suspects list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Suspicion {
    /// Newer than the delete for the queue, older for the operator.
    ModifiedBeforeDelete,
    /// `modified` lay more than the skew ahead of `sent` and was clamped.
    ModifiedAhead,
    /// Decided, but its rows were never written and nobody holds the body.
    HalfWritten,
    /// Newer than the delete for the queue, and yet the listing is dead: an update that is newer
    /// for the operator, but older than the delete for the queue, stands in its place.
    Outranked,
}

impl Register {
    /// Joins one message into the register and decides what is to be done. Changes nothing where
    /// it answers [`Decision::TooOld`] or [`Decision::PreconditionFailed`].
    pub fn admit(&mut self, admission: Admission, context: &Context) -> Admitted {
        if self.is_unknown() && admission.queued < context.register_horizon {
            return Admitted::plain(Decision::TooOld, Label::Stale);
        }
        let (mut message, clamped) = clamp(admission.message, context.skew_ms);
        let mut is_repeat = false;
        if let Some(expected) = admission.if_match {
            is_repeat = self.is_repeat_of(&message, expected);
            let revision = self.revision;
            if !is_repeat && (!self.alive || revision != expected) {
                let decision = Decision::PreconditionFailed { revision };
                return Admitted::plain(decision, Label::Stale);
            }
            if !is_repeat {
                message = self.raise(message, expected, context.skew_ms);
            }
        }
        if self.is_unknown() {
            self.revision = context.shard_floor;
        }
        let joined = self.join(message, context);
        let label = match is_repeat {
            // Its clocks were raised, so by them alone it would look older than itself.
            true => Label::Duplicate,
            false => self.label(&message, &joined),
        };
        let suspect = match clamped && label != Label::Duplicate {
            true => Some(Suspicion::ModifiedAhead),
            false => self.suspicion(&message, &joined, context.skew_ms),
        };
        let decision = self.decide(message, joined, context, &admission);
        Admitted { decision, label, suspect }
    }

    /// Forgets what had to be erased, if nothing was decided since `revision`.
    pub fn settle(&mut self, revision: Revision) -> Settled {
        if self.revision != revision {
            return Settled::NotCurrent;
        }
        self.old.clear();
        self.held = false;
        Settled::Done
    }

    /// Whether nothing was ever heard of the id.
    pub fn is_unknown(&self) -> bool {
        self.upsert.is_none() && self.delete.is_none()
    }

    /// Whether somebody must still write, erase or settle.
    pub fn is_unsettled(&self) -> bool {
        self.held || !self.old.is_empty()
    }

    fn decide(
        &mut self,
        message: Message,
        joined: Joined,
        context: &Context,
        admission: &Admission,
    ) -> Decision {
        let Admission { floor, hold, .. } = *admission;
        let fresh = self.revision.next().max(Revision::at(context.clock)).max(floor);
        if joined.changed {
            self.revision = fresh.max(context.shard_floor);
            if let (true, Some(zip)) = (self.alive, self.zip) {
                self.old.insert(zip);
            }
            match joined.upsert {
                Some(upsert) if joined.alive => self.zip = Some(upsert.zip),
                _ => self.died = self.revision,
            }
            // A body held for an older decision is of no use any more.
            self.held = false;
        }
        self.upsert = joined.upsert;
        self.delete = joined.delete;
        self.alive = joined.alive;
        if let (true, Some(zip)) = (self.alive, self.zip) {
            self.old.remove(&zip);
        }
        let mine = self.alive && is_body_of(&message, self.upsert);
        if mine || (!self.alive && !self.old.is_empty()) {
            if !joined.changed && self.revision < floor {
                self.revision = fresh;
            }
            self.held |= mine && hold && joined.changed;
            return Decision::Do {
                revision: self.revision,
                target: if self.alive { self.zip } else { None },
                erase: self.old.iter().copied().collect(),
                settle: self.is_unsettled(),
            };
        }
        let revision = self.revision;
        match (self.alive, self.zip) {
            (true, Some(zip)) if self.old.is_empty() => Decision::CheckRow { zip, revision },
            (true, Some(_) | None) => Decision::Busy,
            (false, _) => Decision::Settled { revision },
        }
    }

    fn join(&self, message: Message, context: &Context) -> Joined {
        let (upsert, delete) = match message {
            Message::Upsert(m) => match self.upsert {
                Some(u) if u.version >= m.version => (Some(u), self.delete),
                _ => (Some(m), self.delete),
            },
            Message::Delete { sent } => (self.upsert, self.delete.max(Some(sent))),
        };
        // It comes to life only by the message that brings the body, also where a setting changed.
        let alive =
            is_alive(upsert, delete, context) && (self.alive || is_body_of(&message, upsert));
        let same_body = upsert.map(|u| u.version.digest) == self.upsert.map(|u| u.version.digest);
        let changed = alive != self.alive || (alive && !same_body);
        Joined { upsert, delete, alive, changed }
    }

    fn label(&self, message: &Message, joined: &Joined) -> Label {
        match message {
            Message::Delete { sent } => match self.delete {
                Some(known) if known == *sent => Label::Duplicate,
                Some(known) if known > *sent => Label::Stale,
                _ if joined.alive => Label::Stale,
                _ => Label::Applied,
            },
            Message::Upsert(m) => {
                let known = self.upsert.map(|u| u.version);
                let same = known.is_some_and(|v| v.digest == m.version.digest);
                let won = joined.upsert.map(|u| u.version) == Some(m.version);
                let outlives = Some(m.version.sent) > joined.delete;
                match (same, won) {
                    (true, _) if known == Some(m.version) => Label::Duplicate,
                    (true, false) => Label::Duplicate,
                    (true, true) if self.alive && joined.alive => Label::Unchanged,
                    (_, true) if joined.alive => Label::Applied,
                    (false, false) if joined.alive => Label::Stale,
                    // Newer than the delete, or in the place of one that was: by one clock only.
                    (_, won) if outlives || (won && self.alive) => Label::Suspect,
                    (_, true) | (false, false) => Label::Stale,
                }
            }
        }
    }

    /// Whether the id is to be looked at now. Where the state that is reached disagrees with
    /// itself, it is found by whichever message reaches it, so in any order of the feed.
    fn suspicion(&self, message: &Message, joined: &Joined, skew_ms: u64) -> Option<Suspicion> {
        let deleted = joined.delete?;
        let upsert = joined.upsert?.version;
        if self.upsert == joined.upsert && self.delete == joined.delete {
            let late = match message {
                Message::Upsert(m) => m.version != upsert && m.version.sent > deleted,
                Message::Delete { .. } => false,
            };
            return (late && !joined.alive).then_some(Suspicion::Outranked);
        }
        if upsert.sent > deleted && upsert.modified.0 < deleted.0.saturating_sub(skew_ms) {
            return Some(Suspicion::ModifiedBeforeDelete);
        }
        let killed_by_upsert = self.alive && !joined.alive && self.delete == joined.delete;
        killed_by_upsert.then_some(Suspicion::Outranked)
    }

    /// Whether a conditional message was already taken: then `If-Match` is not asked again.
    fn is_repeat_of(&self, message: &Message, expected: Revision) -> bool {
        match message {
            Message::Upsert(_) => self.alive && is_body_of(message, self.upsert),
            Message::Delete { sent } => {
                let consumed = self.matched == expected && expected != Revision(0);
                self.delete == Some(*sent) || (!self.alive && consumed)
            }
        }
    }

    /// A conditional message that holds is newer than all it replaces, on both clocks.
    fn raise(&mut self, message: Message, expected: Revision, skew_ms: u64) -> Message {
        let upsert = self.upsert.map(|u| u.version);
        let above = |t: Option<TimeMs>| TimeMs(t.map_or(0, |t| t.0.saturating_add(1)));
        let sent = message.sent().max(above(upsert.map(|v| v.sent))).max(above(self.delete));
        match message {
            Message::Delete { .. } => {
                self.matched = expected;
                Message::Delete { sent }
            }
            Message::Upsert(mut m) => {
                let replaced = upsert.map_or(TimeMs(0), |v| v.modified);
                let credible = TimeMs(self.delete.map_or(0, |d| d.0.saturating_sub(skew_ms)));
                m.version.modified = m.version.modified.max(replaced).max(credible);
                m.version.sent = sent;
                Message::Upsert(m)
            }
        }
    }
}

/// What joining gave, before anything is stored.
struct Joined {
    upsert: Option<Upsert>,
    delete: Option<TimeMs>,
    alive: bool,
    changed: bool,
}

/// Whether the message carries the body that `upsert` stands for: it, or a copy with another
/// `sent`. The digest covers ZIP, `modified` and body, so either may write the row.
fn is_body_of(message: &Message, upsert: Option<Upsert>) -> bool {
    match message {
        Message::Upsert(m) => upsert.is_some_and(|u| u.version.digest == m.version.digest),
        Message::Delete { .. } => false,
    }
}

impl Admitted {
    fn plain(decision: Decision, label: Label) -> Admitted {
        Admitted { decision, label, suspect: None }
    }
}

/// Whether the greatest upsert stands against the greatest delete. On a tie the delete wins.
pub fn is_alive(upsert: Option<Upsert>, delete: Option<TimeMs>, context: &Context) -> bool {
    let Some(u) = upsert else { return false };
    let Some(d) = delete else { return true };
    let by_operator = u.version.modified.0 >= d.0.saturating_sub(context.skew_ms);
    u.version.sent > d && (by_operator || context.recreate == Recreate::QueueTime)
}

fn clamp(message: Message, skew_ms: u64) -> (Message, bool) {
    let Message::Upsert(mut m) = message else { return (message, false) };
    let limit = TimeMs(m.version.sent.0.saturating_add(skew_ms));
    let clamped = m.version.modified > limit;
    m.version.modified = m.version.modified.min(limit);
    (Message::Upsert(m), clamped)
}

/// Answer to `Settle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Settled {
    /// Nothing is left to erase.
    Done,
    /// Something newer was decided: admit again.
    NotCurrent,
}
