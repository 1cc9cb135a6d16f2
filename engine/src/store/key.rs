//! The one ordered key space. Kinds and their bytes are fixed for ever.
//!
//! ```text
//! [00][shard u32 BE][kind] ...     shard scope
//! [01][slot u16 BE][kind] ...      slot scope: what the shard that owns the slot keeps
//! ```
//!
//! A shard is exactly two key ranges. Numbers in keys are big-endian, so that they sort.

use platbook_protocol::{ShardId, Slot, SlotRange, TimeMs, Zip};

use super::layout::{LayoutError, Reader, read_zip};
use crate::error::StoreError;

const SHARD_SCOPE: u8 = 0;
const SLOT_SCOPE: u8 = 1;
/// Behind every key.
const SCOPES_END: u8 = 2;

const STATE: u8 = 1;
const MEMBERSHIP: u8 = 2;
const EFFECTS: u8 = 3;
const REPLICA: u8 = 4;
const DUE: u8 = 5;
const SWEPT: u8 = 6;
// 7 is for the offsets of groups of change readers.
const MAP: u8 = 16;
const DICTIONARY: u8 = 17;
const SETTING: u8 = 18;

const REGISTER: u8 = 1;
const ROW: u8 = 2;
const ZIP: u8 = 3;
const QUARANTINE: u8 = 4;
const SUSPECT: u8 = 5;
const HELD: u8 = 6;

const DUE_MARKER: u8 = 1;
const DUE_DEAD: u8 = 2;
const DUE_UNSETTLED: u8 = 3;

/// Every key that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// Applied position, seq, horizons, totals.
    State(ShardId),
    /// Raft membership.
    Membership(ShardId),
    /// What one log entry changed. Local to the replica, as the log is.
    Effects(ShardId, u64),
    /// Whose state this is. Local to the replica.
    Replica(ShardId),
    /// Something to be looked at when its time has come.
    Due(ShardId, Due<'a>),
    /// How far sweeps have looked for half-written listings.
    Swept(ShardId),
    /// The cluster's map (system shard).
    Map(ShardId),
    /// A dictionary for frames (system shard).
    Dictionary(ShardId, u32),
    /// A setting (system shard).
    Setting(ShardId, &'a str),
    /// What is decided about an id.
    Register(&'a str),
    /// A listing or marker under its ZIP.
    Row(Zip, &'a str),
    /// Totals of a ZIP.
    Zip(Zip),
    /// A message that could not be applied.
    Quarantine(&'a str),
    /// An id to look at.
    Suspect(&'a str),
    /// A body held for an id until it is settled.
    Held(&'a str),
}

/// The time index of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due<'a> {
    /// A marker, by when it was laid.
    Marker { laid: TimeMs, zip: Zip, id: &'a str },
    /// A dead and settled register, by its last move.
    Dead { touched: TimeMs, id: &'a str },
    /// An unsettled register, by its last move.
    Unsettled { touched: TimeMs, id: &'a str },
}

/// Which part of the time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DueKind {
    Marker,
    Dead,
    Unsettled,
}

impl DueKind {
    fn byte(self) -> u8 {
        match self {
            DueKind::Marker => DUE_MARKER,
            DueKind::Dead => DUE_DEAD,
            DueKind::Unsettled => DUE_UNSETTLED,
        }
    }
}

impl Key<'_> {
    /// The bytes of the key.
    pub(super) fn encode(&self) -> Vec<u8> {
        match *self {
            Key::State(shard) => shard_key(shard, STATE),
            Key::Membership(shard) => shard_key(shard, MEMBERSHIP),
            Key::Effects(shard, index) => join(shard_key(shard, EFFECTS), &[&index.to_be_bytes()]),
            Key::Replica(shard) => shard_key(shard, REPLICA),
            Key::Due(shard, due) => due.encode(shard),
            Key::Swept(shard) => shard_key(shard, SWEPT),
            Key::Map(shard) => shard_key(shard, MAP),
            Key::Dictionary(shard, id) => join(shard_key(shard, DICTIONARY), &[&id.to_be_bytes()]),
            Key::Setting(shard, name) => join(shard_key(shard, SETTING), &[name.as_bytes()]),
            Key::Register(id) => slot_key(Slot::of_id(id), REGISTER, &[id.as_bytes()]),
            Key::Row(zip, id) => {
                slot_key(Slot::of_zip(&zip), ROW, &[zip.as_bytes(), &[0], id.as_bytes()])
            }
            Key::Zip(zip) => slot_key(Slot::of_zip(&zip), ZIP, &[zip.as_bytes()]),
            Key::Quarantine(message_id) => {
                slot_key(Slot::of(message_id.as_bytes()), QUARANTINE, &[message_id.as_bytes()])
            }
            Key::Suspect(id) => slot_key(Slot::of_id(id), SUSPECT, &[id.as_bytes()]),
            Key::Held(id) => slot_key(Slot::of_id(id), HELD, &[id.as_bytes()]),
        }
    }

    /// Reads the bytes of a key; a key in the wrong slot is refused.
    pub(super) fn decode(bytes: &[u8]) -> Result<Key<'_>, LayoutError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            SHARD_SCOPE => decode_shard_scope(reader),
            SLOT_SCOPE => {
                let slot = u16::from_be_bytes(reader.array()?);
                let kind = reader.u8()?;
                let key = decode_slot_scope(kind, reader.rest())?;
                // Recomputing the key finds a slot that the hash does not give.
                match key.encode() == bytes {
                    true => Ok(key),
                    false => Err(LayoutError::Slot { found: slot }),
                }
            }
            found => Err(LayoutError::Tag { found }),
        }
    }

    /// What stands behind the key, for errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Key::State(_) => "state",
            Key::Membership(_) => "membership",
            Key::Effects(..) => "effects",
            Key::Replica(_) => "owner",
            Key::Due(..) => "time index",
            Key::Swept(_) => "sweep position",
            Key::Map(_) => "map",
            Key::Dictionary(..) => "dictionary",
            Key::Setting(..) => "setting",
            Key::Register(_) => "register",
            Key::Row(..) => "row",
            Key::Zip(_) => "zip totals",
            Key::Quarantine(_) => "quarantined message",
            Key::Suspect(_) => "suspect",
            Key::Held(_) => "held body",
        }
    }

    /// The error for a value behind this key that cannot be read.
    pub(super) fn corrupt(&self, source: LayoutError) -> StoreError {
        StoreError::Corrupt { what: self.name(), key: hex(&self.encode()), source }
    }

    /// Whether the key is this replica's own business: absent from snapshots and content hashes.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Key::Effects(..) | Key::Replica(_) => true,
            Key::State(_)
            | Key::Membership(_)
            | Key::Due(..)
            | Key::Swept(_)
            | Key::Map(_)
            | Key::Dictionary(..)
            | Key::Setting(..)
            | Key::Register(_)
            | Key::Row(..)
            | Key::Zip(_)
            | Key::Quarantine(_)
            | Key::Suspect(_)
            | Key::Held(_) => false,
        }
    }
}

impl Due<'_> {
    fn encode(&self, shard: ShardId) -> Vec<u8> {
        match self {
            Due::Marker { laid, zip, id } => join(
                shard_key(shard, DUE),
                &[&[DUE_MARKER], &laid.0.to_be_bytes(), zip.as_bytes(), &[0], id.as_bytes()],
            ),
            Due::Dead { touched, id } => {
                join(shard_key(shard, DUE), &[&[DUE_DEAD], &touched.0.to_be_bytes(), id.as_bytes()])
            }
            Due::Unsettled { touched, id } => join(
                shard_key(shard, DUE),
                &[&[DUE_UNSETTLED], &touched.0.to_be_bytes(), id.as_bytes()],
            ),
        }
    }
}

/// Reads the bytes of a key that the database gave.
pub(super) fn decode_stored(bytes: &[u8]) -> Result<Key<'_>, StoreError> {
    Key::decode(bytes).map_err(|source| StoreError::Corrupt {
        what: "key",
        key: hex(bytes),
        source,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shard_key(shard: ShardId, kind: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(SHARD_SCOPE);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.push(kind);
    key
}

fn slot_key(slot: Slot, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(SLOT_SCOPE);
    key.extend_from_slice(&slot.0.to_be_bytes());
    key.push(kind);
    join(key, parts)
}

fn join(mut key: Vec<u8>, parts: &[&[u8]]) -> Vec<u8> {
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

fn decode_shard_scope(mut reader: Reader<'_>) -> Result<Key<'_>, LayoutError> {
    let shard = ShardId(u32::from_be_bytes(reader.array()?));
    let key = match reader.u8()? {
        STATE => Key::State(shard),
        MEMBERSHIP => Key::Membership(shard),
        EFFECTS => Key::Effects(shard, u64::from_be_bytes(reader.array()?)),
        REPLICA => Key::Replica(shard),
        DUE => Key::Due(shard, decode_due(&mut reader)?),
        SWEPT => Key::Swept(shard),
        MAP => Key::Map(shard),
        DICTIONARY => Key::Dictionary(shard, u32::from_be_bytes(reader.array()?)),
        SETTING => Key::Setting(shard, text(reader.rest())?),
        found => return Err(LayoutError::Tag { found }),
    };
    reader.end()?;
    Ok(key)
}

fn decode_due<'a>(reader: &mut Reader<'a>) -> Result<Due<'a>, LayoutError> {
    let kind = reader.u8()?;
    let time = TimeMs(u64::from_be_bytes(reader.array()?));
    match kind {
        DUE_MARKER => {
            let (zip, id) = split_row(reader.rest())?;
            Ok(Due::Marker { laid: time, zip, id })
        }
        DUE_DEAD => Ok(Due::Dead { touched: time, id: text(reader.rest())? }),
        DUE_UNSETTLED => Ok(Due::Unsettled { touched: time, id: text(reader.rest())? }),
        found => Err(LayoutError::Tag { found }),
    }
}

fn decode_slot_scope(kind: u8, rest: &[u8]) -> Result<Key<'_>, LayoutError> {
    match kind {
        REGISTER => Ok(Key::Register(text(rest)?)),
        ROW => split_row(rest).map(|(zip, id)| Key::Row(zip, id)),
        ZIP => Ok(Key::Zip(read_zip(rest)?)),
        QUARANTINE => Ok(Key::Quarantine(text(rest)?)),
        SUSPECT => Ok(Key::Suspect(text(rest)?)),
        HELD => Ok(Key::Held(text(rest)?)),
        found => Err(LayoutError::Tag { found }),
    }
}

fn split_row(bytes: &[u8]) -> Result<(Zip, &str), LayoutError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(LayoutError::Truncated)?;
    Ok((read_zip(&bytes[..end])?, text(&bytes[end + 1..])?))
}

fn text(bytes: &[u8]) -> Result<&str, LayoutError> {
    std::str::from_utf8(bytes).map_err(|_| LayoutError::Text)
}

/// A range of keys, without its upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) lower: Vec<u8>,
    pub(super) upper: Vec<u8>,
}

impl KeyRange {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.lower.as_slice() <= key && key < self.upper.as_slice()
    }
}

/// All keys of a shard's own scope.
pub(super) fn shard_range(shard: ShardId) -> KeyRange {
    let lower = [&[SHARD_SCOPE][..], &shard.0.to_be_bytes()].concat();
    let upper = match shard.0.checked_add(1) {
        Some(next) => [&[SHARD_SCOPE][..], &next.to_be_bytes()].concat(),
        None => vec![SLOT_SCOPE],
    };
    KeyRange { lower, upper }
}

/// All keys of the slots.
pub(super) fn slots_range(slots: SlotRange) -> KeyRange {
    let lower = [&[SLOT_SCOPE][..], &slots.first.0.to_be_bytes()].concat();
    let upper = match slots.last.0.checked_add(1) {
        Some(next) => [&[SLOT_SCOPE][..], &next.to_be_bytes()].concat(),
        None => vec![SCOPES_END],
    };
    KeyRange { lower, upper }
}

/// The key ranges that hold what is replicated, in order: without the effects, which are many.
/// [`Key::is_local`] tells what else is not.
pub(super) fn replicated_ranges(shard: ShardId, slots: Option<SlotRange>) -> Vec<KeyRange> {
    let KeyRange { lower, upper } = shard_range(shard);
    let effects = effects_range(shard, 0, u64::MAX);
    let scope =
        [KeyRange { lower, upper: effects.lower }, KeyRange { lower: effects.upper, upper }];
    scope.into_iter().chain(slots.map(slots_range)).collect()
}

/// All keys.
pub(super) fn everything() -> KeyRange {
    KeyRange { lower: vec![SHARD_SCOPE], upper: vec![SCOPES_END] }
}

/// The key ranges of a shard, in order.
pub(super) fn ranges_of(shard: ShardId, slots: Option<SlotRange>) -> Vec<KeyRange> {
    std::iter::once(shard_range(shard)).chain(slots.map(slots_range)).collect()
}

/// All effects of the shard whose log index is in `first..end`.
pub(super) fn effects_range(shard: ShardId, first: u64, end: u64) -> KeyRange {
    KeyRange {
        lower: Key::Effects(shard, first).encode(),
        upper: match end {
            u64::MAX => shard_key(shard, EFFECTS + 1),
            end => Key::Effects(shard, end).encode(),
        },
    }
}

/// The part `kind` of the time index, for times before `before`.
pub(super) fn due_range(shard: ShardId, kind: DueKind, before: TimeMs) -> KeyRange {
    let lower = join(shard_key(shard, DUE), &[&[kind.byte()]]);
    let upper = join(lower.clone(), &[&before.0.to_be_bytes()]);
    KeyRange { lower, upper }
}

/// All rows of a ZIP.
pub(super) fn zip_range(zip: Zip) -> KeyRange {
    let lower = Key::Row(zip, "").encode();
    let mut upper = lower.clone();
    // The separator is 0, and nothing else stands between 0 and 1.
    *upper.last_mut().expect("the separator ends the key") = 1;
    KeyRange { lower, upper }
}

/// Lists that are kept a slot each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotList {
    Quarantine,
    Suspects,
}

impl SlotList {
    /// The keys of this list in one slot.
    pub(super) fn range(self, slot: Slot) -> KeyRange {
        let kind = match self {
            SlotList::Quarantine => QUARANTINE,
            SlotList::Suspects => SUSPECT,
        };
        KeyRange { lower: slot_key(slot, kind, &[]), upper: slot_key(slot, kind + 1, &[]) }
    }
}

/// The slot of a key of slot scope.
pub(super) fn slot_of(key: &[u8]) -> Option<Slot> {
    match key {
        [SLOT_SCOPE, high, low, ..] => Some(Slot(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZIP_A: Zip = Zip::Code(*b"94110");
    const SHARD: ShardId = ShardId(0x0102);

    #[test]
    fn keys_have_the_bytes_that_disks_were_written_with() {
        let due = |due| Key::Due(SHARD, due);
        let time = TimeMs(0x0304);
        let cases: &[(Key<'_>, &[u8])] = &[
            (Key::State(SHARD), b"\0\0\0\x01\x02\x01"),
            (Key::Membership(SHARD), b"\0\0\0\x01\x02\x02"),
            (Key::Effects(SHARD, 0x0506), b"\0\0\0\x01\x02\x03\0\0\0\0\0\0\x05\x06"),
            (Key::Replica(SHARD), b"\0\0\0\x01\x02\x04"),
            (
                due(Due::Marker { laid: time, zip: ZIP_A, id: "A1" }),
                b"\0\0\0\x01\x02\x05\x01\0\0\0\0\0\0\x03\x0494110\0A1",
            ),
            (
                due(Due::Dead { touched: time, id: "A1" }),
                b"\0\0\0\x01\x02\x05\x02\0\0\0\0\0\0\x03\x04A1",
            ),
            (
                due(Due::Unsettled { touched: time, id: "A1" }),
                b"\0\0\0\x01\x02\x05\x03\0\0\0\0\0\0\x03\x04A1",
            ),
            (Key::Swept(SHARD), b"\0\0\0\x01\x02\x06"),
            (Key::Map(ShardId::SYSTEM), b"\0\0\0\0\0\x10"),
            (Key::Dictionary(ShardId::SYSTEM, 7), b"\0\0\0\0\0\x11\0\0\0\x07"),
            (Key::Setting(ShardId::SYSTEM, "skew"), b"\0\0\0\0\0\x12skew"),
            (Key::Register("A1"), b"\x01\xaf\x62\x01A1"),
            (Key::Row(ZIP_A, "A1"), b"\x01\xa7\x07\x0294110\0A1"),
            (Key::Row(Zip::Unknown, "A1"), b"\x01\x6c\x59\x02unknown\0A1"),
            (Key::Zip(ZIP_A), b"\x01\xa7\x07\x0394110"),
            (Key::Quarantine("m-1"), b"\x01\x1d\xc7\x04m-1"),
            (Key::Suspect("A1"), b"\x01\xaf\x62\x05A1"),
            (Key::Held("A1"), b"\x01\xaf\x62\x06A1"),
        ];
        for (key, golden) in cases {
            assert_eq!(key.encode().escape_ascii().to_string(), golden.escape_ascii().to_string());
            assert_eq!(Key::decode(golden).as_ref(), Ok(key));
        }
    }

    #[test]
    fn a_key_in_a_slot_that_is_not_its_own_is_refused() {
        let mut key = Key::Register("A1").encode();
        key[1] ^= 1;
        assert!(matches!(Key::decode(&key), Err(LayoutError::Slot { .. })));
    }

    #[test]
    fn a_zip_is_one_range_of_nothing_else() {
        let range = zip_range(ZIP_A);
        assert!(range.contains(&Key::Row(ZIP_A, "A").encode()));
        assert!(range.contains(&Key::Row(ZIP_A, "\u{10ffff}").encode()));
        assert!(!range.contains(&Key::Zip(ZIP_A).encode()));
        assert!(!range.contains(&Key::Row(Zip::Unknown, "A").encode()));
    }

    #[test]
    fn ranges_end_where_the_next_shard_begins() {
        let all = SlotRange { first: Slot(0), last: Slot(u16::MAX) };
        assert!(slots_range(all).contains(&[SLOT_SCOPE, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(shard_range(ShardId(1)).upper, shard_range(ShardId(2)).lower);
        assert!(shard_range(ShardId(u32::MAX)).contains(&Key::State(ShardId(u32::MAX)).encode()));
    }
}
