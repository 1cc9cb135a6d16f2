//! The change stream as `application/vnd.platbook.changes`: records behind their lengths, listings
//! as the frames that the store keeps.
//!
//! ```text
//! record = [length of the rest u32 LE][kind u8][content]
//!   kind 0, head, the first: [version u8 = 1]
//!   kind 1, control: a JSON object, as a control line
//!   kind 2, change or row: [op u8][reason u8][filter u8]
//!           [shard u32][seq u64][prev u64][revision u64][at u64]
//!           [ZIP: length u8, bytes][id: length u8, bytes][moved to: length u8, bytes; 0 none]
//!           [before: length u16, summary; 0 none][after: length u16, summary; 0 none]
//!           [frame, to the end; empty where no listing is told]
//!   kind 3, dictionary: [id u32][bytes, to the end]: it comes before the first frame that needs it
//! op: 1 upsert, 2 delete; reason: 1 feed, 2 moved, 3 state
//! filter: 0 none, 1 enter, 2 update, 3 leave
//! ```
//! Numbers are little-endian. Records of another kind are of a later version, to be passed over.

use crate::follow::TOLD_BYTES_MAX;
use crate::{Revision, Seq, ShardId, TimeMs};

/// Media type of the stream.
pub const MEDIA_TYPE: &str = "application/vnd.platbook.changes";
/// Longest record, its length left out: what one message of a node may have.
pub const RECORD_BYTES_MAX: usize = TOLD_BYTES_MAX;
/// Bytes of a record's length.
pub const LENGTH_BYTES: usize = 4;

const VERSION: u8 = 1;
const HEAD: u8 = 0;
const CONTROL: u8 = 1;
const CHANGE: u8 = 2;
const DICTIONARY: u8 = 3;

/// What happened to a listing in a ZIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOp {
    /// It is there, like this.
    Upsert = 1,
    /// It is no longer there.
    Delete = 2,
}

/// Why a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordReason {
    /// The operator said so.
    Feed = 1,
    /// It went to another ZIP.
    Moved = 2,
    /// It is present state.
    State = 3,
}

/// How a listing passes a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPassage {
    /// It passes now.
    Enter = 1,
    /// It passed before, and does now.
    Update = 2,
    /// It passes no longer.
    Leave = 3,
}

/// A change, or a row of present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordChange<'a> {
    /// What happened.
    pub op: RecordOp,
    /// Why it is told.
    pub reason: RecordReason,
    /// How it passes the reader's filter; `None` without one.
    pub passage: Option<RecordPassage>,
    /// The shard of the ZIP.
    pub shard: ShardId,
    /// Number of the change in its shard; of a row, of its last change.
    pub seq: Seq,
    /// The change before it in the same ZIP; 0 for none, and for rows.
    pub prev: Seq,
    /// The listing's revision after it.
    pub revision: Revision,
    /// When it was decided; 0 for rows.
    pub at: TimeMs,
    /// The ZIP, as text.
    pub zip: &'a str,
    /// The listing.
    pub id: &'a str,
    /// The ZIP to which it moved.
    pub moved_to: Option<&'a str>,
    /// Encoded summary of what stood there before.
    pub before: Option<&'a [u8]>,
    /// Encoded summary of what stands there.
    pub after: Option<&'a [u8]>,
    /// The listing's frame; empty where none is told.
    pub frame: &'a [u8],
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The first.
    Head,
    /// A control line's object.
    Control(&'a [u8]),
    /// A change, or a row.
    Change(RecordChange<'a>),
    /// A dictionary that later frames need.
    Dictionary {
        /// Its id.
        id: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
}

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length that no record has.
    #[error("a record claims {bytes} bytes, 1 to {RECORD_BYTES_MAX} are possible")]
    Length {
        /// Bytes claimed.
        bytes: usize,
    },
    /// It ends within its content.
    #[error("a record ends too early")]
    Truncated,
    /// It goes on behind its content.
    #[error("a record has {bytes} bytes too many")]
    Trailing {
        /// Bytes left.
        bytes: usize,
    },
    /// A version of another build.
    #[error("the stream has version {found}, this process reads {VERSION}")]
    Version {
        /// Version found.
        found: u8,
    },
    /// A word that there is not.
    #[error("{found} is no {what}")]
    Word {
        /// Which one.
        what: &'static str,
        /// Byte found.
        found: u8,
    },
    /// A text that is no UTF-8.
    #[error("{what} is no UTF-8")]
    Text {
        /// Which one.
        what: &'static str,
    },
}

/// The length of the record at the front of `bytes`, without the length itself; `None` where not
/// even that is there.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(head) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_le_bytes(*head) as usize;
    match (1..=RECORD_BYTES_MAX).contains(&bytes) {
        true => Ok(Some(bytes)),
        false => Err(RecordError::Length { bytes }),
    }
}

impl<'a> Record<'a> {
    /// Appends the record behind its length.
    ///
    /// # Panics
    /// If a text is longer than 255 bytes or a summary than 65,535: the store keeps none.
    pub fn push(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        match self {
            Record::Head => out.extend_from_slice(&[HEAD, VERSION]),
            Record::Control(json) => {
                out.push(CONTROL);
                out.extend_from_slice(json);
            }
            Record::Change(change) => {
                out.push(CHANGE);
                change.push(out);
            }
            Record::Dictionary { id, bytes } => {
                out.push(DICTIONARY);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(bytes);
            }
        }
        let bytes = (out.len() - start - LENGTH_BYTES) as u32;
        out[start..start + LENGTH_BYTES].copy_from_slice(&bytes.to_le_bytes());
    }

    /// Reads a record without its length; `None` for one of a kind that this build does not know.
    pub fn read(bytes: &'a [u8]) -> Result<Option<Record<'a>>, RecordError> {
        let Some((kind, rest)) = bytes.split_first() else { return Err(RecordError::Truncated) };
        let mut reader = Reader { rest };
        let record = match *kind {
            HEAD => {
                // Whatever a later version has behind its number is not for us to judge.
                let version = reader.u8()?;
                if version != VERSION {
                    return Err(RecordError::Version { found: version });
                }
                Record::Head
            }
            CONTROL => Record::Control(reader.take_rest()),
            CHANGE => Record::Change(RecordChange::read(&mut reader)?),
            DICTIONARY => {
                let id = u32::from_le_bytes(reader.array()?);
                Record::Dictionary { id, bytes: reader.take_rest() }
            }
            _ => return Ok(None),
        };
        match reader.rest.len() {
            0 => Ok(Some(record)),
            bytes => Err(RecordError::Trailing { bytes }),
        }
    }
}

impl<'a> RecordChange<'a> {
    fn push(&self, out: &mut Vec<u8>) {
        let passage = self.passage.map_or(0, |passage| passage as u8);
        out.extend_from_slice(&[self.op as u8, self.reason as u8, passage]);
        out.extend_from_slice(&self.shard.0.to_le_bytes());
        for number in [self.seq.0, self.prev.0, self.revision.0, self.at.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for text in [self.zip, self.id, self.moved_to.unwrap_or_default()] {
            out.push(u8::try_from(text.len()).expect("no id or ZIP is longer than 255 bytes"));
            out.extend_from_slice(text.as_bytes());
        }
        for summary in [self.before, self.after] {
            let summary = summary.unwrap_or_default();
            let bytes = u16::try_from(summary.len()).expect("no summary is longer than 65,535");
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(summary);
        }
        out.extend_from_slice(self.frame);
    }

    fn read(reader: &mut Reader<'a>) -> Result<RecordChange<'a>, RecordError> {
        let op = match reader.u8()? {
            1 => RecordOp::Upsert,
            2 => RecordOp::Delete,
            found => return Err(RecordError::Word { what: "op", found }),
        };
        let reason = match reader.u8()? {
            1 => RecordReason::Feed,
            2 => RecordReason::Moved,
            3 => RecordReason::State,
            found => return Err(RecordError::Word { what: "reason", found }),
        };
        let passage = match reader.u8()? {
            0 => None,
            1 => Some(RecordPassage::Enter),
            2 => Some(RecordPassage::Update),
            3 => Some(RecordPassage::Leave),
            found => return Err(RecordError::Word { what: "filter", found }),
        };
        let shard = ShardId(u32::from_le_bytes(reader.array()?));
        let (seq, prev) = (Seq(reader.u64()?), Seq(reader.u64()?));
        let (revision, at) = (Revision(reader.u64()?), TimeMs(reader.u64()?));
        let (zip, id) = (reader.text("a ZIP")?, reader.text("an id")?);
        let moved_to = Some(reader.text("a ZIP")?).filter(|zip| !zip.is_empty());
        let (before, after) = (reader.summary()?, reader.summary()?);
        let frame = reader.take_rest();
        Ok(RecordChange {
            op,
            reason,
            passage,
            shard,
            seq,
            prev,
            revision,
            at,
            zip,
            id,
            moved_to,
            before,
            after,
            frame,
        })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        let bytes = usize::from(self.u8()?);
        std::str::from_utf8(self.take(bytes)?).map_err(|_| RecordError::Text { what })
    }

    fn summary(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let bytes = usize::from(u16::from_le_bytes(self.array()?));
        let summary = self.take(bytes)?;
        Ok(Some(summary).filter(|summary| !summary.is_empty()))
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change<'a>(zip: &'a str, id: &'a str, frame: &'a [u8]) -> RecordChange<'a> {
        RecordChange {
            op: RecordOp::Delete,
            reason: RecordReason::Moved,
            passage: Some(RecordPassage::Leave),
            shard: ShardId(1),
            seq: Seq(2),
            prev: Seq(3),
            revision: Revision(4),
            at: TimeMs(5),
            zip,
            id,
            moved_to: Some("98004"),
            before: Some(b"was"),
            after: None,
            frame,
        }
    }

    #[test]
    fn records_have_the_bytes_that_readers_build_on() {
        let mut out = Vec::new();
        Record::Head.push(&mut out);
        Record::Control(b"{}").push(&mut out);
        Record::Dictionary { id: 7, bytes: b"words" }.push(&mut out);
        Record::Change(change("98103", "a", b"frame")).push(&mut out);
        let golden = [
            &b"\x02\0\0\0\x00\x01"[..],
            b"\x03\0\0\0\x01{}",
            b"\x0a\0\0\0\x03\x07\0\0\0words",
            b"\x42\0\0\0\x02\x02\x02\x03\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0",
            b"\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x0598103\x01a\x0598004\x03\0was\0\0frame",
        ]
        .concat();
        assert_eq!(out.escape_ascii().to_string(), golden.escape_ascii().to_string());
    }

    #[test]
    fn what_is_no_record_is_an_error_and_a_later_kind_is_passed_over() {
        assert_eq!(length(&[1, 0, 0]), Ok(None));
        assert_eq!(length(&[0; 4]), Err(RecordError::Length { bytes: 0 }));
        assert_eq!(length(&[0xff; 4]), Err(RecordError::Length { bytes: u32::MAX as usize }));
        assert_eq!(Record::read(b""), Err(RecordError::Truncated));
        assert_eq!(Record::read(b"\x00\x02"), Err(RecordError::Version { found: 2 }));
        assert_eq!(Record::read(b"\x00\x01x"), Err(RecordError::Trailing { bytes: 1 }));
        assert_eq!(Record::read(b"\x09whatever"), Ok(None));
        for (at, what) in [(1, "op"), (2, "reason"), (3, "filter")] {
            let mut out = Vec::new();
            Record::Change(change("98103", "a", b"")).push(&mut out);
            out[LENGTH_BYTES + at] = 9;
            let error = RecordError::Word { what, found: 9 };
            assert_eq!(Record::read(&out[LENGTH_BYTES..]), Err(error));
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_a_cut_is_seen(
            zip in "[0-9]{5}", id in ".{1,60}", numbers: (u32, u64, u64, u64, u64),
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 0..40),
            frame in proptest::collection::vec(any::<u8>(), 0..99),
            cut: prop::sample::Index,
        ) {
            let (shard, seq, prev, revision, at) = numbers;
            let change = RecordChange {
                shard: ShardId(shard),
                seq: Seq(seq),
                prev: Seq(prev),
                revision: Revision(revision),
                at: TimeMs(at),
                before: Some(&before[..]).filter(|summary| !summary.is_empty()),
                after: Some(&after[..]).filter(|summary| !summary.is_empty()),
                ..change(&zip, &id, &frame)
            };
            let mut out = Vec::new();
            Record::Change(change).push(&mut out);
            prop_assert_eq!(length(&out), Ok(Some(out.len() - LENGTH_BYTES)));
            let bytes = &out[LENGTH_BYTES..];
            prop_assert_eq!(Record::read(bytes), Ok(Some(Record::Change(change))));
            // Before its frame a record cannot be cut without being noticed.
            let head = &bytes[..cut.index(bytes.len() - frame.len())];
            prop_assert!(Record::read(head).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(
            kind in 0..5u8, bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [&[kind][..], &bytes].concat();
            if let Ok(Some(record)) = Record::read(&bytes) {
                let mut out = Vec::new();
                record.push(&mut out);
                prop_assert_eq!(&out[LENGTH_BYTES..], &bytes[..]);
            }
        }
    }
}
