//! The quarantine: messages that cannot be applied, up to a cap.

use platbook_protocol::codec;
use platbook_protocol::op::OpOutcome;
use platbook_protocol::rpc::QuarantineRecord;

use super::{Applying, Scope};
use crate::command::CommandError;
use crate::error::StoreError;
use crate::store::key::Key;
use crate::store::layout::LayoutError;
use crate::store::value::list::encode_quarantined;

/// Most messages in a shard's quarantine. Part of the protocol, not of the configuration: all
/// replicas must refuse the same message.
pub const QUARANTINE_COUNT_MAX: u64 = 100_000;
/// Most bytes of ids and records in a shard's quarantine.
pub const QUARANTINE_BYTES_MAX: u64 = 256 << 20;

impl Applying<'_> {
    pub(super) fn quarantine(
        &mut self,
        scope: &Scope,
        message_id: &str,
        record: &[u8],
    ) -> Result<OpOutcome, StoreError> {
        let key = Key::Quarantine(message_id);
        // A repeat is answered as the first was, also when the quarantine is full since.
        if self.overlay.get(&key, |value| Ok(value.len()))?.is_some() {
            return Ok(OpOutcome::Noted);
        }
        let ordinal = scope.ordinal;
        let record: QuarantineRecord = codec::decode(record).map_err(|source| {
            let index = self.state.position.map_or(0, |position| position.index + 1);
            self.bad_entry(index, CommandError::Codec { ordinal, source })
        })?;
        let value = encode_quarantined(&record);
        let count = self.state.quarantine_count + 1;
        let bytes = self.state.quarantine_bytes + (message_id.len() + value.len()) as u64;
        if count > QUARANTINE_COUNT_MAX || bytes > QUARANTINE_BYTES_MAX {
            return Ok(OpOutcome::QuarantineFull);
        }
        self.state.quarantine_count = count;
        self.state.quarantine_bytes = bytes;
        self.overlay.put(&key, value);
        Ok(OpOutcome::Noted)
    }

    pub(super) fn unquarantine(&mut self, message_id: &str) -> Result<OpOutcome, StoreError> {
        let key = Key::Quarantine(message_id);
        let Some(value_bytes) = self.overlay.get(&key, |value| Ok(value.len()))? else {
            return Ok(OpOutcome::Noted);
        };
        let wrong = || {
            key.corrupt(LayoutError::Contradiction {
                what: "the quarantine holds more than its total",
            })
        };
        let bytes = (message_id.len() + value_bytes) as u64;
        self.state.quarantine_count =
            self.state.quarantine_count.checked_sub(1).ok_or_else(wrong)?;
        self.state.quarantine_bytes =
            self.state.quarantine_bytes.checked_sub(bytes).ok_or_else(wrong)?;
        self.overlay.delete(&key);
        Ok(OpOutcome::Noted)
    }
}
