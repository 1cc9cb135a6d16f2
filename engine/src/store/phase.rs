//! The state phase of a reader of changes: the live rows of one moment, resumable behind any key.
//!
//! A reader gets all rows whose last change is at most `seq`, then every change behind `seq`. A
//! phase that is resumed reads a newer snapshot, so it leaves out rows that changed behind `seq`
//! since: the reader meets them as changes. That way no change is told twice, and none is missed.

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
    /// The ZIP or the cursor belongs to another shard, or the cursor is no key of a row.
    Foreign,
}

/// The live rows in the order of their keys.
pub struct StatePhase {
    cursor: Cursor,
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
    /// Encoded summary.
    pub summary: Vec<u8>,
    /// Compressed listing.
    pub frame: Vec<u8>,
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
        let newest = state.unwrap_or_default().seq;
        let seq = left.map_or(newest, |left| left.seq);
        if seq > newest {
            return Ok(PhaseStart::Behind { newest });
        }
        let cursor = snapshot.cursor(&range.lower, &range.upper, Access::Bulk)?;
        Ok(PhaseStart::Ready(StatePhase { cursor, seq }))
    }
}

impl StatePhase {
    /// The change behind which the reader follows when the phase has ended.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The next rows, `bytes_max` of their bytes or one row more; none behind the last.
    pub fn next_rows(&mut self, bytes_max: usize) -> Result<Vec<PhaseRow>, StoreError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.is_empty() || bytes < bytes_max {
            let Some((key, value)) = self.cursor.entry() else { break };
            let stored = key::decode_stored(key)?;
            if let Key::Row(zip, id) = stored {
                let (record, frame) =
                    RowRecord::decode(value).map_err(|source| stored.corrupt(source))?;
                if record.row.is_live() && record.seq <= self.seq {
                    bytes += 2 * key.len() + record.summary.len() + frame.len();
                    rows.push(PhaseRow {
                        key: key.to_vec(),
                        zip,
                        id: id.to_string(),
                        revision: record.row.revision(),
                        seq: record.seq,
                        summary: record.summary.to_vec(),
                        frame: frame.to_vec(),
                    });
                }
            }
            self.cursor.advance()?;
        }
        Ok(rows)
    }
}
