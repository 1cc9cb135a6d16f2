//! Reading a group's records: the newest from memory, older ones from their segments.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use platbook_protocol::ReplicaId;

use super::error::LogError;
use super::files::File;
use super::group::{GroupLog, Inner, Record};
use super::index::Location;
use super::layout::{self, RECORD_HEADER, RecordType};
use super::shared::Core;

/// Most bytes read by one call to the disk.
const PIECE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records that stand one behind the other in one segment.
struct Piece {
    segment: u32,
    file: Arc<dyn File>,
    offset: u32,
    bytes: usize,
    entries: Vec<(u64, Location)>,
}

/// What to read from disk, and the records that follow from memory.
#[derive(Default)]
struct Plan {
    pieces: Vec<Piece>,
    records: Vec<Record>,
}

impl GroupLog {
    /// Records of `range` in order, from its first live index: at least one if there is any, then
    /// as long as the payloads stay within `bytes_max`. Blocks on the disk for older ones.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        let replica = self.group.replica;
        let core = &self.handle.core;
        let plan = {
            let inner = self.group.inner();
            if inner.is_removed() {
                return Err(LogError::Removed { replica });
            }
            let live = inner.live();
            let range = range.start.max(live.start)..range.end.min(live.end);
            Plan::new(core, replica, &inner, range, bytes_max)?
        };
        plan.run(core, replica)
    }
}

impl Plan {
    /// Decides under the group's lock, so that no segment named here can be removed meanwhile.
    fn new(
        core: &Core,
        replica: ReplicaId,
        inner: &Inner,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Plan, LogError> {
        let mut plan = Plan::default();
        let mut bytes = 0;
        for index in range.clone() {
            let kept = inner.tail.get(index);
            let location = match kept {
                Some(_) => None,
                None => {
                    let missing = LogError::MissingIndex { replica, index };
                    Some(inner.index.location(index).ok_or(missing)?)
                }
            };
            bytes += match (kept, location) {
                (Some(record), _) => record.payload.len(),
                (None, location) => location.map_or(0, |l| l.length as usize),
            };
            if bytes > bytes_max && index > range.start {
                break;
            }
            if let Some(record) = kept {
                plan.records.push(record.clone());
            }
            if let Some(location) = location {
                plan.add(core, index, location)?;
            }
        }
        Ok(plan)
    }

    fn add(&mut self, core: &Core, index: u64, location: Location) -> Result<(), LogError> {
        let bytes = RECORD_HEADER + location.length as usize;
        if let Some(last) = self.pieces.last_mut() {
            let follows = last.segment == location.segment
                && last.offset as usize + last.bytes == location.offset as usize;
            if follows && last.bytes + bytes <= PIECE_BYTES_MAX {
                last.bytes += bytes;
                last.entries.push((index, location));
                return Ok(());
            }
        }
        self.pieces.push(Piece {
            segment: location.segment,
            file: core.segments.file(location.segment)?,
            offset: location.offset,
            bytes,
            entries: vec![(index, location)],
        });
        Ok(())
    }

    fn run(mut self, core: &Core, replica: ReplicaId) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        for piece in &self.pieces {
            piece.read(layout::seed(core.config.identity, piece.segment), replica, &mut records)?;
        }
        records.append(&mut self.records);
        Ok(records)
    }
}

impl Piece {
    fn read(&self, seed: u32, replica: ReplicaId, out: &mut Vec<Record>) -> Result<(), LogError> {
        let mut buffer = vec![0; self.bytes];
        let filled = self
            .file
            .read_at(u64::from(self.offset), &mut buffer)
            .map_err(|e| LogError::io("read", &super::segment::name(self.segment), e))?;
        buffer.truncate(filled);
        let buffer = Bytes::from(buffer);
        for (index, location) in &self.entries {
            let start = (location.offset - self.offset) as usize;
            let damaged = |what| LogError::corrupt(self.segment, u64::from(location.offset), what);
            let rest = buffer.get(start..).unwrap_or_default();
            let (header, payload) = layout::take_record(rest, seed)
                .ok_or_else(|| damaged("a record's checksum does not fit"))?;
            let is_wanted = matches!(header.record_type, RecordType::Entry | RecordType::Moved)
                && header.replica == replica.0
                && header.index == *index
                && header.term == location.term();
            if !is_wanted {
                return Err(damaged("another record stands where an entry was written"));
            }
            let payload = buffer.slice_ref(payload);
            out.push(Record { term: header.term, index: *index, kind: header.flag, payload });
        }
        Ok(())
    }
}
