//! From bytes back to state.
//!
//! The oldest segment's checkpoint is the base; footers, or rounds where there is no footer, say
//! what happened since; every later checkpoint has to agree. Only the last round of the last
//! segment may be torn: whatever is damaged before it was synced once, and then the log refuses.

use std::cell::Cell;
use std::collections::BTreeMap;

use platbook_protocol::{ReplicaId, ShardId};

use super::config::LogConfig;
use super::error::LogError;
use super::event::{self, Event};
use super::files::Files;
use super::index::GroupIndex;
use super::layout::{self, RecordType, RoundHeader, RoundKind, Span};
use super::mark::{self, Mark};
use super::scan::{self, RoundRead, Scan, SegmentReader};
use super::segment::{self, OpenSegment};

/// What opening the log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the log had been closed cleanly.
    pub clean: bool,
    /// Segments found.
    pub segments: usize,
    /// Sealed segments that were read by their footers.
    pub footers: usize,
    /// Rounds that were read one by one.
    pub rounds: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Segment, offset and bytes of a torn round that was cut.
    pub cut: Option<(u32, u64, u64)>,
}

pub(crate) type Indexes = BTreeMap<ReplicaId, (ShardId, GroupIndex)>;

/// Everything that the writer continues from.
pub(crate) struct Recovered {
    pub(crate) groups: Indexes,
    /// Numbers and sizes in bytes.
    pub(crate) segments: Vec<(u32, u64)>,
    /// The segment to continue; none if the last one is sealed.
    pub(crate) open: Option<OpenSegment>,
    pub(crate) next_round: u64,
    pub(crate) previous: Span,
    pub(crate) report: Recovery,
}

struct Recoverer<'a> {
    config: &'a LogConfig,
    files: &'a dyn Files,
    mark: Option<Mark>,
    has_mark_file: bool,
    groups: Indexes,
    report: Recovery,
}

/// A segment and its checkpoint's header.
struct Found<'a> {
    reader: SegmentReader<'a>,
    head: RoundHeader,
    head_body: Vec<u8>,
}

/// Reads the log, cuts a torn round, and makes durable what is told.
pub(crate) fn recover(config: &LogConfig, files: &dyn Files) -> Result<Recovered, LogError> {
    let names = files.list().map_err(|e| LogError::io("list", ".", e))?;
    let mark = Mark::read(files, &names)?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment::parse_name(name)).collect();
    numbers.sort_unstable();
    let mut recoverer = Recoverer {
        config,
        files,
        mark,
        has_mark_file: names.iter().any(|name| name == mark::NAME),
        groups: BTreeMap::new(),
        report: Recovery { clean: mark.is_some(), ..Recovery::default() },
    };
    let read = Cell::new(0);
    let mut recovered = recoverer.run(&numbers, &read)?;
    recovered.report.bytes_read = read.get();
    Ok(recovered)
}

impl Recoverer<'_> {
    fn run(&mut self, numbers: &[u32], read: &Cell<u64>) -> Result<Recovered, LogError> {
        self.check_numbers(numbers)?;
        let mut found = Vec::new();
        let mut unused = None;
        for number in numbers {
            let reader = SegmentReader::open(self.files, *number, self.config.identity, read)?;
            match self.checkpoint_round(&reader, numbers)? {
                Some((head, head_body)) => found.push(Found { reader, head, head_body }),
                None => unused = Some(*number),
            }
        }
        self.report.segments = found.len();
        for (position, segment) in found.iter().enumerate() {
            self.checkpoint(segment, position == 0)?;
            if let Some(next) = found.get(position + 1) {
                self.sealed(segment, &next.head)?;
            }
        }
        let recovered = match found.last() {
            Some(last) => self.last(last, unused)?,
            None => self.fresh(unused)?,
        };
        for (replica, (_, index)) in &recovered.groups {
            if let Some(index) = index.hole() {
                return Err(LogError::MissingIndex { replica: *replica, index });
            }
        }
        Ok(Recovered {
            segments: found.iter().map(|f| (f.reader.number, f.reader.bytes)).collect(),
            ..recovered
        })
    }

    fn check_numbers(&self, numbers: &[u32]) -> Result<(), LogError> {
        for pair in numbers.windows(2) {
            if pair[1] != pair[0] + 1 {
                return Err(LogError::MissingSegment { segment: pair[0] + 1 });
            }
        }
        match self.mark {
            Some(mark) if mark.identity != self.config.identity => {
                Err(LogError::Foreign { found: mark.identity, expected: self.config.identity })
            }
            Some(mark) if !numbers.contains(&mark.segment) => {
                Err(LogError::MissingSegment { segment: mark.segment })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The first round of a segment; `None` if the segment was never used.
    fn checkpoint_round(
        &self,
        reader: &SegmentReader<'_>,
        numbers: &[u32],
    ) -> Result<Option<(RoundHeader, Vec<u8>)>, LogError> {
        let header = reader.header(0)?;
        if let Some(found) = header.map(|h| h.identity)
            && found != self.config.identity
        {
            return Err(LogError::Foreign { found, expected: self.config.identity });
        }
        if let RoundRead::Whole(head, body) = reader.round(0)? {
            if head.kind != RoundKind::Checkpoint {
                return Err(reader.corrupt(0, "a segment begins without a checkpoint"));
            }
            return Ok(Some((head, body)));
        }
        // A spare, or torn in its first round. Only the last segment may be that, and only the
        // very first one may stand alone.
        let is_last = numbers.last() == Some(&reader.number);
        let stands_alone = numbers.len() == 1 && reader.number != 1;
        let was_synced = self.mark.is_some_and(|mark| mark.segment >= reader.number);
        let trace = reader.trace(0, header.map_or(0, |h| h.round))?;
        if !is_last || stands_alone || was_synced || trace.later_round {
            return Err(reader.corrupt(0, "the checkpoint is damaged"));
        }
        Ok(None)
    }

    /// Takes the groups' state from the oldest segment's checkpoint; compares all later ones.
    fn checkpoint(&mut self, found: &Found<'_>, is_base: bool) -> Result<(), LogError> {
        let reader = &found.reader;
        let damaged = || reader.corrupt(0, "the checkpoint can't be read");
        let mut told = Indexes::new();
        let mut rest = found.head_body.as_slice();
        for _ in 0..found.head.records {
            let (record, payload) = layout::take_record(rest, reader.seed).ok_or_else(damaged)?;
            if record.record_type != RecordType::State {
                return Err(damaged());
            }
            let index = GroupIndex::take_state(payload).ok_or_else(damaged)?;
            told.insert(ReplicaId(record.replica), (ShardId(record.shard), index));
            rest = &rest[layout::RECORD_HEADER + payload.len()..];
        }
        if is_base {
            self.groups = told;
            return Ok(());
        }
        let agrees = self.groups.len() == told.len()
            && self.groups.iter().zip(&told).all(|((replica, (shard, index)), (r, (s, told)))| {
                replica == r && shard == s && index.agrees_with(told)
            });
        if agrees { Ok(()) } else { Err(reader.corrupt(0, "the segments before tell otherwise")) }
    }

    fn apply(
        &mut self,
        reader: &SegmentReader<'_>,
        events: Vec<(ReplicaId, ShardId, Event)>,
    ) -> Result<(), LogError> {
        for (replica, shard, event) in events {
            if event == Event::Remove {
                self.groups.remove(&replica);
                continue;
            }
            let (_, index) =
                self.groups.entry(replica).or_insert_with(|| (shard, GroupIndex::default()));
            index.apply(reader.number, &event).map_err(|what| reader.corrupt(0, what))?;
        }
        Ok(())
    }

    /// Applies a segment that has a successor, whose head says where the footer stands.
    fn sealed(&mut self, found: &Found<'_>, next: &RoundHeader) -> Result<(), LogError> {
        let reader = &found.reader;
        let span = next.previous;
        if span.segment != reader.number {
            return Err(reader.corrupt(0, "the next segment does not follow this one"));
        }
        if !self.config.verify
            && let RoundRead::Whole(header, body) = reader.round(u64::from(span.start))?
            && header.kind == RoundKind::Footer
            && header.round + 1 == next.round
            && let Some(events) = footer_events(reader, &header, &body)
        {
            self.report.footers += 1;
            return self.apply(reader, events);
        }
        let scan = self.scan(found)?;
        if scan.last.end != span.start || scan.next_round + 1 != next.round {
            return Err(reader.corrupt(u64::from(scan.last.end), "a synced round is damaged"));
        }
        if let Some((header, body)) = &scan.footer {
            let mut wanted = Vec::new();
            let records = scan::footer_of(&scan).encode(&mut wanted, reader.seed);
            if records != header.records || !body.starts_with(&wanted) {
                return Err(reader.corrupt(u64::from(span.start), "the footer tells otherwise"));
            }
        }
        self.apply(reader, scan.events)
    }

    fn scan(&mut self, found: &Found<'_>) -> Result<Scan, LogError> {
        let end = found.head.length;
        let after = Span { segment: found.reader.number, start: 0, end };
        let bytes = [&found.head.encode(), found.head_body.as_slice()].concat();
        let scan = found.reader.scan(after, found.head.round, bytes)?;
        self.report.rounds += scan.rounds;
        Ok(scan)
    }

    /// Applies the last segment, and cuts what was torn behind its last whole round.
    fn last(&mut self, found: &Found<'_>, unused: Option<u32>) -> Result<Recovered, LogError> {
        let reader = &found.reader;
        let mut scan = self.scan(found)?;
        let footer = scan.footer.take();
        let (previous, bytes) = match &footer {
            Some((header, body)) => {
                let (start, end) = (scan.last.end, scan.last.end + header.length);
                let bytes = [&header.encode(), body.as_slice()].concat();
                (Span { segment: reader.number, start, end }, bytes)
            }
            None => (scan.last, std::mem::take(&mut scan.last_bytes)),
        };
        let next_round = scan.next_round + u64::from(footer.is_some());
        let end = u64::from(previous.end);
        let trace = reader.trace(end, next_round)?;
        if trace.later_round {
            return Err(reader.corrupt(end, "a synced round is damaged"));
        }
        if self.mark.is_some_and(|mark| (reader.number, previous.end) < (mark.segment, mark.end)) {
            return Err(reader.corrupt(end, "a round is damaged that a clean shutdown had synced"));
        }
        self.forget_mark()?;
        if let Some(number) = unused {
            self.remove(number)?;
        }
        self.settle(reader, previous, &bytes, trace.dirty_end)?;
        let mut open = None;
        if footer.is_none() {
            let capacity = usize::try_from(reader.bytes).unwrap_or(usize::MAX);
            let (file, identity) = (reader.file.clone(), self.config.identity);
            let mut segment = OpenSegment::new(reader.number, file, capacity, identity);
            segment.end = previous.end as usize;
            segment.events = scan::footer_of(&scan);
            open = Some(segment);
        }
        self.apply(reader, scan.events)?;
        Ok(self.recovered(open, next_round, previous))
    }

    /// Makes the end of the log durable as it was read. A process may have died before its sync
    /// returned; and after a sync that failed, pages may be clean in memory and yet not on disk:
    /// so the last round is written once more, and synced.
    fn settle(
        &mut self,
        reader: &SegmentReader<'_>,
        last: Span,
        last_bytes: &[u8],
        dirty_end: Option<u64>,
    ) -> Result<(), LogError> {
        let end = u64::from(last.end);
        if self.mark.is_some() && dirty_end.is_none() {
            return Ok(());
        }
        let written = reader.file.write_at(u64::from(last.start), last_bytes);
        written.map_err(|e| reader.io("write", e))?;
        if let Some(dirty_end) = dirty_end {
            let bytes = dirty_end - end;
            tracing::warn!(segment = reader.number, offset = end, bytes, "cut a torn round");
            self.report.cut = Some((reader.number, end, bytes));
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            reader.file.write_at(end, &zeros).map_err(|e| reader.io("write", e))?;
        }
        reader.file.sync_data().map_err(|e| reader.io("sync", e))
    }

    /// A log without any whole segment.
    fn fresh(&mut self, unused: Option<u32>) -> Result<Recovered, LogError> {
        self.forget_mark()?;
        if let Some(number) = unused {
            self.remove(number)?;
        }
        Ok(self.recovered(None, 1, Span::default()))
    }

    fn recovered(
        &mut self,
        open: Option<OpenSegment>,
        next_round: u64,
        previous: Span,
    ) -> Recovered {
        Recovered {
            groups: std::mem::take(&mut self.groups),
            segments: Vec::new(),
            open,
            next_round,
            previous,
            report: std::mem::take(&mut self.report),
        }
    }

    fn forget_mark(&self) -> Result<(), LogError> {
        if self.has_mark_file { Mark::remove(self.files) } else { Ok(()) }
    }

    /// Removes a file that holds no whole round.
    fn remove(&self, number: u32) -> Result<(), LogError> {
        let name = segment::name(number);
        self.files.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
        self.files.sync_dir().map_err(|e| LogError::io("sync the directory of", &name, e))
    }
}

/// The events in a footer; `None` if they can't be read.
fn footer_events(
    reader: &SegmentReader<'_>,
    header: &RoundHeader,
    body: &[u8],
) -> Option<Vec<(ReplicaId, ShardId, Event)>> {
    let mut all = Vec::new();
    let mut rest = body;
    for _ in 0..header.records {
        let (record, payload) = layout::take_record(rest, reader.seed)?;
        if record.record_type != RecordType::Events {
            return None;
        }
        let (replica, shard) = (ReplicaId(record.replica), ShardId(record.shard));
        all.extend(event::take_events(payload)?.into_iter().map(|event| (replica, shard, event)));
        rest = &rest[layout::RECORD_HEADER + payload.len()..];
    }
    Some(all)
}
