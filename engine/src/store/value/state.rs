//! Where a shard stands: applied position, change number, horizons, totals, membership.

use bytes::Bytes;
use platbook_protocol::{ReplicaId, Revision, Seq, TimeMs};

use crate::store::Position;
use crate::store::layout::{LayoutError, Reader, Writer};

/// Of membership and owner.
const VERSION: u8 = 1;
/// Of the state; the one before lacks the last collected marker.
const STATE_VERSION: u8 = 2;
const STATE_VERSION_1: u8 = 1;

/// The replicated numbers of a shard, written with every batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct State {
    /// Last applied entry.
    pub(in crate::store) position: Option<Position>,
    /// Last change.
    pub(in crate::store) seq: Seq,
    /// Writes below it to anything but a live row are refused.
    pub(in crate::store) horizon: Revision,
    /// Greatest revision of a collected register.
    pub(in crate::store) floor: Revision,
    /// Messages for unknown ids queued before it are too old.
    pub(in crate::store) register_horizon: TimeMs,
    /// Messages in the quarantine.
    pub(in crate::store) quarantine_count: u64,
    /// Bytes of their keys and records.
    pub(in crate::store) quarantine_bytes: u64,
    /// Newest dictionary; 0 before the first.
    pub(in crate::store) dictionary: u32,
    /// Greatest change whose marker was collected: of every later one that left nothing but a
    /// marker the marker is still there.
    pub(in crate::store) markers_behind: Seq,
}

impl State {
    /// `[version][position][seq][horizon][floor][register horizon][quarantine count, bytes]
    /// [dictionary u32][markers behind]`, all other numbers u64 LE.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        write_position(Writer::versioned(STATE_VERSION), self.position)
            .u64(self.seq.0)
            .u64(self.horizon.0)
            .u64(self.floor.0)
            .u64(self.register_horizon.0)
            .u64(self.quarantine_count)
            .u64(self.quarantine_bytes)
            .u32(self.dictionary)
            .u64(self.markers_behind.0)
            .done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<State, LayoutError> {
        let is_old = bytes.first() == Some(&STATE_VERSION_1);
        let known = if is_old { STATE_VERSION_1 } else { STATE_VERSION };
        let mut reader = Reader::versioned(bytes, known)?;
        let mut state = State {
            position: read_position(&mut reader)?,
            seq: Seq(reader.u64()?),
            horizon: Revision(reader.u64()?),
            floor: Revision(reader.u64()?),
            register_horizon: TimeMs(reader.u64()?),
            quarantine_count: reader.u64()?,
            quarantine_bytes: reader.u64()?,
            dictionary: reader.u32()?,
            markers_behind: Seq(0),
        };
        // What was collected by then is not known: all of it may have been.
        state.markers_behind = if is_old { state.seq } else { Seq(reader.u64()?) };
        reader.end()?;
        Ok(state)
    }
}

/// The last membership entry, opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Membership {
    /// Where it stands in the log.
    pub(in crate::store) position: Option<Position>,
    /// As given.
    pub(in crate::store) bytes: Bytes,
}

impl Membership {
    /// `[version][position][bytes]`.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        write_position(Writer::versioned(VERSION), self.position).bytes(&self.bytes).done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Membership, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let position = read_position(&mut reader)?;
        Ok(Membership { position, bytes: Bytes::copy_from_slice(reader.rest()) })
    }
}

/// `[version][replica u64]`.
pub(in crate::store) fn encode_replica(replica: ReplicaId) -> Vec<u8> {
    Writer::versioned(VERSION).u64(replica.0).done()
}

pub(in crate::store) fn decode_replica(bytes: &[u8]) -> Result<ReplicaId, LayoutError> {
    let mut reader = Reader::versioned(bytes, VERSION)?;
    let replica = ReplicaId(reader.u64()?);
    reader.end()?;
    Ok(replica)
}

/// `[0]` for none, else `[1][term u64][index u64]`.
fn write_position(writer: Writer, position: Option<Position>) -> Writer {
    match position {
        None => writer.u8(0),
        Some(position) => writer.u8(1).u64(position.term).u64(position.index),
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<Option<Position>, LayoutError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Position { term: reader.u64()?, index: reader.u64()? })),
        found => Err(LayoutError::Tag { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_has_the_bytes_that_disks_were_written_with() {
        let state = State {
            position: Some(Position { term: 1, index: 2 }),
            seq: Seq(3),
            horizon: Revision(4),
            floor: Revision(5),
            register_horizon: TimeMs(6),
            quarantine_count: 7,
            quarantine_bytes: 8,
            dictionary: 9,
            markers_behind: Seq(10),
        };
        let mut golden = vec![2, 1];
        for number in 1..=8u64 {
            golden.extend_from_slice(&number.to_le_bytes());
        }
        golden.extend_from_slice(&[9, 0, 0, 0]);
        let mut old = golden.clone();
        old[0] = 1;
        assert_eq!(State::decode(&old), Ok(State { markers_behind: Seq(3), ..state }));
        golden.extend_from_slice(&[10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(state.encode(), golden);
        assert_eq!(State::decode(&golden), Ok(state));
        assert_eq!(State::decode(&State::default().encode()), Ok(State::default()));
        golden.push(0);
        assert_eq!(State::decode(&golden), Err(LayoutError::Trailing { bytes: 1 }));
        golden[0] = 3;
        assert_eq!(State::decode(&golden), Err(LayoutError::Version { found: 3, known: 2 }));
    }

    #[test]
    fn membership_and_owner_have_the_bytes_that_disks_were_written_with() {
        let membership = Membership { position: None, bytes: Bytes::from_static(b"voters") };
        assert_eq!(membership.encode(), b"\x01\0voters");
        assert_eq!(Membership::decode(b"\x01\0voters"), Ok(membership));
        assert_eq!(encode_replica(ReplicaId(7)), b"\x01\x07\0\0\0\0\0\0\0");
        assert_eq!(decode_replica(b"\x01\x07\0\0\0\0\0\0\0"), Ok(ReplicaId(7)));
    }
}
