//! A ZIP, or all of a shard, streamed from one snapshot with flat memory.

use platbook_protocol::Zip;
use platbook_protocol::rpc::{ZipState, scan};

use super::db::{Access, Cursor};
use super::key::{self, Key};
use super::shard::{ShardStore, read_at, zip_state_at};
use super::value::row::RowRecord;
use super::value::state::State;
use crate::error::StoreError;

/// Tells by its encoded summary whether a listing is wanted.
pub type Keep = Box<dyn Fn(&[u8]) -> bool + Send>;

/// The live listings of a ZIP in id order, or of a shard in the order of slots, ZIPs and ids, as
/// they were when the scan began.
pub struct RowScan {
    cursor: Cursor,
    state: ZipState,
    keep: Keep,
    left: u64,
    ended: bool,
}

impl ShardStore {
    /// Starts reading the live listings of a ZIP behind `after`, at most `limit` of those that
    /// `keep` wants.
    pub fn scan(
        &self,
        zip: Zip,
        after: Option<&str>,
        keep: Keep,
        limit: Option<u64>,
    ) -> Result<RowScan, StoreError> {
        let snapshot = self.inner.db().snapshot();
        let state = zip_state_at(&snapshot, self.inner.shard, zip)?;
        let mut range = key::zip_range(zip);
        if let Some(after) = after {
            range.lower = [&Key::Row(zip, after).encode()[..], &[0]].concat();
        }
        let cursor = snapshot.cursor(&range.lower, &range.upper, Access::Serve)?;
        Ok(RowScan { cursor, state, keep, left: limit.unwrap_or(u64::MAX), ended: false })
    }

    /// Starts reading all live listings of the shard. It keeps no totals of itself: the state has
    /// its last change, and no count.
    pub fn scan_all(&self) -> Result<RowScan, StoreError> {
        let snapshot = self.inner.db().snapshot();
        let shown = read_at(&snapshot, &Key::State(self.inner.shard), State::decode)?;
        let seq = shown.unwrap_or_default().seq;
        let state = ZipState { seq, shard_seq: seq, ..ZipState::default() };
        let range = match self.inner.slots {
            Some(slots) => key::slots_range(slots),
            // The system shard has no listings.
            None => key::effects_range(self.inner.shard, 0, 0),
        };
        let cursor = snapshot.cursor(&range.lower, &range.upper, Access::Bulk)?;
        Ok(RowScan { cursor, state, keep: Box::new(|_| true), left: u64::MAX, ended: false })
    }
}

impl RowScan {
    /// The totals at the moment that the scan shows.
    pub fn state(&self) -> ZipState {
        self.state
    }

    /// The next rows in the encoding of [`scan`], `bytes_max` or one row more; `None` behind the
    /// end mark, which the last chunk holds.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let mut out = Vec::new();
        while out.len() < bytes_max {
            let Some((key, value)) = self.cursor.entry() else {
                self.end(&mut out, false);
                break;
            };
            if self.left == 0 {
                self.end(&mut out, true);
                break;
            }
            let stored = key::decode_stored(key)?;
            if let Key::Row(_, id) = stored {
                let (record, frame) =
                    RowRecord::decode(value).map_err(|source| stored.corrupt(source))?;
                if record.row.is_live() && (self.keep)(record.summary) {
                    scan::push_row(&mut out, id, record.row.revision(), record.summary, frame);
                    self.left -= 1;
                }
            }
            self.cursor.advance()?;
        }
        Ok(Some(out))
    }

    fn end(&mut self, out: &mut Vec<u8>, by_limit: bool) {
        out.extend_from_slice(&[scan::END, u8::from(by_limit)]);
        self.ended = true;
    }
}
