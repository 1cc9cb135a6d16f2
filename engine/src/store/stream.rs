//! The bytes of a snapshot on its way from one replica to another.
//!
//! ```text
//! frame = [kind u8][payload length u32][CRC32C of kind, length and payload u32][payload], LE
//!   kind 1, head: [version u8 = 1][shard u32][0] or [version][shard][1][first slot u16][last u16]
//!   kind 2, entries: each [key length u32][value length u32][key][value], keys ascending over
//!           the whole stream
//!   kind 3, end: [entries u64][bytes of keys and values u64]
//! ```

use platbook_protocol::{ShardId, Slot, SlotRange};

use super::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;
const HEAD: u8 = 1;
const ENTRIES: u8 = 2;
const END: u8 = 3;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// Largest payload that is believed; above all that one message can hold.
pub(super) const PAYLOAD_BYTES_MAX: usize = 80 << 20;

/// What is wrong with a received snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream ended before its end mark.
    #[error("snapshot is cut off")]
    Truncated,
    /// Bytes follow the end mark.
    #[error("snapshot goes on behind its end")]
    Trailing,
    /// A frame is damaged.
    #[error("frame {frame} has a wrong checksum")]
    Checksum {
        /// Its number, from 0.
        frame: u64,
    },
    /// A frame claims an impossible length.
    #[error("frame {frame} claims {bytes} bytes")]
    FrameTooLong {
        /// Its number, from 0.
        frame: u64,
        /// Bytes claimed.
        bytes: usize,
    },
    /// A frame cannot be read.
    #[error("frame {frame} is malformed")]
    Malformed {
        /// Its number, from 0.
        frame: u64,
        /// What is wrong with it.
        #[source]
        source: LayoutError,
    },
    /// A frame stands where its kind may not stand.
    #[error("frame {frame} of kind {kind} is out of place")]
    OutOfPlace {
        /// Its number, from 0.
        frame: u64,
        /// Its kind.
        kind: u8,
    },
    /// The snapshot is of other slots or another shard.
    #[error("snapshot is of shard {found}, or of other slots")]
    WrongShard {
        /// Shard found.
        found: ShardId,
    },
    /// A key is foreign, local to a replica, or not behind the one before.
    #[error("entry {entry} has a key that does not belong there")]
    Key {
        /// Its number, from 0.
        entry: u64,
    },
    /// Totals differ: something is missing or repeated.
    #[error("snapshot holds {found} entries, its end says {said}")]
    Totals {
        /// Entries found.
        found: u64,
        /// Entries said.
        said: u64,
    },
    /// No applied position inside.
    #[error("snapshot has no state")]
    NoState,
}

/// One frame without its wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Head { shard: ShardId, slots: Option<SlotRange> },
    Entries(&'a [u8]),
    End { entries: u64, bytes: u64 },
}

/// Appends an entry to the payload of an entries frame.
pub(super) fn push_entry(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
    payload.extend_from_slice(&(value.len() as u32).to_le_bytes());
    payload.extend_from_slice(key);
    payload.extend_from_slice(value);
}

/// Walks the entries of a payload.
pub(super) fn entries(payload: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), LayoutError>> {
    let mut reader = Reader::new(payload);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let entry = read_entry(&mut reader);
        if entry.is_err() {
            reader.rest();
        }
        Some(entry)
    })
}

fn read_entry<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), LayoutError> {
    let key_len = reader.u32()? as usize;
    let value_len = reader.u32()? as usize;
    Ok((reader.bytes(key_len)?, reader.bytes(value_len)?))
}

impl Frame<'_> {
    /// The bytes of the frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Frame::Head { shard, slots } => {
                let writer = Writer::versioned(VERSION).u32(shard.0);
                let writer = match slots {
                    None => writer.u8(0),
                    Some(slots) => writer.u8(1).u16(slots.first.0).u16(slots.last.0),
                };
                wrap(HEAD, &writer.done())
            }
            Frame::Entries(payload) => wrap(ENTRIES, payload),
            Frame::End { entries, bytes } => {
                wrap(END, &Writer::default().u64(*entries).u64(*bytes).done())
            }
        }
    }
}

pub(super) fn wrap(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(&out, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// Takes frame number `number` off the front of `buffer`: the frame and its bytes, or `None` where
/// more bytes are needed.
pub(super) fn next_frame(
    buffer: &[u8],
    number: u64,
) -> Result<Option<(Frame<'_>, usize)>, StreamError> {
    let Some((head, rest)) = buffer.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(None);
    };
    let [kind, len @ .., c0, c1, c2, c3] = *head;
    let bytes = u32::from_le_bytes(len) as usize;
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(StreamError::FrameTooLong { frame: number, bytes });
    }
    let Some(payload) = rest.get(..bytes) else { return Ok(None) };
    if checksum(&head[..5], payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(StreamError::Checksum { frame: number });
    }
    let frame = match kind {
        HEAD => read_head(payload),
        ENTRIES => Ok(Frame::Entries(payload)),
        END => read_end(payload),
        kind => return Err(StreamError::OutOfPlace { frame: number, kind }),
    };
    let frame = frame.map_err(|source| StreamError::Malformed { frame: number, source })?;
    Ok(Some((frame, FRAME_HEAD_BYTES + bytes)))
}

fn read_head(payload: &[u8]) -> Result<Frame<'_>, LayoutError> {
    let mut reader = Reader::versioned(payload, VERSION)?;
    let shard = ShardId(reader.u32()?);
    let slots = match reader.u8()? {
        0 => None,
        1 => Some(SlotRange { first: Slot(reader.u16()?), last: Slot(reader.u16()?) }),
        found => return Err(LayoutError::Tag { found }),
    };
    reader.end()?;
    Ok(Frame::Head { shard, slots })
}

fn read_end(payload: &[u8]) -> Result<Frame<'_>, LayoutError> {
    let mut reader = Reader::new(payload);
    let frame = Frame::End { entries: reader.u64()?, bytes: reader.u64()? };
    reader.end()?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_bytes_that_peers_send() {
        let slots = Some(SlotRange { first: Slot(1), last: Slot(2) });
        let head = Frame::Head { shard: ShardId(7), slots };
        let golden = b"\x01\x0a\0\0\0\x0a\x84\x4b\xf9\x01\x07\0\0\0\x01\x01\0\x02\0";
        assert_eq!(head.encode().escape_ascii().to_string(), golden.escape_ascii().to_string());
        let mut payload = Vec::new();
        push_entry(&mut payload, b"k", b"value");
        assert_eq!(payload, b"\x01\0\0\0\x05\0\0\0kvalue");
        for frame in [head, Frame::Entries(&payload), Frame::End { entries: 1, bytes: 6 }] {
            let bytes = frame.encode();
            assert_eq!(next_frame(&bytes, 0), Ok(Some((frame, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(next_frame(&bytes[..cut], 0), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = Frame::End { entries: 1, bytes: 6 }.encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A greater length asks for bytes that never come; the end of the stream tells.
            assert!(!matches!(next_frame(&damaged, 0), Ok(Some(_))), "bit {bit}");
        }
    }
}
