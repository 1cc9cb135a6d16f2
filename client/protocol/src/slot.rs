//! Placement by hash: ids and ZIPs fall into slots, shards own ranges of slots.

use std::fmt;

use bincode::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_64;

use crate::Zip;

/// The top 16 bits of `xxh3_64`. Fixed for ever: keys on disk and the map depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a ZIP: the home of its rows.
    pub fn of_zip(zip: &Zip) -> Slot {
        Slot::of(zip.as_bytes())
    }

    /// The slot of a listing id: the home of its register.
    pub fn of_id(id: &str) -> Slot {
        Slot::of(id.as_bytes())
    }

    /// The slot of any bytes, for instance of a queue message's id.
    pub fn of(bytes: &[u8]) -> Slot {
        Slot((hash(bytes) >> 48) as u16)
    }
}

/// `xxh3_64`: for placement and for checks against accidents, never against attackers.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Slots `first..=last`, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SlotRange {
    /// First slot of the range.
    pub first: Slot,
    /// Last slot of the range, inclusive.
    pub last: Slot,
}

impl SlotRange {
    /// Tells whether `slot` lies in the range.
    pub fn contains(&self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }

    /// Cuts all slots into `count` ranges whose sizes differ by at most one.
    pub fn partition(count: u32) -> Vec<SlotRange> {
        assert!((1..=65_536).contains(&count), "a partition has 1 to 65536 ranges");
        let edge = |i: u32| (u64::from(i) * 65_536 / u64::from(count)) as u32;
        (0..count)
            .map(|i| SlotRange {
                first: Slot(edge(i) as u16),
                last: Slot((edge(i + 1) - 1) as u16),
            })
            .collect()
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first.0, self.last.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_disks_were_written_with() {
        assert_eq!(Slot::of(b""), Slot(0x2d06));
        assert_eq!(Slot::of_zip(&Zip::Unknown), Slot::of(b"unknown"));
    }

    #[test]
    fn a_partition_covers_every_slot_once() {
        for count in [1, 2, 3, 16, 17, 255, 65_536] {
            let ranges = SlotRange::partition(count);
            assert_eq!(ranges[0].first, Slot(0));
            assert_eq!(ranges[ranges.len() - 1].last, Slot(u16::MAX));
            for pair in ranges.windows(2) {
                assert_eq!(u32::from(pair[0].last.0) + 1, u32::from(pair[1].first.0));
            }
        }
    }
}
