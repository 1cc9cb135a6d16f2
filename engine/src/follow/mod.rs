//! Following a shard's changes: which there were from the effects, their bodies from the log.
//!
//! Nothing is kept for a reader, and no reader holds the log back: whoever falls behind what is
//! retained is told so. [`Reach::plan`] decides, [`read`] carries it out.

mod plan;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;
use platbook_protocol::follow::ChangeKind;
use platbook_protocol::op::Op;
use platbook_protocol::{Seq, ShardId, TimeMs};

pub use self::plan::{Plan, Reach};
use crate::command::{self, Command, CommandError};
use crate::error::StoreError;
use crate::log::{GroupLog, LogError, Record};
use crate::store::{Change, Effects, ShardStore};

/// Most entries that are looked at in one go.
const ENTRIES_MAX: usize = 32;

/// A shard's log, as far as readers of changes need it.
pub trait Entries {
    /// The first index that was not purged.
    fn first(&self) -> u64;

    /// Records of `range` in order, from the first that is left: at least one if there is any,
    /// then as long as the payloads stay within `bytes_max`.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError>;
}

impl Entries for GroupLog {
    fn first(&self) -> u64 {
        self.state().purged.map_or(0, |(_, index)| index + 1)
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        GroupLog::read(self, range, bytes_max)
    }
}

/// A change with what stands in its log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The proposer's clock.
    pub clock: TimeMs,
    /// The change.
    pub change: Change,
    /// The row's bytes; `None` where the listing left the ZIP.
    pub body: Option<FollowedBody>,
}

/// A row's bytes: slices of the entry, which lives as long as one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedBody {
    /// Encoded summary.
    pub summary: Bytes,
    /// Compressed listing.
    pub frame: Bytes,
}

/// What a reader of changes gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The next changes: at least one, without a gap.
    Changes(Vec<Followed>),
    /// There are none now, for the reason that the plan gives; never [`Plan::Log`].
    Not(Plan),
}

/// Why changes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry and its effects tell of different operations.
    #[error("entry {index} of shard {shard} does not have the operations of its effects")]
    Mismatch {
        /// The shard.
        shard: ShardId,
        /// Log index.
        index: u64,
    },
}

/// What this replica has of the shard's changes.
pub fn reach(store: &ShardStore, entries: &impl Entries) -> Result<Reach, StoreError> {
    // First, so that the effects hold all that it counts.
    let newest = store.applied().seq;
    let oldest = store.first_change(entries.first())?;
    Ok(Reach { oldest: oldest.unwrap_or(Seq(newest.0 + 1)), newest })
}

/// The changes behind `after`, with about `bytes_max` of log entries or one entry more. Blocks on
/// the disk.
pub fn read(
    store: &ShardStore,
    entries: &impl Entries,
    after: Seq,
    bytes_max: usize,
) -> Result<Reading, FollowError> {
    let plan = reach(store, entries)?.plan(after);
    if plan != Plan::Log {
        return Ok(Reading::Not(plan));
    }
    let changes = read_log(store, entries, after, bytes_max)?;
    let is_next = changes.first().is_some_and(|followed| followed.change.seq.0 == after.0 + 1);
    if is_next {
        return Ok(Reading::Changes(changes));
    }
    // Purged or replaced by a snapshot since the plan was made.
    let earliest = reach(store, entries)?.earliest();
    Ok(Reading::Not(Plan::Gone { earliest }))
}

/// Changes behind `after` as far as effects and entries are still here.
fn read_log(
    store: &ShardStore,
    entries: &impl Entries,
    after: Seq,
    bytes_max: usize,
) -> Result<Vec<Followed>, FollowError> {
    let mut changes: Vec<Followed> = Vec::new();
    let Some(first) = store.index_of_change(Seq(after.0 + 1))? else { return Ok(changes) };
    let Some(last) = store.changing_entries(first, ENTRIES_MAX)?.pop() else { return Ok(changes) };
    let records = entries.read(first..last + 1, bytes_max)?;
    // Effects only of what is read: in large batches that is a small part of all these entries.
    let Some(last) = records.last().map(|record| record.index) else { return Ok(changes) };
    let effects = store.effects(first..last + 1, ENTRIES_MAX)?;
    let mut records = records.into_iter();
    for (index, effects) in effects {
        let Some(record) = records.find(|record| record.index >= index) else { break };
        if record.index != index {
            break;
        }
        let joined = join(store.id(), &record, effects)?;
        changes.extend(joined.into_iter().filter(|followed| followed.change.seq > after));
    }
    Ok(changes)
}

/// An entry's changes, with the bodies that it carries.
fn join(shard: ShardId, record: &Record, effects: Effects) -> Result<Vec<Followed>, FollowError> {
    let index = record.index;
    let unreadable = |source| StoreError::Entry { shard, index, source };
    let mismatch = || FollowError::Mismatch { shard, index };
    let Command::Ops { ops, .. } = command::decode(&record.payload).map_err(unreadable)? else {
        return Err(mismatch());
    };
    let mut ops = ops.zip(0u32..);
    let mut followed = Vec::with_capacity(effects.changes.len());
    for change in effects.changes {
        let (op, ordinal) =
            ops.find(|(_, ordinal)| *ordinal == change.ordinal).ok_or_else(mismatch)?;
        let op = op.map_err(|source| unreadable(CommandError::Codec { ordinal, source }))?;
        let body = match (op, &change.kind) {
            (Op::Write { id, zip, body, .. }, ChangeKind::Created | ChangeKind::Updated)
                if id == change.id && zip == change.zip =>
            {
                let summary = record.payload.slice_ref(body.summary);
                Some(FollowedBody { summary, frame: record.payload.slice_ref(body.frame) })
            }
            (Op::Erase { id, zip, .. }, ChangeKind::Deleted | ChangeKind::Moved { .. })
                if id == change.id && zip == change.zip =>
            {
                None
            }
            _ => return Err(mismatch()),
        };
        followed.push(Followed { clock: effects.clock, change, body });
    }
    Ok(followed)
}
