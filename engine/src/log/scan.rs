//! Reading rounds of one segment without trusting what stands there.

use std::cell::Cell;
use std::sync::Arc;

use platbook_protocol::{ReplicaId, ShardId};

use super::error::LogError;
use super::event::{Event, SegmentEvents};
use super::files::{File, Files};
use super::layout::{self, BLOCK, HeaderRead, ROUND_HEADER, RoundHeader, RoundKind, Span};
use super::segment;

/// Bytes read at once while looking for traces.
const TRACE_BYTES: usize = 1024 * 1024;

/// One segment's file, as it was found.
pub(crate) struct SegmentReader<'a> {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
    pub(crate) seed: u32,
    identity: u64,
    read: &'a Cell<u64>,
}

/// What stands at some offset.
pub(crate) enum RoundRead {
    Whole(RoundHeader, Vec<u8>),
    /// No round, or one that is not whole.
    Broken,
}

/// What stands behind the last whole round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// End of the last byte that is not zero, if there is any.
    pub(crate) dirty_end: Option<u64>,
    /// Whether a round begins there that can only follow synced ones.
    pub(crate) later_round: bool,
}

/// The whole rounds of a segment.
pub(crate) struct Scan {
    pub(crate) events: Vec<(ReplicaId, ShardId, Event)>,
    /// The last whole round that is no footer, and its bytes.
    pub(crate) last: Span,
    pub(crate) last_bytes: Vec<u8>,
    /// Number of the round that comes next.
    pub(crate) next_round: u64,
    /// The footer behind `last`, if it is whole.
    pub(crate) footer: Option<(RoundHeader, Vec<u8>)>,
    pub(crate) rounds: u64,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn open(
        files: &dyn Files,
        number: u32,
        identity: u64,
        read: &'a Cell<u64>,
    ) -> Result<SegmentReader<'a>, LogError> {
        let name = segment::name(number);
        let file = files.open(&name).map_err(|e| LogError::io("open", &name, e))?;
        let bytes = file.bytes().map_err(|e| LogError::io("measure", &name, e))?;
        let seed = layout::seed(identity, number);
        Ok(SegmentReader { number, file, bytes, seed, identity, read })
    }

    pub(crate) fn corrupt(&self, offset: u64, what: &'static str) -> LogError {
        LogError::corrupt(self.number, offset, what)
    }

    pub(crate) fn io(&self, action: &'static str, error: std::io::Error) -> LogError {
        LogError::io(action, &segment::name(self.number), error)
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, LogError> {
        let mut buffer = vec![0; bytes];
        let filled = self.file.read_at(offset, &mut buffer).map_err(|e| self.io("read", e))?;
        buffer.truncate(filled);
        self.read.set(self.read.get() + filled as u64);
        Ok(buffer)
    }

    /// The header at `offset`, whoever wrote it; an error if another version did.
    pub(crate) fn header(&self, offset: u64) -> Result<Option<RoundHeader>, LogError> {
        match RoundHeader::decode(&self.read(offset, ROUND_HEADER)?) {
            HeaderRead::Header(header) => Ok(Some(header)),
            HeaderRead::Version(version) => {
                Err(LogError::Version { segment: self.number, version })
            }
            HeaderRead::Nothing => Ok(None),
        }
    }

    fn is_ours(&self, header: &RoundHeader) -> bool {
        header.segment == self.number && header.identity == self.identity
    }

    /// The round at `offset`, if a whole one of this segment stands there.
    pub(crate) fn round(&self, offset: u64) -> Result<RoundRead, LogError> {
        let Some(header) = self.header(offset)? else { return Ok(RoundRead::Broken) };
        let reaches = offset + u64::from(header.length);
        if !self.is_ours(&header) || reaches > self.bytes.min(u64::from(u32::MAX)) {
            return Ok(RoundRead::Broken);
        }
        let body =
            self.read(offset + ROUND_HEADER as u64, header.length as usize - ROUND_HEADER)?;
        if layout::body_is_whole(&header, &body, self.seed) {
            Ok(RoundRead::Whole(header, body))
        } else {
            Ok(RoundRead::Broken)
        }
    }

    /// Looks at everything from `offset` on, where round `expected` should stand but does not.
    pub(crate) fn trace(&self, offset: u64, expected: u64) -> Result<Trace, LogError> {
        let mut trace = Trace::default();
        let mut at = offset;
        while at < self.bytes {
            let bytes = self.read(at, TRACE_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                trace.dirty_end = Some(at + last as u64 + 1);
            }
            for block in bytes.chunks(BLOCK) {
                if let HeaderRead::Header(header) = RoundHeader::decode(block) {
                    // Smaller numbers are rounds that somebody carries as payload.
                    trace.later_round |= self.is_ours(&header) && header.round > expected;
                }
            }
            at += bytes.len() as u64;
        }
        Ok(trace)
    }

    /// Reads the rounds behind the checkpoint `after`, which is round number `round`.
    pub(crate) fn scan(&self, after: Span, round: u64, bytes: Vec<u8>) -> Result<Scan, LogError> {
        let mut scan = Scan {
            events: Vec::new(),
            last: after,
            last_bytes: bytes,
            next_round: round + 1,
            footer: None,
            rounds: 0,
        };
        loop {
            let offset = u64::from(scan.last.end);
            let RoundRead::Whole(header, body) = self.round(offset)? else { return Ok(scan) };
            if header.round != scan.next_round || header.previous != scan.last {
                return Err(self.corrupt(offset, "a round does not follow the one before"));
            }
            match header.kind {
                RoundKind::Data => {}
                RoundKind::Footer => {
                    scan.footer = Some((header, body));
                    return Ok(scan);
                }
                RoundKind::Checkpoint => {
                    return Err(self.corrupt(offset, "a checkpoint stands within a segment"));
                }
            }
            self.events(&header, &body, offset, &mut scan.events)?;
            let (start, end) = (scan.last.end, scan.last.end + header.length);
            scan.last = Span { segment: self.number, start, end };
            scan.last_bytes = [&header.encode(), body.as_slice()].concat();
            scan.next_round += 1;
            scan.rounds += 1;
        }
    }

    /// The events of a data round that stands at `offset`.
    fn events(
        &self,
        header: &RoundHeader,
        body: &[u8],
        offset: u64,
        out: &mut Vec<(ReplicaId, ShardId, Event)>,
    ) -> Result<(), LogError> {
        let mut rest = body;
        for _ in 0..header.records {
            let at = offset + header.length as u64 - rest.len() as u64;
            let (record, payload) = layout::take_record(rest, self.seed)
                .ok_or_else(|| self.corrupt(at, "a record's checksum does not fit"))?;
            let event = Event::of_record(&record, payload, at as u32)
                .ok_or_else(|| self.corrupt(at, "a record stands in a round of another kind"))?;
            out.push((ReplicaId(record.replica), ShardId(record.shard), event));
            rest = &rest[layout::RECORD_HEADER + payload.len()..];
        }
        Ok(())
    }
}

/// What a footer over these events would hold.
pub(crate) fn footer_of(scan: &Scan) -> SegmentEvents {
    let mut events = SegmentEvents::default();
    for (replica, shard, event) in &scan.events {
        events.push(*replica, *shard, event.clone());
    }
    events
}
