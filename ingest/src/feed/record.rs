//! The bytes of the feed's log: what a record is, and how it is framed.
//!
//! A segment file begins with [`SEGMENT_HEAD_BYTES`]: magic, version, number, CRC. Then records:
//! length (u32 LE) and CRC32C (u32 LE) of the payload, then the payload, whose first byte is its
//! kind. All integers are little-endian. Kinds are never reused.

use bytes::{BufMut, Bytes};
use platbook_protocol::TimeMs;

/// Bytes at the head of every segment.
pub(super) const SEGMENT_HEAD_BYTES: usize = 16;
/// Bytes before every payload.
pub(super) const RECORD_HEAD_BYTES: usize = 8;
/// Largest payload; what claims to be larger is damage.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const MAGIC: &[u8; 7] = b"PBFEED\n";
const VERSION: u8 = 1;

const KIND_MESSAGE: u8 = 1;
const KIND_DELETE: u8 = 2;
const KIND_QUEUE: u8 = 3;
const KIND_QUEUE_GONE: u8 = 4;

/// Where a record stands: segment number, then offset in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// One copy of a message in a queue: the record and which copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) location: Location,
    pub(super) copy: Copy,
}

/// Which copy of a message. A queue may deliver a message twice, and a copy may come back after
/// its delete; a copy that came back does not come back again, so that every queue runs empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Copy {
    First = 0,
    Second = 1,
    FirstBack = 2,
    SecondBack = 3,
}

impl Copy {
    pub(super) const ALL: [Copy; 4] =
        [Copy::First, Copy::Second, Copy::FirstBack, Copy::SecondBack];

    /// The copy that comes back after this one's delete.
    pub(super) fn back(self) -> Option<Copy> {
        match self {
            Copy::First => Some(Copy::FirstBack),
            Copy::Second => Some(Copy::SecondBack),
            Copy::FirstBack | Copy::SecondBack => None,
        }
    }

    pub(super) fn try_from_index(index: u8) -> Option<Copy> {
        Copy::ALL.get(usize::from(index)).copied()
    }
}

/// An accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) queue: u32,
    /// One, or two where the queue delivers it twice.
    pub(super) copies: u8,
    pub(super) sent: TimeMs,
    /// Not delivered before; equal to `sent` without a delay.
    pub(super) visible: TimeMs,
    pub(super) id: u128,
    pub(super) body_md5: [u8; 16],
    /// `AWSTraceHeader`, or empty.
    pub(super) trace: Bytes,
    /// The attributes as JSON object, or empty.
    pub(super) attributes: Bytes,
    /// The body as JSON string literal, quotes included: it came and goes in this form.
    pub(super) body: Bytes,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Message(Message),
    /// A copy is gone; with `back` its second life begins in the same moment.
    Delete {
        key: Key,
        back: bool,
    },
    /// A queue exists, with these attributes (JSON object). The last one counts.
    Queue {
        queue: u32,
        name: String,
        attributes: String,
    },
    QueueGone {
        queue: u32,
    },
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("record is cut off")]
    CutOff,
    #[error("record fails its checksum")]
    Checksum,
    #[error("record is malformed: {what}")]
    Malformed { what: &'static str },
}

/// The head of segment `number`.
pub(super) fn segment_head(number: u32) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = Vec::with_capacity(SEGMENT_HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.push(VERSION);
    head.put_u32_le(number);
    head.put_u32_le(crc32c::crc32c(&head));
    head.try_into().expect("7 + 1 + 4 + 4 bytes")
}

/// Appends a framed record.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    match record {
        Record::Message(m) => {
            out.put_u8(KIND_MESSAGE);
            out.put_u32_le(m.queue);
            out.put_u8(m.copies);
            out.put_u64_le(m.sent.0);
            out.put_u64_le(m.visible.0);
            out.put_u128_le(m.id);
            out.put_slice(&m.body_md5);
            out.put_u32_le(m.trace.len() as u32);
            out.put_slice(&m.trace);
            out.put_u32_le(m.attributes.len() as u32);
            out.put_slice(&m.attributes);
            out.put_slice(&m.body);
        }
        Record::Delete { key, back } => {
            out.put_u8(KIND_DELETE);
            out.put_u32_le(key.location.segment);
            out.put_u32_le(key.location.offset);
            out.put_u8(key.copy as u8);
            out.put_u8(u8::from(*back));
        }
        Record::Queue { queue, name, attributes } => {
            out.put_u8(KIND_QUEUE);
            out.put_u32_le(*queue);
            out.put_u8(name.len() as u8);
            out.put_slice(name.as_bytes());
            out.put_slice(attributes.as_bytes());
        }
        Record::QueueGone { queue } => {
            out.put_u8(KIND_QUEUE_GONE);
            out.put_u32_le(*queue);
        }
    }
    let payload = start + RECORD_HEAD_BYTES;
    let len = (out.len() - payload) as u32;
    let crc = crc32c::crc32c(&out[payload..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..payload].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the framed record at the start of `bytes`; gives it and its framed length.
pub(super) fn decode(bytes: &Bytes) -> Result<(Record, usize), BadRecord> {
    let len = payload_len(bytes)?;
    let end = RECORD_HEAD_BYTES + len;
    if bytes.len() < end {
        return Err(BadRecord::CutOff);
    }
    let crc = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let payload = bytes.slice(RECORD_HEAD_BYTES..end);
    if crc32c::crc32c(&payload) != crc {
        return Err(BadRecord::Checksum);
    }
    let mut fields = Fields { rest: payload };
    Ok((fields.record()?, end))
}

/// Length of the payload that a record's head announces.
pub(super) fn payload_len(bytes: &[u8]) -> Result<usize, BadRecord> {
    let Some((head, _)) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>() else {
        return Err(BadRecord::CutOff);
    };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    // A payload has at least its kind; a preallocated or zeroed tail has none.
    match (1..=PAYLOAD_BYTES_MAX).contains(&len) {
        true => Ok(len),
        false => Err(BadRecord::Malformed { what: "impossible length" }),
    }
}

/// Takes fields off a payload.
struct Fields {
    rest: Bytes,
}

impl Fields {
    fn take(&mut self, len: usize) -> Result<Bytes, BadRecord> {
        if self.rest.len() < len {
            return Err(BadRecord::Malformed { what: "field is cut off" });
        }
        Ok(self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        Ok(self.take(N)?.as_ref().try_into().expect("N bytes were taken"))
    }

    fn byte(&mut self) -> Result<u8, BadRecord> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, BadRecord> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadRecord> {
        self.array().map(u64::from_le_bytes)
    }

    fn prefixed(&mut self) -> Result<Bytes, BadRecord> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    fn text(bytes: Bytes) -> Result<String, BadRecord> {
        String::from_utf8(bytes.into()).map_err(|_| BadRecord::Malformed { what: "not text" })
    }

    fn record(&mut self) -> Result<Record, BadRecord> {
        let record = match self.byte()? {
            KIND_MESSAGE => Record::Message(Message {
                queue: self.u32()?,
                copies: self.byte()?,
                sent: TimeMs(self.u64()?),
                visible: TimeMs(self.u64()?),
                id: u128::from_le_bytes(self.array()?),
                body_md5: self.array()?,
                trace: self.prefixed()?,
                attributes: self.prefixed()?,
                body: self.rest(),
            }),
            KIND_DELETE => {
                let location = Location { segment: self.u32()?, offset: self.u32()? };
                let copy = Copy::try_from_index(self.byte()?)
                    .ok_or(BadRecord::Malformed { what: "no such copy" })?;
                Record::Delete { key: Key { location, copy }, back: self.byte()? != 0 }
            }
            KIND_QUEUE => {
                let queue = self.u32()?;
                let len = usize::from(self.byte()?);
                let name = Fields::text(self.take(len)?)?;
                Record::Queue { queue, name, attributes: Fields::text(self.rest())? }
            }
            KIND_QUEUE_GONE => Record::QueueGone { queue: self.u32()? },
            _ => return Err(BadRecord::Malformed { what: "unknown kind" }),
        };
        match self.rest.is_empty() {
            true => Ok(record),
            false => Err(BadRecord::Malformed { what: "bytes left over" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record; 4] {
        let location = Location { segment: 2, offset: 0x0102_0304 };
        [
            Record::Message(Message {
                queue: 1,
                copies: 2,
                sent: TimeMs(3),
                visible: TimeMs(4),
                id: 5,
                body_md5: [6; 16],
                trace: Bytes::from_static(b"t"),
                attributes: Bytes::from_static(b"{}"),
                body: Bytes::from_static(b"\"b\""),
            }),
            Record::Delete { key: Key { location, copy: Copy::Second }, back: true },
            Record::Queue { queue: 9, name: "q".into(), attributes: "{}".into() },
            Record::QueueGone { queue: 9 },
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_the_ones_that_disks_were_written_with() {
        let golden = [
            concat!(
                "440000000ba5e260010100000002030000000000000004000000000000000500",
                "0000000000000000000000000000060606060606060606060606060606060100",
                "000074020000007b7d226222",
            ),
            "0b0000003883b7130202000000040302010101",
            "090000008e84d05f030900000001717b7d",
            "05000000db01368e0409000000",
        ];
        assert_eq!(hex(&segment_head(7)), "5042464545440a010700000015e2b34f");
        for (record, expected) in records().iter().zip(golden) {
            let mut out = Vec::new();
            encode(record, &mut out);
            assert_eq!(hex(&out), expected);
        }
    }

    #[test]
    fn what_was_written_is_read_and_every_cut_or_flipped_bit_is_noticed() {
        for record in records() {
            let mut out = Vec::new();
            encode(&record, &mut out);
            let whole = Bytes::from(out.clone());
            assert_eq!(decode(&whole), Ok((record, out.len())));
            for cut in 0..out.len() {
                assert!(decode(&whole.slice(..cut)).is_err());
            }
            for at in 0..out.len() * 8 {
                let mut flipped = out.clone();
                flipped[at / 8] ^= 1 << (at % 8);
                assert!(decode(&Bytes::from(flipped)).is_err(), "bit {at}");
            }
        }
    }
}
