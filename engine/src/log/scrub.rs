//! Reading sealed segments again: a start reads only their footers, so damage between them would
//! stay unknown until a follower or a reader of changes needs it.

use std::cell::Cell;

use super::error::LogError;
use super::layout::RoundKind;
use super::scan::{RoundRead, SegmentReader};
use super::shared::SharedLog;

impl SharedLog {
    /// Numbers of the segments that are not written any more, oldest first.
    pub fn sealed_segments(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> =
            self.core().segments.sizes().into_iter().map(|(number, _)| number).collect();
        // The newest one is being written.
        numbers.pop();
        numbers
    }

    /// Reads a sealed segment from its first round to its footer and checks all of it; returns how
    /// many bytes that were, 0 where the segment is gone meanwhile. Blocks on the disk.
    pub fn scrub(&self, number: u32) -> Result<u64, LogError> {
        let core = self.core();
        match self.read_sealed(number) {
            Err(_) if !core.segments.sizes().iter().any(|(found, _)| *found == number) => Ok(0),
            read => read,
        }
    }

    fn read_sealed(&self, number: u32) -> Result<u64, LogError> {
        let core = self.core();
        let read = Cell::new(0);
        let files = core.segments.files().as_ref();
        let reader = SegmentReader::open(files, number, core.config.identity, &read)?;
        let mut offset = 0;
        loop {
            // A round's checksum is over all of its records.
            let RoundRead::Whole(header, _) = reader.round(offset)? else {
                return Err(reader.corrupt(offset, "a synced round is damaged"));
            };
            offset += u64::from(header.length);
            if header.kind == RoundKind::Footer {
                return Ok(read.get());
            }
        }
    }
}
