//! A log that nobody has open, record by record, for people. Nothing is written or repaired.

use std::cell::Cell;

use platbook_protocol::{ReplicaId, ShardId};

use super::error::LogError;
use super::files::Files;
use super::layout::{self, RoundKind};
use super::scan::{RoundRead, SegmentReader};
use super::segment;

/// One record where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedRecord {
    /// Number of the segment.
    pub segment: u32,
    /// Offset of its round in the segment, in bytes.
    pub offset: u64,
    /// Number of its round; all records of a round were synced together.
    pub round: u64,
    /// `entry`, `moved`, `vote`, `truncate`, `purge`, `remove`, `state` or `events`.
    pub kind: &'static str,
    /// Its shard.
    pub shard: ShardId,
    /// Its group.
    pub replica: ReplicaId,
    /// Raft term, 0 where it has none.
    pub term: u64,
    /// Raft index, 0 where it has none.
    pub index: u64,
    /// Bytes of its payload.
    pub bytes: u32,
}

/// What stands at the end of the whole rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// Nothing: as after a clean shutdown.
    Clean,
    /// Bytes that are no whole round, and none behind them: a start cuts them.
    Torn,
    /// Later rounds stand behind it, so it had been synced: a start refuses.
    Damaged,
}

/// The log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedLog {
    /// Segments.
    pub segments: u32,
    /// Whole rounds.
    pub rounds: u64,
    /// Records in them.
    pub records: u64,
    /// Segment and offset behind the last whole round.
    pub end: (u32, u64),
    /// What stands there.
    pub at_end: LogEnd,
}

/// Hands every record to `visit`, oldest first, as far as rounds are whole.
pub fn inspect(
    files: &dyn Files,
    mut visit: impl FnMut(&InspectedRecord),
) -> Result<InspectedLog, LogError> {
    let names = files.list().map_err(|e| LogError::io("list", ".", e))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|n| segment::parse_name(n)).collect();
    numbers.sort_unstable();
    let read = Cell::new(0);
    let mut log = InspectedLog {
        segments: numbers.len() as u32,
        rounds: 0,
        records: 0,
        end: (0, 0),
        at_end: LogEnd::Clean,
    };
    let mut last_round = 0;
    for number in numbers {
        let nobody = SegmentReader::open(files, number, 0, &read)?;
        // A spare has no header yet.
        let Some(first) = nobody.header(0)? else { continue };
        let reader = SegmentReader::open(files, number, first.identity, &read)?;
        let mut offset = 0;
        while offset < reader.bytes {
            let RoundRead::Whole(header, body) = reader.round(offset)? else { break };
            last_round = header.round;
            log.rounds += 1;
            let mut rest = body.as_slice();
            for _ in 0..header.records {
                let (record, payload) = layout::take_record(rest, reader.seed)
                    .ok_or_else(|| reader.corrupt(offset, "a record's checksum does not fit"))?;
                visit(&InspectedRecord {
                    segment: number,
                    offset,
                    round: header.round,
                    kind: record.record_type.name(),
                    shard: ShardId(record.shard),
                    replica: ReplicaId(record.replica),
                    term: record.term,
                    index: record.index,
                    bytes: record.length,
                });
                log.records += 1;
                rest = &rest[layout::RECORD_HEADER + payload.len()..];
            }
            offset += u64::from(header.length);
            log.end = (number, offset);
            if header.kind == RoundKind::Footer {
                break;
            }
        }
        let trace = reader.trace(offset, last_round + 1)?;
        log.at_end = match (trace.later_round, trace.dirty_end) {
            (true, _) => LogEnd::Damaged,
            (false, Some(_)) => LogEnd::Torn,
            (false, None) => LogEnd::Clean,
        };
        if log.at_end == LogEnd::Damaged {
            break;
        }
    }
    Ok(log)
}
