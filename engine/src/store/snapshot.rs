//! A shard as it was at one moment: made in no time, read lazily.

use bytes::Bytes;
use platbook_protocol::planted::Bug;
use platbook_protocol::{ShardId, SlotRange};

use super::Position;
use super::db::{Access, Cursor, KeyValue, Snapshot};
use super::key::{self, Key, KeyRange};
use super::shard::{ShardStore, read_at};
use super::stream::{Frame, PAYLOAD_BYTES_MAX, push_entry};
use super::value::state::{Membership, State};
use crate::error::StoreError;

/// Most bytes in a chunk, unless one entry is larger; receivers believe ten times as much.
const CHUNK_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(10 * CHUNK_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// A shard's replicated state at one position, to be streamed to another replica.
pub struct ShardSnapshot {
    shard: ShardId,
    slots: Option<SlotRange>,
    position: Option<Position>,
    membership: Option<(Option<Position>, Bytes)>,
    walk: Walk,
    stage: Stage,
    entries: u64,
    bytes: u64,
}

enum Stage {
    Head,
    Entries,
    End,
    Done,
}

impl ShardStore {
    /// The state of now. What is read from it later is of this moment; position and membership
    /// are read through the same snapshot, so they belong to it.
    pub fn snapshot(&self) -> Result<ShardSnapshot, StoreError> {
        let (shard, slots) = (self.inner.shard, self.inner.slots);
        let snapshot = self.inner.db().snapshot();
        let state = read_at(&snapshot, &Key::State(shard), State::decode)?.unwrap_or_default();
        let membership = read_at(&snapshot, &Key::Membership(shard), Membership::decode)?;
        Ok(ShardSnapshot {
            shard,
            slots,
            position: state.position,
            membership: membership.map(|m| (m.position, m.bytes)),
            walk: Walk::new(snapshot, key::replicated_ranges(shard, slots)),
            stage: Stage::Head,
            entries: 0,
            bytes: 0,
        })
    }

    /// A hash over all that is replicated, and the position it is of. Replicas at the same
    /// position have the same hash. Reads the whole shard.
    pub fn content_hash(&self) -> Result<(Option<Position>, u128), StoreError> {
        let mut snapshot = self.snapshot()?;
        let mut hasher = blake3::Hasher::new();
        while let Some((key, value)) = snapshot.walk.entry()? {
            hasher.update(&(key.len() as u32).to_le_bytes());
            hasher.update(&(value.len() as u32).to_le_bytes());
            hasher.update(key);
            hasher.update(value);
            snapshot.walk.advance()?;
        }
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        Ok((snapshot.position, u128::from_le_bytes(hash)))
    }
}

impl ShardSnapshot {
    /// The last applied entry.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The last membership entry, with its place in the log.
    pub fn membership(&self) -> Option<&(Option<Position>, Bytes)> {
        self.membership.as_ref()
    }

    /// The next bytes of the stream, about `bytes_max`; `None` behind the end.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.stage {
            Stage::Head => {
                self.stage = Stage::Entries;
                Ok(Some(Frame::Head { shard: self.shard, slots: self.slots }.encode()))
            }
            Stage::Entries => {
                let payload = self.next_entries(bytes_max)?;
                match payload.is_empty() {
                    false => Ok(Some(Frame::Entries(&payload).encode())),
                    true => {
                        self.stage = Stage::End;
                        self.next_chunk(bytes_max)
                    }
                }
            }
            Stage::End => {
                self.stage = Stage::Done;
                Ok(Some(Frame::End { entries: self.entries, bytes: self.bytes }.encode()))
            }
            Stage::Done => Ok(None),
        }
    }

    fn next_entries(&mut self, bytes_max: usize) -> Result<Vec<u8>, StoreError> {
        let mut payload = Vec::new();
        let bytes_max = bytes_max.min(CHUNK_BYTES_MAX);
        while payload.is_empty() || payload.len() < bytes_max {
            let Some((key, value)) = self.walk.entry()? else { break };
            push_entry(&mut payload, key, value);
            self.entries += 1;
            self.bytes += (key.len() + value.len()) as u64;
            self.walk.advance()?;
        }
        Ok(payload)
    }
}

/// Walks the replicated entries of several ranges of a snapshot.
struct Walk {
    snapshot: Snapshot,
    ranges: std::vec::IntoIter<KeyRange>,
    cursor: Option<Cursor>,
}

impl Walk {
    fn new(snapshot: Snapshot, ranges: Vec<KeyRange>) -> Walk {
        Walk { snapshot, ranges: ranges.into_iter(), cursor: None }
    }

    /// The entry here; `None` behind the last of the last range.
    fn entry(&mut self) -> Result<Option<KeyValue<'_>>, StoreError> {
        while !self.stands_on_entry()? {
            let Some(range) = self.ranges.next() else { return Ok(None) };
            self.cursor = Some(match Bug::SnapshotOfTwoStates.is_planted() {
                true => self.snapshot.of_now().cursor(&range.lower, &range.upper, Access::Bulk)?,
                false => self.snapshot.cursor(&range.lower, &range.upper, Access::Bulk)?,
            });
        }
        Ok(self.cursor.as_ref().and_then(Cursor::entry))
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.cursor.as_mut().map_or(Ok(()), Cursor::advance)
    }

    fn stands_on_entry(&mut self) -> Result<bool, StoreError> {
        let Some(cursor) = &mut self.cursor else { return Ok(false) };
        while let Some((key, _)) = cursor.entry() {
            if !key::decode_stored(key)?.is_local() {
                return Ok(true);
            }
            cursor.advance()?;
        }
        Ok(false)
    }
}
