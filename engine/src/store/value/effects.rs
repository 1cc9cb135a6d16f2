//! What one log entry changed: enough to follow rows without reading them.

use platbook_protocol::follow::ChangeKind;
use platbook_protocol::{Revision, Seq, TimeMs, Zip};

use crate::store::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;
const CREATED: u8 = 1;
const UPDATED: u8 = 2;
const DELETED: u8 = 3;
const MOVED: u8 = 4;

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Place of the operation in the entry; the row's body stands there.
    pub ordinal: u32,
    /// Its dense number in the shard.
    pub seq: Seq,
    /// Seq of the previous change of the same ZIP; 0 for none.
    pub prev: Seq,
    /// What it did.
    pub kind: ChangeKind,
    /// The ZIP.
    pub zip: Zip,
    /// The listing.
    pub id: String,
    /// The row's revision after it.
    pub revision: Revision,
    /// Encoded summary of the listing before it; `None` where the ZIP did not have it.
    pub before: Option<Vec<u8>>,
}

/// All changes of one entry; entries without changes have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects {
    /// The proposer's clock.
    pub clock: TimeMs,
    /// In the order of their seqs, which are dense.
    pub changes: Vec<Change>,
}

impl Effects {
    /// `[version][clock][first seq][count u32]`, then each change: `[ordinal u32][kind][ZIP moved
    /// to, or none][revision][prev][ZIP][id length u16][id]` and `[0]`, or `[1][summary length
    /// u16][summary before]`.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let first = self.changes.first().map_or(0, |change| change.seq.0);
        let mut writer =
            Writer::versioned(VERSION).u64(self.clock.0).u64(first).u32(self.changes.len() as u32);
        for change in &self.changes {
            let (kind, to) = match &change.kind {
                ChangeKind::Created => (CREATED, None),
                ChangeKind::Updated => (UPDATED, None),
                ChangeKind::Deleted => (DELETED, None),
                ChangeKind::Moved { to } => (MOVED, Some(to)),
            };
            writer = writer
                .u32(change.ordinal)
                .u8(kind)
                .maybe_zip(to)
                .u64(change.revision.0)
                .u64(change.prev.0)
                .maybe_zip(Some(&change.zip))
                .bytes16(change.id.as_bytes());
            writer = match &change.before {
                None => writer.u8(0),
                Some(summary) => writer.u8(1).bytes16(summary),
            };
        }
        writer.done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Effects, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let clock = TimeMs(reader.u64()?);
        let first = reader.u64()?;
        let count = u64::from(reader.u32()?);
        let mut changes = Vec::new();
        for i in 0..count {
            changes.push(decode_change(&mut reader, Seq(first.wrapping_add(i)))?);
        }
        reader.end()?;
        Ok(Effects { clock, changes })
    }

    /// The first seq of encoded effects, without reading the rest.
    pub(in crate::store) fn decode_first_seq(bytes: &[u8]) -> Result<Seq, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        reader.u64()?;
        reader.u64().map(Seq)
    }
}

fn decode_change(reader: &mut Reader<'_>, seq: Seq) -> Result<Change, LayoutError> {
    let ordinal = reader.u32()?;
    let kind = match (reader.u8()?, reader.maybe_zip()?) {
        (CREATED, None) => ChangeKind::Created,
        (UPDATED, None) => ChangeKind::Updated,
        (DELETED, None) => ChangeKind::Deleted,
        (MOVED, Some(to)) => ChangeKind::Moved { to },
        (found, _) => return Err(LayoutError::Tag { found }),
    };
    let revision = Revision(reader.u64()?);
    let prev = Seq(reader.u64()?);
    let zip = reader.zip()?;
    let id = reader.text16()?.to_string();
    let before = match reader.u8()? {
        0 => None,
        1 => {
            let len = reader.u16()?;
            Some(reader.bytes(usize::from(len))?.to_vec())
        }
        found => return Err(LayoutError::Tag { found }),
    };
    Ok(Change { ordinal, seq, prev, kind, zip, id, revision, before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_have_the_bytes_that_disks_were_written_with() {
        let zip = Zip::Code(*b"94110");
        let change = |ordinal, seq, kind, before| Change {
            ordinal,
            seq: Seq(seq),
            prev: Seq(6),
            kind,
            zip,
            id: "A1".to_string(),
            revision: Revision(5),
            before,
        };
        let effects = Effects {
            clock: TimeMs(9),
            changes: vec![
                change(0, 7, ChangeKind::Created, None),
                change(2, 8, ChangeKind::Moved { to: Zip::Unknown }, Some(b"sum".to_vec())),
            ],
        };
        let golden = [
            &b"\x01\x09\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0"[..],
            b"\0\0\0\0\x01\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x0594110\x02\0A1\0",
            b"\x02\0\0\0\x04\x07unknown\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x0594110\x02\0A1",
            b"\x01\x03\0sum",
        ]
        .concat();
        assert_eq!(effects.encode(), golden);
        assert_eq!(Effects::decode(&golden).as_ref(), Ok(&effects));
        assert_eq!(Effects::decode_first_seq(&golden), Ok(Seq(7)));
        for cut in 0..golden.len() {
            assert!(Effects::decode(&golden[..cut]).is_err(), "cut at {cut}");
        }
    }
}
