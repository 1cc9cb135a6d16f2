//! A stored row: a live listing with its body, or a marker. And the totals of a ZIP.

use platbook_protocol::row::Row;
use platbook_protocol::{Digest, Revision, Seq, TimeMs, Zip};

use crate::store::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;
const LIVE: u8 = 1;
const MARKER: u8 = 2;

/// A row without its frame, which stands last so that it can be sliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct RowRecord<'a> {
    /// What stands there.
    pub(in crate::store) row: Row,
    /// Seq of the row's last change; 0 for a marker laid over nothing.
    pub(in crate::store) seq: Seq,
    /// Where a moved listing went, for markers.
    pub(in crate::store) moved_to: Option<Zip>,
    /// Encoded summary; empty for markers.
    pub(in crate::store) summary: &'a [u8],
}

impl<'a> RowRecord<'a> {
    /// `[version][1][revision][seq][digest 16][summary length u16][summary]`, then the frame; or
    /// `[version][2][revision][seq][laid][ZIP moved to or none]`.
    pub(in crate::store) fn encode_head(&self) -> Vec<u8> {
        match self.row {
            Row::Live { revision, digest } => Writer::versioned(VERSION)
                .u8(LIVE)
                .u64(revision.0)
                .u64(self.seq.0)
                .bytes(&digest.0)
                .bytes16(self.summary)
                .done(),
            Row::Marker { revision, laid } => Writer::versioned(VERSION)
                .u8(MARKER)
                .u64(revision.0)
                .u64(self.seq.0)
                .u64(laid.0)
                .maybe_zip(self.moved_to.as_ref())
                .done(),
        }
    }

    /// Reads a row; the frame is what is left.
    pub(in crate::store) fn decode(
        bytes: &'a [u8],
    ) -> Result<(RowRecord<'a>, &'a [u8]), LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let kind = reader.u8()?;
        let revision = Revision(reader.u64()?);
        let seq = Seq(reader.u64()?);
        match kind {
            LIVE => {
                let row = Row::Live { revision, digest: Digest(reader.array()?) };
                let len = reader.u16()?;
                let summary = reader.bytes(usize::from(len))?;
                Ok((RowRecord { row, seq, moved_to: None, summary }, reader.rest()))
            }
            MARKER => {
                let row = Row::Marker { revision, laid: TimeMs(reader.u64()?) };
                let moved_to = reader.maybe_zip()?;
                reader.end()?;
                Ok((RowRecord { row, seq, moved_to, summary: &[] }, &[]))
            }
            found => Err(LayoutError::Tag { found }),
        }
    }
}

/// Totals of one ZIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct ZipTotals {
    /// Live listings.
    pub(in crate::store) count: u64,
    /// Bytes of their frames.
    pub(in crate::store) bytes: u64,
    /// Seq of the ZIP's last change.
    pub(in crate::store) seq: Seq,
}

impl ZipTotals {
    /// `[version][count][bytes][seq]`.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        Writer::versioned(VERSION).u64(self.count).u64(self.bytes).u64(self.seq.0).done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<ZipTotals, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let totals =
            ZipTotals { count: reader.u64()?, bytes: reader.u64()?, seq: Seq(reader.u64()?) };
        reader.end()?;
        Ok(totals)
    }

    /// Counts a row that became live (`after`: bytes of its frame), or changed, or ceased to be.
    pub(in crate::store) fn moved(
        self,
        before: Option<u64>,
        after: Option<u64>,
    ) -> Result<ZipTotals, LayoutError> {
        let wrong = LayoutError::Contradiction { what: "a ZIP has more rows than it counts" };
        let less = |total: u64, part: u64| total.checked_sub(part).ok_or_else(|| wrong.clone());
        Ok(ZipTotals {
            count: less(self.count + u64::from(after.is_some()), u64::from(before.is_some()))?,
            bytes: less(self.bytes + after.unwrap_or(0), before.unwrap_or(0))?,
            seq: self.seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_bytes_that_disks_were_written_with() {
        let live = RowRecord {
            row: Row::Live { revision: Revision(2), digest: Digest([0xdd; 16]) },
            seq: Seq(3),
            moved_to: None,
            summary: b"sum",
        };
        let mut golden = b"\x01\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0".to_vec();
        golden.extend_from_slice(&[0xdd; 16]);
        golden.extend_from_slice(b"\x03\0sum");
        assert_eq!(live.encode_head(), golden);
        golden.extend_from_slice(b"frame");
        assert_eq!(RowRecord::decode(&golden), Ok((live, &b"frame"[..])));

        let marker = RowRecord {
            row: Row::Marker { revision: Revision(2), laid: TimeMs(4) },
            seq: Seq(3),
            moved_to: Some(Zip::Code(*b"94110")),
            summary: &[],
        };
        let golden = b"\x01\x02\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x0594110";
        assert_eq!(marker.encode_head(), golden);
        assert_eq!(RowRecord::decode(golden), Ok((marker, &[][..])));
        assert_eq!(RowRecord::decode(b"\x01\x03").err(), Some(LayoutError::Truncated));
    }

    #[test]
    fn totals_have_the_bytes_that_disks_were_written_with() {
        let totals = ZipTotals { count: 1, bytes: 2, seq: Seq(3) };
        let golden = b"\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0";
        assert_eq!(totals.encode(), golden);
        assert_eq!(ZipTotals::decode(golden), Ok(totals));
    }

    #[test]
    fn totals_that_would_fall_below_zero_are_damage() {
        let totals = ZipTotals { count: 1, bytes: 5, seq: Seq(0) };
        assert_eq!(totals.moved(Some(5), Some(7)).map(|t| (t.count, t.bytes)), Ok((1, 7)));
        assert!(totals.moved(Some(6), None).is_err());
        assert!(ZipTotals::default().moved(Some(0), None).is_err());
    }
}
