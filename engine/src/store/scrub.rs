//! Reading a shard's tables before anybody needs them: what a disk has lost is found while other
//! replicas still have it.

use super::db::Access;
use super::key;
use super::shard::ShardStore;
use crate::error::StoreError;

/// How far one step of a scrub came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes of keys and values read.
    pub bytes: u64,
    /// Where the next step starts; `None` behind the shard's last key.
    pub next: Option<Vec<u8>>,
}

impl ShardStore {
    /// Reads keys and values from the key `from` on, or from the first, until they are at least
    /// `bytes_min`. RocksDB checks every block that it reads from disk, and keys must be readable.
    pub fn scrub(&self, from: Option<&[u8]>, bytes_min: u64) -> Result<Scrubbed, StoreError> {
        let (shard, slots) = (self.inner.shard, self.inner.slots);
        let from = from.unwrap_or_default();
        let mut bytes = 0;
        for range in key::ranges_of(shard, slots) {
            if range.upper.as_slice() <= from {
                continue;
            }
            let lower = range.lower.as_slice().max(from);
            let mut cursor = self.inner.db().cursor(lower, &range.upper, Access::Bulk)?;
            while let Some((key, value)) = cursor.entry() {
                if bytes >= bytes_min {
                    return Ok(Scrubbed { bytes, next: Some(key.to_vec()) });
                }
                key::decode_stored(key)?;
                bytes += (key.len() + value.len()) as u64;
                cursor.advance()?;
            }
        }
        Ok(Scrubbed { bytes, next: None })
    }
}
