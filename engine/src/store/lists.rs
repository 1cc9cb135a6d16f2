//! What people and the leader's sweeper look through: quarantine, suspects, unsettled registers.

use platbook_protocol::op::Body;
use platbook_protocol::register::{Register, Suspicion};
use platbook_protocol::rpc::QuarantineRecord;
use platbook_protocol::{Slot, TimeMs};

use super::db::Access;
use super::key::{self, Due, DueKind, Key, SlotList};
use super::layout::LayoutError;
use super::shard::{ShardStore, read_at};
use super::value::list::{SuspectRecord, decode_quarantined};
use super::value::register::{RegisterRecord, decode_held};
use crate::error::StoreError;

/// A register that somebody must still write, erase or settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Proposer's clock when the register last moved.
    pub since: TimeMs,
    /// The listing.
    pub id: String,
    /// What is decided about it.
    pub register: Register,
    /// The body to be written, where it is held.
    pub held: Option<HeldBody>,
}

/// A body held with a register until it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBody {
    /// Encoded summary.
    pub summary: Vec<u8>,
    /// Compressed listing.
    pub frame: Vec<u8>,
}

impl ShardStore {
    /// Quarantined messages behind the message id `after`, in the order of their keys.
    pub fn quarantined(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, QuarantineRecord)>, StoreError> {
        let after = after.map(Key::Quarantine);
        self.slot_list(SlotList::Quarantine, after, limit, |key, value| match key {
            Key::Quarantine(id) => Ok(Some((id.to_string(), decode_quarantined(value)?))),
            _ => Ok(None),
        })
    }

    /// Suspects behind the id `after`, in the order of their keys: why, and when it was noticed.
    pub fn suspects(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Suspicion, TimeMs)>, StoreError> {
        let after = after.map(Key::Suspect);
        self.slot_list(SlotList::Suspects, after, limit, |key, value| match key {
            Key::Suspect(id) => {
                let record = SuspectRecord::decode(value)?;
                Ok(Some((id.to_string(), record.suspicion, record.noticed)))
            }
            _ => Ok(None),
        })
    }

    /// Registers unsettled since before `before`, oldest first, behind `after`: the time and id of
    /// the last one seen.
    pub fn unsettled(
        &self,
        before: TimeMs,
        after: Option<(TimeMs, &str)>,
        limit: usize,
    ) -> Result<Vec<Unsettled>, StoreError> {
        let snapshot = self.inner.db().snapshot();
        let mut range = key::due_range(self.inner.shard, DueKind::Unsettled, before);
        if let Some((touched, id)) = after {
            let seen = Key::Due(self.inner.shard, Due::Unsettled { touched, id }).encode();
            range.lower = [&seen[..], &[0]].concat();
        }
        let mut found = Vec::new();
        if range.lower >= range.upper {
            return Ok(found);
        }
        let mut cursor = snapshot.cursor(&range.lower, &range.upper, Access::Serve)?;
        while let Some((bytes, _)) = cursor.entry()
            && found.len() < limit
        {
            if let Key::Due(_, Due::Unsettled { touched, id }) = key::decode_stored(bytes)? {
                let record = read_at(&snapshot, &Key::Register(id), RegisterRecord::decode)?;
                let held = read_at(&snapshot, &Key::Held(id), |value| {
                    decode_held(value).map(HeldBody::from)
                })?;
                let register = record.unwrap_or_default().register;
                found.push(Unsettled { since: touched, id: id.to_string(), register, held });
            }
            cursor.advance()?;
        }
        Ok(found)
    }

    /// Lists stand in every slot; between two of them lie the slot's other keys, which are jumped.
    fn slot_list<T>(
        &self,
        list: SlotList,
        after: Option<Key<'_>>,
        limit: usize,
        read: impl Fn(Key<'_>, &[u8]) -> Result<Option<T>, LayoutError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let Some(slots) = self.inner.slots else { return Ok(found) };
        let all = key::slots_range(slots);
        let mut cursor =
            self.inner.db().snapshot().cursor(&all.lower, &all.upper, Access::Serve)?;
        let mut range = list.range(slots.first);
        if let Some(after) = after {
            let after = [&after.encode()[..], &[0]].concat();
            range = list.range(key::slot_of(&after).unwrap_or(slots.first));
            range.lower = after;
        }
        cursor.seek(&range.lower)?;
        while found.len() < limit {
            let Some((bytes, value)) = cursor.entry() else { break };
            if range.contains(bytes) {
                let stored = key::decode_stored(bytes)?;
                found.extend(read(stored, value).map_err(|source| stored.corrupt(source))?);
                cursor.advance()?;
                continue;
            }
            // Outside the list of this slot: to the list of the slot found, or of the next.
            let slot = key::slot_of(bytes).unwrap_or(slots.last);
            let next = match bytes < list.range(slot).upper.as_slice() {
                true => Some(slot),
                false => slot.0.checked_add(1).map(Slot),
            };
            let Some(next) = next else { break };
            range = list.range(next);
            cursor.seek(&range.lower)?;
        }
        Ok(found)
    }
}

impl From<Body<'_>> for HeldBody {
    fn from(body: Body<'_>) -> HeldBody {
        HeldBody { summary: body.summary.to_vec(), frame: body.frame.to_vec() }
    }
}
