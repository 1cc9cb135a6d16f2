//! Applying log entries: decode, decide by the pure rules, write one batch.
//!
//! Everything here must come out the same on every replica: it looks at the entries, the stored
//! state and the stamp, and at nothing else. Where batches of entries are cut makes no difference.

mod list;
mod overlay;
mod register;
mod row;
mod sweep;
mod system;

pub use list::{QUARANTINE_BYTES_MAX, QUARANTINE_COUNT_MAX};
use platbook_protocol::op::{Op, OpOutcome, Stamp};
use platbook_protocol::planted::Bug;
use platbook_protocol::{ShardId, Slot, SlotRange};

use self::overlay::Overlay;
use super::db::Batch;
use super::key::Key;
use super::shard::Inner;
use super::value::effects::{Change, Effects};
use super::value::state::{Membership, State};
use super::{Applied, Entry, EntryBody, Position};
use crate::command::{self, Command, CommandError};
use crate::error::StoreError;

/// Entries being applied; nothing is visible before the batch is written.
pub(super) struct Applying<'a> {
    shard: ShardId,
    slots: Option<SlotRange>,
    overlay: Overlay<'a>,
    before: State,
    state: State,
    membership: Option<Membership>,
    operations: u64,
}

/// The result: a batch, and the state behind it.
pub(super) struct Outcome {
    pub(super) batch: Batch,
    pub(super) state: State,
    /// The membership, where one of the entries set it.
    pub(super) membership: Option<Membership>,
    pub(super) operations: u64,
}

/// One entry's operations while they are applied.
struct Scope {
    stamp: Stamp,
    ordinal: u32,
    changes: Vec<Change>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(shard: &'a Inner, state: State) -> Applying<'a> {
        Applying {
            shard: shard.shard,
            slots: shard.slots,
            overlay: Overlay::new(shard.db()),
            before: state,
            state,
            membership: None,
            operations: 0,
        }
    }

    /// Applies the next entry.
    pub(super) fn entry(&mut self, entry: &'a Entry) -> Result<Applied, StoreError> {
        self.check_order(entry.position)?;
        let index = entry.position.index;
        let applied = match &entry.body {
            EntryBody::Blank => Applied::Blank,
            EntryBody::Membership(bytes) => {
                let position = Some(entry.position);
                self.membership = Some(Membership { position, bytes: bytes.clone() });
                Applied::Blank
            }
            EntryBody::Command(payload) => {
                match command::decode(payload).map_err(|e| self.bad_entry(index, e))? {
                    Command::Ops { stamp, ops } => {
                        let mut scope = Scope { stamp, ordinal: 0, changes: Vec::new() };
                        let mut outcomes = Vec::new();
                        for op in ops {
                            let ordinal = scope.ordinal;
                            let op = op
                                .map_err(|source| CommandError::Codec { ordinal, source })
                                .and_then(|op| command::check_op(ordinal, &op).map(|()| op))
                                .map_err(|e| self.bad_entry(index, e))?;
                            outcomes.push(self.op(&mut scope, op)?);
                            scope.ordinal += 1;
                        }
                        self.record(index, scope);
                        Applied::Ops(outcomes)
                    }
                    Command::System(command) => Applied::System(self.system(command)?),
                }
            }
        };
        self.state.position = Some(entry.position);
        Ok(applied)
    }

    /// Ends the batch.
    pub(super) fn finish(mut self) -> Outcome {
        let written = if Bug::AppliedApart.is_planted() { self.before } else { self.state };
        self.overlay.put(&Key::State(self.shard), written.encode());
        if let Some(membership) = &self.membership {
            self.overlay.put(&Key::Membership(self.shard), membership.encode());
        }
        Outcome {
            batch: self.overlay.into_batch(),
            state: self.state,
            membership: self.membership,
            operations: self.operations,
        }
    }

    fn op(&mut self, scope: &mut Scope, op: Op<'a>) -> Result<OpOutcome, StoreError> {
        self.operations += 1;
        if op_slot(&op).is_some_and(|slot| !self.owns(slot)) {
            return Ok(OpOutcome::WrongShard);
        }
        match op {
            Op::Admit { id, admission, body } => self.admit(&scope.stamp, id, admission, body),
            Op::Write { id, zip, revision, digest, body } => {
                self.write(scope, row::Place { zip, id }, revision, digest, body)
            }
            Op::Erase { id, zip, revision, moved_to } => {
                self.erase(scope, row::Place { zip, id }, revision, moved_to)
            }
            Op::Settle { id, revision } => self.settle(&scope.stamp, id, revision),
            Op::Sweep { collect_max } => self.sweep(&scope.stamp, collect_max),
            Op::Quarantine { message_id, record } => self.quarantine(scope, message_id, record),
            Op::Unquarantine { message_id } => self.unquarantine(message_id),
            Op::ClearSuspect { id } => {
                self.overlay.delete(&Key::Suspect(id));
                Ok(OpOutcome::Noted)
            }
        }
    }

    /// Keeps what the entry changed, under its index: change readers find the bodies in the log.
    fn record(&mut self, index: u64, scope: Scope) {
        if !scope.changes.is_empty() {
            let effects = Effects { clock: scope.stamp.clock, changes: scope.changes };
            self.overlay.put(&Key::Effects(self.shard, index), effects.encode());
        }
    }

    fn owns(&self, slot: Slot) -> bool {
        self.slots.is_some_and(|slots| slots.contains(slot))
    }

    /// A gap would be a loss, a repetition a second effect: both stop the shard.
    fn check_order(&self, position: Position) -> Result<(), StoreError> {
        let found = position.index;
        let expected = match self.state.position {
            Some(applied) => applied.index + 1,
            // Logs begin at 0 or 1.
            None => found.min(1),
        };
        match found == expected {
            true => Ok(()),
            false => Err(StoreError::OutOfOrder { shard: self.shard, found, expected }),
        }
    }

    fn bad_entry(&self, index: u64, source: CommandError) -> StoreError {
        StoreError::Entry { shard: self.shard, index, source }
    }
}

/// Where the operation belongs; `None` for those that concern the whole shard.
fn op_slot(op: &Op<'_>) -> Option<Slot> {
    match op {
        Op::Admit { id, .. } | Op::Settle { id, .. } | Op::ClearSuspect { id } => {
            Some(Slot::of_id(id))
        }
        Op::Write { zip, .. } | Op::Erase { zip, .. } => Some(Slot::of_zip(zip)),
        Op::Quarantine { message_id, .. } | Op::Unquarantine { message_id } => {
            Some(Slot::of(message_id.as_bytes()))
        }
        Op::Sweep { .. } => None,
    }
}
