//! The bytes of a streamed ZIP, taken apart as they arrive.

use bytes::{Buf, Bytes, BytesMut};
use platbook_protocol::codec::{self, CodecError};
use platbook_protocol::rpc::scan::{END, ROW, ROW_HEAD_BYTES};
use platbook_protocol::rpc::{Refusal, ZipState};

/// Most bytes of the head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a summary and a frame together: a frame of 1 MiB that did not shrink, and more.
const ROW_BYTES_MAX: usize = 2 << 20;

/// Why the bytes are no scan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    /// The stream stopped without its end.
    #[error("scan was cut off")]
    Cut,
    /// The head cannot be decoded.
    #[error("head of the scan: {0}")]
    Head(#[from] CodecError),
    /// A length or tag that cannot be.
    #[error("scan is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

/// One listing as it is streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScannedRow {
    /// The listing's id.
    pub(crate) id: Bytes,
    /// Compressed listing.
    pub(crate) frame: Bytes,
}

/// What the stream holds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// More bytes are needed.
    Nothing,
    /// A listing.
    Row(ScannedRow),
    /// The end; whether a limit stopped the scan.
    End {
        /// Whether more may follow.
        is_limited: bool,
    },
}

/// Takes chunks, gives the head and then rows. Holds at most one chunk and one row.
#[derive(Debug, Default)]
pub(crate) struct ScanDecoder {
    held: BytesMut,
    is_ended: bool,
}

impl ScanDecoder {
    /// Takes the next chunk.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    /// The head, once it is there.
    pub(crate) fn head(&mut self) -> Result<Option<Result<ZipState, Refusal>>, ScanError> {
        let Some((length, rest)) = self.held.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > HEAD_BYTES_MAX {
            return Err(ScanError::Malformed { reason: "its head is too long" });
        }
        let Some(encoded) = rest.get(..length) else { return Ok(None) };
        let head = codec::decode(encoded)?;
        self.held.advance(4 + length);
        Ok(Some(head))
    }

    /// What comes next behind the head.
    pub(crate) fn next(&mut self) -> Result<Scanned, ScanError> {
        match self.held.first() {
            None => Ok(Scanned::Nothing),
            Some(_) if self.is_ended => {
                Err(ScanError::Malformed { reason: "bytes behind its end" })
            }
            Some(&END) => match self.held.get(1) {
                None => Ok(Scanned::Nothing),
                Some(&limited @ (0 | 1)) => {
                    self.held.advance(2);
                    self.is_ended = true;
                    Ok(Scanned::End { is_limited: limited == 1 })
                }
                Some(_) => Err(ScanError::Malformed { reason: "its end is neither 0 nor 1" }),
            },
            Some(&ROW) => self.row(),
            Some(_) => Err(ScanError::Malformed { reason: "neither a row nor an end" }),
        }
    }

    /// To be asked when the stream is over: anything but a proper end is a cut.
    pub(crate) fn finish(&self) -> Result<(), ScanError> {
        if self.is_ended { Ok(()) } else { Err(ScanError::Cut) }
    }

    fn row(&mut self) -> Result<Scanned, ScanError> {
        let Some(head) = self.held.first_chunk::<ROW_HEAD_BYTES>() else {
            return Ok(Scanned::Nothing);
        };
        let [_, i0, i1, _, _, _, _, _, _, _, _, s0, s1, f0, f1, f2, f3] = *head;
        let id_bytes = usize::from(u16::from_le_bytes([i0, i1]));
        let summary_bytes = usize::from(u16::from_le_bytes([s0, s1]));
        let frame_bytes = u32::from_le_bytes([f0, f1, f2, f3]) as usize;
        if summary_bytes + frame_bytes > ROW_BYTES_MAX {
            return Err(ScanError::Malformed { reason: "a row is too long" });
        }
        let length = ROW_HEAD_BYTES + id_bytes + summary_bytes + frame_bytes;
        if self.held.len() < length {
            return Ok(Scanned::Nothing);
        }
        let row = self.held.split_to(length).freeze();
        let id = row.slice(ROW_HEAD_BYTES..ROW_HEAD_BYTES + id_bytes);
        let frame = row.slice(length - frame_bytes..);
        Ok(Scanned::Row(ScannedRow { id, frame }))
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::rpc::scan::push_row;
    use platbook_protocol::{Revision, Seq};

    use super::*;

    fn stream() -> (Vec<u8>, ZipState) {
        let state = ZipState { count: 2, bytes: 9, seq: Seq(5), shard_seq: Seq(7) };
        let head = codec::encode(&Ok::<ZipState, Refusal>(state));
        let mut bytes = (head.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        push_row(&mut bytes, "a", Revision(1), b"sum", b"frame");
        push_row(&mut bytes, "b", Revision(2), b"", b"");
        bytes.extend_from_slice(&[END, 1]);
        (bytes, state)
    }

    fn read(bytes: &[u8], chunk_bytes: usize) -> Result<(ZipState, Vec<ScannedRow>), ScanError> {
        let mut decoder = ScanDecoder::default();
        let (mut state, mut rows) = (None, Vec::new());
        for chunk in bytes.chunks(chunk_bytes) {
            decoder.push(chunk);
            if state.is_none() {
                state = decoder.head()?.map(|head| head.expect("no refusal"));
            }
            while state.is_some() {
                match decoder.next()? {
                    Scanned::Nothing => break,
                    Scanned::Row(row) => rows.push(row),
                    Scanned::End { is_limited } => assert!(is_limited),
                }
            }
        }
        decoder.finish()?;
        Ok((state.expect("a head"), rows))
    }

    #[test]
    fn rows_are_the_same_however_the_stream_is_cut() {
        let (bytes, state) = stream();
        for chunk_bytes in 1..=bytes.len() {
            let (found, rows) = read(&bytes, chunk_bytes).expect("a whole stream");
            assert_eq!(found, state);
            assert_eq!(rows.len(), 2);
            assert_eq!((&rows[0].id[..], &rows[0].frame[..]), (&b"a"[..], &b"frame"[..]));
        }
    }

    #[test]
    fn a_stream_without_its_end_is_cut_off() {
        let (bytes, _) = stream();
        for length in 60..bytes.len() {
            assert_eq!(read(&bytes[..length], 16), Err(ScanError::Cut), "{length} bytes");
        }
    }

    #[test]
    fn bytes_that_make_no_sense_are_refused() {
        let (mut bytes, _) = stream();
        bytes.push(ROW);
        assert!(matches!(read(&bytes, 1_000), Err(ScanError::Malformed { .. })));
        let mut decoder = ScanDecoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(decoder.head().is_err());
    }
}
