//! The clean-shutdown mark: a file that says where the log ends, and that all of it was synced.
//!
//! With it, damage at the very end can't be taken for a torn round.

use bytes::Buf;

use super::error::LogError;
use super::files::Files;

pub(crate) const NAME: &str = "closed";
const MAGIC: u32 = u32::from_le_bytes(*b"PBLC");
const VERSION: u8 = 1;
const BYTES: usize = 40;

/// Where a log that was closed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) identity: u64,
    /// Number of the last round.
    pub(crate) round: u64,
    pub(crate) segment: u32,
    /// End of that round in its segment.
    pub(crate) end: u32,
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = VERSION;
        bytes[8..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.round.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.segment.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.end.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Mark> {
        let mut at = &bytes[..];
        let crc = u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]);
        if crc32c::crc32c(&bytes[..36]) != crc || at.get_u32_le() != MAGIC || at.get_u8() != VERSION
        {
            return None;
        }
        at.advance(3);
        let (identity, round) = (at.get_u64_le(), at.get_u64_le());
        Some(Mark { identity, round, segment: at.get_u32_le(), end: at.get_u32_le() })
    }

    /// Writes the mark durably.
    pub(crate) fn write(&self, files: &dyn Files) -> Result<(), LogError> {
        let io = |action| move |e| LogError::io(action, NAME, e);
        let file = files.create(NAME).map_err(io("create"))?;
        file.write_at(0, &self.encode()).map_err(io("write"))?;
        file.sync_data().map_err(io("sync"))?;
        files.sync_dir().map_err(io("sync the directory of"))
    }

    /// Reads the mark among `names`. One that is damaged counts as none: it only narrows a doubt.
    pub(crate) fn read(files: &dyn Files, names: &[String]) -> Result<Option<Mark>, LogError> {
        if !names.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let file = files.open(NAME).map_err(|e| LogError::io("open", NAME, e))?;
        let mut bytes = [0; BYTES];
        let filled = file.read_at(0, &mut bytes).map_err(|e| LogError::io("read", NAME, e))?;
        Ok(if filled == BYTES { Mark::decode(&bytes) } else { None })
    }

    /// Removes the mark durably: before anything is written, or it would bless what it never saw.
    pub(crate) fn remove(files: &dyn Files) -> Result<(), LogError> {
        files.remove(NAME).map_err(|e| LogError::io("remove", NAME, e))?;
        files.sync_dir().map_err(|e| LogError::io("sync the directory of", NAME, e))
    }
}
