//! The state phase of a reader of changes: the live rows of one moment, resumable behind any key.
//! And the catch-up of one whose changes are no longer in the log: what they have left.
//!
//! A reader gets all rows whose last change is at most `seq`, then every change behind `seq`. A
//! phase that is resumed reads a newer snapshot, so it leaves out rows that changed behind `seq`
//! since: the reader meets them as changes. That way no change is told twice, and none is missed.
//!
//! A reader that had everything up to `after` needs of the rows only those that changed since: live
//! ones, and the markers of those that left. Markers are collected after a while; the greatest
//! change whose marker is gone stands in the shard's state, so it is known, not guessed, whether
//! they still reach back to `after`.

use platbook_protocol::{Revision, Seq, Slot, Zip};

use super::db::{Access, Cursor};
use super::key::{self, Key};
use super::shard::{ShardStore, read_at};
use super::value::row::RowRecord;
use super::value::state::State;
use crate::error::StoreError;

/// Where a state phase was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhasePosition<'a> {
    /// A catch-up: the change up to which the reader had everything before it.
    pub after: Option<Seq>,
    /// The change up to which its first snapshot reached.
    pub seq: Seq,
    /// Key of the last row delivered; empty before the first.
    pub cursor: &'a [u8],
}

/// What became of a request for a state phase.
pub enum PhaseStart {
    /// It can be read.
    Ready(StatePhase),
    /// This replica has applied changes only up to `newest`, fewer than the position tells.
    Behind {
        /// Its last change.
        newest: Seq,
    },
    /// A catch-up from there would miss what left since: its markers are gone.
    Forgotten,
    /// The ZIP or the cursor belongs to another shard, or the cursor is no key of a row.
    Foreign,
}

/// Rows in the order of their keys: all live ones, or in a catch-up what changed, and markers.
pub struct StatePhase {
    cursor: Cursor,
    after: Option<Seq>,
    seq: Seq,
}

/// A row of a state phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseRow {
    /// Its key: the cursor of whoever got everything up to here.
    pub key: Vec<u8>,
    /// The ZIP.
    pub zip: Zip,
    /// The listing.
    pub id: String,
    /// The row's revision.
    pub revision: Revision,
    /// Seq of the row's last change.
    pub seq: Seq,
    /// What stands there.
    pub content: PhaseContent,
}

/// A piece of a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseRows {
    /// Rows to be told.
    pub rows: Vec<PhaseRow>,
    /// Key of the last row that was looked at, told or not: the cursor of whoever got this piece.
    /// Empty where there was none.
    pub passed: Vec<u8>,
}

/// What stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhaseContent {
    /// A listing.
    Listing {
        /// Encoded summary.
        summary: Vec<u8>,
        /// Compressed listing.
        frame: Vec<u8>,
    },
    /// Nothing any more; in a catch-up only.
    Gone {
        /// Where it went, if it moved.
        moved_to: Option<Zip>,
    },
}

impl ShardStore {
    /// Starts the state phase of a ZIP, or of the whole shard, or resumes it at `left`.
    pub fn state_phase(
        &self,
        zip: Option<Zip>,
        left: Option<PhasePosition<'_>>,
    ) -> Result<PhaseStart, StoreError> {
        // The system shard has no listings.
        let Some(slots) = self.inner.slots else { return Ok(PhaseStart::Foreign) };
        let mut range = match zip {
            Some(zip) if !slots.contains(Slot::of_zip(&zip)) => return Ok(PhaseStart::Foreign),
            Some(zip) => key::zip_range(zip),
            None => key::slots_range(slots),
        };
        let cursor = left.map_or(&[][..], |left| left.cursor);
        if !cursor.is_empty() {
            let is_row = matches!(Key::decode(cursor), Ok(Key::Row(..)));
            if !is_row || !range.contains(cursor) {
                return Ok(PhaseStart::Foreign);
            }
            range.lower = [cursor, &[0]].concat();
        }
        let snapshot = self.inner.db().snapshot();
        let state = read_at(&snapshot, &Key::State(self.inner.shard), State::decode)?;
        let State { seq: newest, markers_behind, .. } = state.unwrap_or_default();
        let seq = left.map_or(newest, |left| left.seq);
        if seq > newest {
            return Ok(PhaseStart::Behind { newest });
        }
        let after = left.and_then(|left| left.after);
        if after.is_some_and(|after| after < markers_behind) {
            return Ok(PhaseStart::Forgotten);
        }
        let cursor = snapshot.cursor(&range.lower, &range.upper, Access::Bulk)?;
        Ok(PhaseStart::Ready(StatePhase { cursor, after, seq }))
    }
}

impl StatePhase {
    /// The change behind which the reader follows when the phase has ended.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The next rows among about `bytes_max` of stored bytes, which may be none of them; `None`
    /// behind the last.
    pub fn next_rows(&mut self, bytes_max: usize) -> Result<Option<PhaseRows>, StoreError> {
        if self.cursor.entry().is_none() {
            return Ok(None);
        }
        let (mut found, mut bytes) = (PhaseRows::default(), 0);
        while let Some((key, value)) = self.cursor.entry()
            && bytes < bytes_max
        {
            bytes += 2 * key.len() + value.len();
            let stored = key::decode_stored(key)?;
            if let Key::Row(zip, id) = stored {
                found.rows.extend(self.row(&stored, key, (zip, id), value)?);
                found.passed.clear();
                found.passed.extend_from_slice(key);
            }
            self.cursor.advance()?;
        }
        Ok(Some(found))
    }

    /// The row of an entry, if the reader is to be told of it.
    fn row(
        &self,
        stored: &Key<'_>,
        key: &[u8],
        (zip, id): (Zip, &str),
        value: &[u8],
    ) -> Result<Option<PhaseRow>, StoreError> {
        let (record, frame) = RowRecord::decode(value).map_err(|source| stored.corrupt(source))?;
        let is_known = self.after.is_some_and(|after| record.seq <= after);
        if is_known || record.seq > self.seq {
            return Ok(None);
        }
        let content = match (record.row.is_live(), self.after) {
            (true, _) => {
                let (summary, frame) = (record.summary.to_vec(), frame.to_vec());
                PhaseContent::Listing { summary, frame }
            }
            (false, Some(_)) => PhaseContent::Gone { moved_to: record.moved_to },
            (false, None) => return Ok(None),
        };
        let (key, id, revision) = (key.to_vec(), id.to_string(), record.row.revision());
        Ok(Some(PhaseRow { key, zip, id, revision, seq: record.seq, content }))
    }
}
