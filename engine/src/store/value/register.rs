//! A stored register, and the body that may be held with it.

use std::collections::BTreeSet;

use platbook_protocol::op::Body;
use platbook_protocol::register::{Register, Upsert, Version};
use platbook_protocol::{Digest, Revision, TimeMs};

use crate::store::key::Due;
use crate::store::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;

const HAS_UPSERT: u8 = 1;
const HAS_DELETE: u8 = 2;
const ALIVE: u8 = 4;
const HELD: u8 = 8;
const FLAGS: u8 = HAS_UPSERT | HAS_DELETE | ALIVE | HELD;

/// A register with the time of its last move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct RegisterRecord {
    /// What is decided.
    pub(in crate::store) register: Register,
    /// Proposer's clock when it last moved; it never falls.
    pub(in crate::store) touched: TimeMs,
}

impl RegisterRecord {
    /// `[version][flags][touched][revision][died][matched][home ZIP or none]
    /// [modified][sent][digest 16][ZIP] if it has an upsert, [delete] if it has one,
    /// [count u32][ZIPs to erase]`.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let register = &self.register;
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut writer = Writer::versioned(VERSION)
            .u8(flag(register.upsert.is_some(), HAS_UPSERT)
                | flag(register.delete.is_some(), HAS_DELETE)
                | flag(register.alive, ALIVE)
                | flag(register.held, HELD))
            .u64(self.touched.0)
            .u64(register.revision.0)
            .u64(register.died.0)
            .u64(register.matched.0)
            .maybe_zip(register.zip.as_ref());
        if let Some(Upsert { version, zip }) = &register.upsert {
            writer = writer
                .u64(version.modified.0)
                .u64(version.sent.0)
                .bytes(&version.digest.0)
                .maybe_zip(Some(zip));
        }
        if let Some(delete) = register.delete {
            writer = writer.u64(delete.0);
        }
        writer = writer.u32(register.old.len() as u32);
        for zip in &register.old {
            writer = writer.maybe_zip(Some(zip));
        }
        writer.done()
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<RegisterRecord, LayoutError> {
        let mut reader = Reader::versioned(bytes, VERSION)?;
        let flags = reader.u8()?;
        if flags & !FLAGS != 0 {
            return Err(LayoutError::Tag { found: flags });
        }
        let touched = TimeMs(reader.u64()?);
        let mut register = Register {
            alive: flags & ALIVE != 0,
            held: flags & HELD != 0,
            revision: Revision(reader.u64()?),
            died: Revision(reader.u64()?),
            matched: Revision(reader.u64()?),
            zip: reader.maybe_zip()?,
            ..Register::default()
        };
        if flags & HAS_UPSERT != 0 {
            let version = Version {
                modified: TimeMs(reader.u64()?),
                sent: TimeMs(reader.u64()?),
                digest: Digest(reader.array()?),
            };
            register.upsert = Some(Upsert { version, zip: reader.zip()? });
        }
        if flags & HAS_DELETE != 0 {
            register.delete = Some(TimeMs(reader.u64()?));
        }
        let count = reader.u32()?;
        register.old = (0..count).map(|_| reader.zip()).collect::<Result<BTreeSet<_>, _>>()?;
        reader.end()?;
        Ok(RegisterRecord { register, touched })
    }

    /// Where the register stands in the time index, if anywhere: at most once.
    pub(in crate::store) fn due<'a>(&self, id: &'a str) -> Option<Due<'a>> {
        let touched = self.touched;
        match (self.register.is_unsettled(), self.register.alive) {
            (true, _) => Some(Due::Unsettled { touched, id }),
            (false, false) if !self.register.is_unknown() => Some(Due::Dead { touched, id }),
            (false, _) => None,
        }
    }
}

/// `[version][summary length u16][summary][frame]`.
pub(in crate::store) fn encode_held(body: &Body<'_>) -> Vec<u8> {
    Writer::versioned(VERSION).bytes16(body.summary).bytes(body.frame).done()
}

pub(in crate::store) fn decode_held(bytes: &[u8]) -> Result<Body<'_>, LayoutError> {
    let mut reader = Reader::versioned(bytes, VERSION)?;
    let len = reader.u16()?;
    Ok(Body { summary: reader.bytes(usize::from(len))?, frame: reader.rest() })
}

#[cfg(test)]
mod tests {
    use platbook_protocol::Zip;

    use super::*;

    #[test]
    fn a_register_has_the_bytes_that_disks_were_written_with() {
        let home = Zip::Code(*b"94110");
        let version = Version { modified: TimeMs(5), sent: TimeMs(6), digest: Digest([0xdd; 16]) };
        let record = RegisterRecord {
            register: Register {
                upsert: Some(Upsert { version, zip: Zip::Unknown }),
                delete: Some(TimeMs(7)),
                alive: true,
                zip: Some(home),
                revision: Revision(2),
                died: Revision(3),
                old: BTreeSet::from([home, Zip::Unknown]),
                matched: Revision(4),
                held: true,
            },
            touched: TimeMs(1),
        };
        let number = |n: u64| n.to_le_bytes().to_vec();
        let golden = [
            vec![1, 15],
            (1..=4).flat_map(number).collect(),
            b"\x0594110".to_vec(),
            [number(5), number(6), vec![0xdd; 16], b"\x07unknown".to_vec(), number(7)].concat(),
            b"\x02\0\0\0\x0594110\x07unknown".to_vec(),
        ]
        .concat();
        assert_eq!(record.encode(), golden);
        assert_eq!(RegisterRecord::decode(&golden), Ok(record));
        let empty = RegisterRecord::default();
        assert_eq!(RegisterRecord::decode(&empty.encode()), Ok(empty));
        for cut in 0..golden.len() {
            assert!(RegisterRecord::decode(&golden[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_held_body_has_the_bytes_that_disks_were_written_with() {
        let body = Body { summary: b"sum", frame: b"frame" };
        assert_eq!(encode_held(&body), b"\x01\x03\0sumframe");
        assert_eq!(decode_held(b"\x01\x03\0sumframe"), Ok(body));
    }
}
