//! The lists: suspects and quarantined messages. And the values of the time index.

use platbook_protocol::TimeMs;
use platbook_protocol::register::Suspicion;
use platbook_protocol::rpc::QuarantineRecord;

use crate::store::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;
const MODIFIED_BEFORE_DELETE: u8 = 1;
const MODIFIED_AHEAD: u8 = 2;
const HALF_WRITTEN: u8 = 3;
const OUTRANKED: u8 = 4;

/// What stands behind a key of the time index, whose key says it all.
pub(in crate::store) const DUE: &[u8] = &[VERSION];

/// Why an id is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct SuspectRecord {
    /// The reason noticed last.
    pub(in crate::store) suspicion: Suspicion,
    /// Proposer's clock when it was noticed.
    pub(in crate::store) noticed: TimeMs,
}

impl SuspectRecord {
    /// `[version][reason][noticed]`.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let reason = match self.suspicion {
            Suspicion::ModifiedBeforeDelete => MODIFIED_BEFORE_DELETE,
            Suspicion::ModifiedAhead => MODIFIED_AHEAD,
            Suspicion::HalfWritten => HALF_WRITTEN,
            Suspicion::Outranked => OUTRANKED,
        };
        Writer::versioned(VERSION).u8(reason).u64(self.noticed.0).done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<SuspectRecord, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let suspicion = match reader.u8()? {
            MODIFIED_BEFORE_DELETE => Suspicion::ModifiedBeforeDelete,
            MODIFIED_AHEAD => Suspicion::ModifiedAhead,
            HALF_WRITTEN => Suspicion::HalfWritten,
            OUTRANKED => Suspicion::Outranked,
            found => return Err(LayoutError::Tag { found }),
        };
        let noticed = TimeMs(reader.u64()?);
        reader.end()?;
        Ok(SuspectRecord { suspicion, noticed })
    }
}

/// `[version][sent][quarantined][code][detail][body][count u32]`, each attribute `[name][value]`;
/// texts and the body stand behind their length in four bytes.
pub(in crate::store) fn encode_quarantined(record: &QuarantineRecord) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION)
        .u64(record.sent.0)
        .u64(record.quarantined.0)
        .bytes32(record.code.as_bytes())
        .bytes32(record.detail.as_bytes())
        .bytes32(&record.body)
        .u32(record.attributes.len() as u32);
    for (name, value) in &record.attributes {
        writer = writer.bytes32(name.as_bytes()).bytes32(value.as_bytes());
    }
    writer.done()
}

pub(in crate::store) fn decode_quarantined(bytes: &[u8]) -> Result<QuarantineRecord, LayoutError> {
    let mut reader = Reader::versioned(bytes, VERSION)?;
    let mut record = QuarantineRecord {
        sent: TimeMs(reader.u64()?),
        quarantined: TimeMs(reader.u64()?),
        code: reader.text32()?.to_string(),
        detail: reader.text32()?.to_string(),
        body: reader.bytes32()?.to_vec(),
        attributes: Vec::new(),
    };
    for _ in 0..reader.u32()? {
        let name = reader.text32()?.to_string();
        record.attributes.push((name, reader.text32()?.to_string()));
    }
    reader.end()?;
    Ok(record)
}

/// How far sweeps have looked for half-written listings: `[version][touched][id]`.
pub(in crate::store) fn encode_swept(touched: TimeMs, id: &str) -> Vec<u8> {
    Writer::versioned(VERSION).u64(touched.0).bytes(id.as_bytes()).done()
}

pub(in crate::store) fn decode_swept(bytes: &[u8]) -> Result<(TimeMs, String), LayoutError> {
    let mut reader = Reader::versioned(bytes, VERSION)?;
    let touched = TimeMs(reader.u64()?);
    let id = std::str::from_utf8(reader.rest()).map_err(|_| LayoutError::Text)?;
    Ok((touched, id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_the_bytes_that_disks_were_written_with() {
        for (suspicion, byte) in [
            (Suspicion::ModifiedBeforeDelete, 1),
            (Suspicion::ModifiedAhead, 2),
            (Suspicion::HalfWritten, 3),
            (Suspicion::Outranked, 4),
        ] {
            let record = SuspectRecord { suspicion, noticed: TimeMs(4) };
            assert_eq!(record.encode(), [1, byte, 4, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(SuspectRecord::decode(&record.encode()), Ok(record));
        }
        let record = QuarantineRecord {
            code: "c".to_string(),
            detail: "d".to_string(),
            body: vec![0xff],
            attributes: vec![("n".to_string(), "v".to_string())],
            sent: TimeMs(5),
            quarantined: TimeMs(6),
        };
        let golden = [
            &b"\x01\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x01\0\0\0c\x01\0\0\0d"[..],
            b"\x01\0\0\0\xff\x01\0\0\0\x01\0\0\0n\x01\0\0\0v",
        ]
        .concat();
        assert_eq!(encode_quarantined(&record), golden);
        assert_eq!(decode_quarantined(&golden), Ok(record));
        assert_eq!(encode_swept(TimeMs(4), "A1"), b"\x01\x04\0\0\0\0\0\0\0A1");
        assert_eq!(decode_swept(b"\x01\x04\0\0\0\0\0\0\0A1"), Ok((TimeMs(4), "A1".to_string())));
        assert_eq!(DUE, [1]);
    }
}
