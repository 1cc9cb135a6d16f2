//! The one writer: takes everything queued, writes it as one round, syncs once, then tells.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use platbook_protocol::planted::Bug;

use super::error::LogError;
use super::event::{Event, Place, Run};
use super::group::Record;
use super::layout::{self, ROUND_HEADER, RecordHeader, RecordType, RoundHeader, RoundKind, Span};
use super::mark::Mark;
use super::queue::{Op, Taken, Work};
use super::recover::Recovered;
use super::segment::{self, OpenSegment};
use super::shared::Core;
use super::spare::{self, Spare};

/// Invariants: everything before `open.end` is synced, and folded into the groups' indexes;
/// a round is written only after the one before it was synced.
pub(crate) struct Writer {
    core: Arc<Core>,
    open: OpenSegment,
    /// Number of the next round.
    round: u64,
    previous: Span,
    spare: Spare,
    buffer: Vec<u8>,
}

/// Work in the round being written, and what it will do to its group.
type Written = (Op, Vec<Event>);

impl Writer {
    /// Continues the recovered log; begins a segment if the last one is sealed.
    pub(crate) fn try_new(core: Arc<Core>, recovered: Recovered) -> Result<Writer, LogError> {
        let identity = core.config.identity;
        for (number, bytes) in &recovered.segments {
            core.segments.add(*number, *bytes, None);
        }
        let (begin, open) = match recovered.open {
            Some(open) => (false, open),
            None => {
                let number = recovered.previous.segment + 1;
                let bytes = core.config.segment_bytes;
                let file = spare::make(core.segments.files().as_ref(), number, u64::from(bytes))?;
                (true, OpenSegment::new(number, file, bytes as usize, identity))
            }
        };
        let mut writer = Writer {
            core,
            open,
            round: recovered.next_round,
            previous: recovered.previous,
            spare: Spare::default(),
            buffer: Vec::new(),
        };
        if begin {
            writer.put_checkpoint()?;
            writer.open.file.sync_data().map_err(|e| writer.io("sync", e))?;
            writer.announce_segment();
        }
        Ok(writer)
    }

    fn io(&self, action: &'static str, error: std::io::Error) -> LogError {
        LogError::io(action, &segment::name(self.open.number), error)
    }

    /// Serves the queue until it is closed or the disk fails.
    pub(crate) async fn run(mut self) {
        let result = match self.serve().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.core.poison(&error)),
        };
        self.core.on_finished(result);
    }

    async fn serve(&mut self) -> Result<(), LogError> {
        loop {
            match self.core.queue.take(self.core.config.round_bytes_max).await {
                Taken::Ops(ops) => {
                    self.core.metrics.on_work();
                    self.write(ops).await?;
                    self.core.metrics.on_idle();
                }
                Taken::Closed { marked: true } => {
                    let mark = Mark {
                        identity: self.core.config.identity,
                        round: self.round - 1,
                        segment: self.open.number,
                        end: self.previous.end,
                    };
                    return mark.write(self.core.segments.files().as_ref());
                }
                Taken::Closed { marked: false } => return Ok(()),
            }
        }
    }

    async fn write(&mut self, mut queued: VecDeque<Op>) -> Result<(), LogError> {
        while !queued.is_empty() {
            let mut written = Vec::new();
            let result = self.write_round(&mut queued, &mut written).await;
            let answer = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(self.core.poison(error)),
            };
            for (op, _) in written {
                op.finish(answer.clone());
            }
            if let Err(error) = result {
                for op in queued {
                    op.finish(answer.clone());
                }
                return Err(error);
            }
        }
        self.evict();
        Ok(())
    }

    /// Writes as much of `queued` as the segment has room for, and syncs it.
    async fn write_round(
        &mut self,
        queued: &mut VecDeque<Op>,
        written: &mut Vec<Written>,
    ) -> Result<(), LogError> {
        if let Some(op) = queued.front() {
            self.make_room(op.work.body_bytes(), op.work.footer_bytes()).await?;
        }
        self.begin_round();
        let mut footer = 0;
        while let Some(op) = queued.front() {
            footer += op.work.footer_bytes();
            let body = self.buffer.len() - ROUND_HEADER + op.work.body_bytes();
            if !written.is_empty() && self.open.bytes_with(body, footer) > self.open.capacity {
                break;
            }
            let Some(op) = queued.pop_front() else { break };
            let events = self.encode(&op);
            written.push((op, events));
        }
        let records = written.iter().map(|(op, _)| op.work.records()).sum();
        if records > 0 {
            self.put_round(RoundKind::Data, records)?;
            if !Bug::AckBeforeSync.is_planted() {
                self.sync().await?;
            }
        }
        self.publish(written)?;
        if self.open.end > self.open.capacity / 2 {
            let bytes = u64::from(self.core.config.segment_bytes);
            let files = self.core.segments.files();
            self.spare.start(files, self.open.number + 1, bytes, self.core.config.writer);
        }
        Ok(())
    }

    /// Changes to the next segment if this one is too full; lengthens it if it is empty.
    async fn make_room(&mut self, body: usize, footer: usize) -> Result<(), LogError> {
        if self.open.bytes_with(body, footer) <= self.open.capacity {
            return Ok(());
        }
        if self.open.events.bytes() > 0 {
            self.seal().await?;
        }
        let wanted = self.open.bytes_with(body, footer);
        if wanted > self.open.capacity {
            self.open.file.allocate(wanted as u64).map_err(|e| self.io("allocate", e))?;
            self.open.capacity = wanted;
            self.announce_segment();
        }
        Ok(())
    }

    /// Ends the segment with a footer and begins the next one with a checkpoint.
    async fn seal(&mut self) -> Result<(), LogError> {
        self.begin_round();
        let records = self.open.events.encode(&mut self.buffer, self.open.seed);
        self.put_round(RoundKind::Footer, records)?;
        self.sync().await?;
        let number = self.open.number + 1;
        let bytes = self.core.config.segment_bytes;
        let file = self.spare.take(self.core.segments.files(), number, u64::from(bytes))?;
        self.open = OpenSegment::new(number, file, bytes as usize, self.core.config.identity);
        self.put_checkpoint()?;
        self.sync().await?;
        self.announce_segment();
        Ok(())
    }

    fn put_checkpoint(&mut self) -> Result<(), LogError> {
        self.begin_round();
        let mut records = 0;
        for group in self.core.synced().values() {
            let mut payload = Vec::new();
            group.inner().index.put_state(&mut payload);
            let header = RecordHeader {
                record_type: RecordType::State,
                flag: 0,
                shard: group.shard.0,
                replica: group.replica.0,
                term: 0,
                index: 0,
                length: u32::try_from(payload.len()).expect("votes are checked when saved"),
            };
            layout::put_record(&mut self.buffer, self.open.seed, &header, &payload);
            records += 1;
        }
        self.put_round(RoundKind::Checkpoint, records)
    }

    /// Lets others know of the segment. Not before its checkpoint is synced: from then on older
    /// segments may be removed.
    fn announce_segment(&self) {
        let file = Some(self.open.file.clone());
        self.core.segments.add(self.open.number, self.open.capacity as u64, file);
    }

    fn begin_round(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(2 * self.core.config.round_bytes_max);
        self.buffer.resize(ROUND_HEADER, 0);
    }

    /// Writes the buffer as a round behind the last one. It has to be synced before anything else.
    fn put_round(&mut self, kind: RoundKind, records: u32) -> Result<(), LogError> {
        let mut header = RoundHeader {
            kind,
            identity: self.core.config.identity,
            round: self.round,
            segment: self.open.number,
            length: 0,
            records,
            previous: self.previous,
            body_crc: 0,
        };
        layout::seal_round(&mut self.buffer, &mut header, self.open.seed);
        let start = self.open.end;
        let written = self.open.file.write_at(start as u64, &self.buffer);
        written.map_err(|e| self.io("write", e))?;
        self.core.metrics.on_round(records, self.buffer.len());
        self.round += 1;
        self.open.end += self.buffer.len();
        let (start, end) = (start as u32, self.open.end as u32);
        self.previous = Span { segment: self.open.number, start, end };
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), LogError> {
        let delay = self.open.file.sync_delay();
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        let begun = Instant::now();
        let synced = self.open.file.sync_data();
        if !Bug::SyncErrorDropped.is_planted() {
            synced.map_err(|e| self.io("sync", e))?;
        }
        self.core.metrics.on_sync(begun.elapsed());
        Ok(())
    }

    /// Appends the work's records to the buffer and tells what they will do.
    fn encode(&mut self, op: &Op) -> Vec<Event> {
        let (replica, shard) = (op.group.replica.0, op.group.shard.0);
        let id = |(term, index): (u64, u64), record_type, flag, payload: &Bytes| RecordHeader {
            record_type,
            flag,
            shard,
            replica,
            term,
            index,
            length: u32::try_from(payload.len()).expect("sizes are checked when submitted"),
        };
        let empty = Bytes::new();
        let (header, payload, event) = match &op.work {
            Work::Entries { records, moved } => {
                let record_type = if *moved { RecordType::Moved } else { RecordType::Entry };
                let mut events = Vec::new();
                for record in records {
                    let offset = (self.open.end + self.buffer.len()) as u32;
                    let header =
                        id((record.term, record.index), record_type, record.kind, &record.payload);
                    layout::put_record(&mut self.buffer, self.open.seed, &header, &record.payload);
                    push_entry(&mut events, *moved, record, offset);
                }
                return events;
            }
            Work::Vote(vote) => {
                (id((0, 0), RecordType::Vote, 0, vote), vote, Event::Vote(vote.clone()))
            }
            Work::Truncate(last) => {
                let flag = u8::from(last.is_some());
                let header = id(last.unwrap_or_default(), RecordType::Truncate, flag, &empty);
                (header, &empty, Event::Truncate(*last))
            }
            Work::Purge(purged) => {
                (id(*purged, RecordType::Purge, 0, &empty), &empty, Event::Purge(*purged))
            }
            Work::Remove => (id((0, 0), RecordType::Remove, 0, &empty), &empty, Event::Remove),
        };
        layout::put_record(&mut self.buffer, self.open.seed, &header, payload);
        vec![event]
    }

    /// Folds what is synced, so that readers, footers and checkpoints know it.
    fn publish(&mut self, written: &mut [Written]) -> Result<(), LogError> {
        for (op, events) in written {
            if events.is_empty() {
                continue;
            }
            let group = &op.group;
            group.on_synced(self.open.number, events).map_err(|what| {
                LogError::corrupt(self.open.number, u64::from(self.previous.start), what)
            })?;
            match op.work {
                Work::Remove => drop(self.core.synced().remove(&group.replica)),
                Work::Entries { .. } | Work::Vote(_) | Work::Truncate(_) | Work::Purge(_) => {
                    self.core.synced().entry(group.replica).or_insert_with(|| group.clone());
                }
            }
            for event in events.drain(..) {
                self.open.events.push(group.replica, group.shard, event);
            }
        }
        Ok(())
    }

    /// Lets the oldest synced records leave memory until the tails fit.
    fn evict(&self) {
        let wanted = self.core.config.tail_bytes_max;
        if self.core.tail_bytes.load(Ordering::Relaxed) <= wanted {
            return;
        }
        let groups = self.core.synced();
        let mut oldest: BinaryHeap<_> = groups
            .iter()
            .filter_map(|(replica, group)| Some(Reverse((group.inner().evictable()?.0, *replica))))
            .collect();
        while let Some(Reverse((stamp, replica))) = oldest.pop() {
            if self.core.tail_bytes.load(Ordering::Relaxed) <= wanted {
                return;
            }
            let mut inner = groups[&replica].inner();
            if let Some((_, durable)) = inner.evictable() {
                inner.tail.evict(stamp, durable);
            }
            oldest.extend(inner.evictable().map(|(next, _)| Reverse((next, replica))));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A writer that was cancelled or panicked must not leave anybody waiting.
        if !self.core.is_finished() {
            let stopped = LogError::Poisoned { reason: "the writer stopped".into() };
            let poisoned = self.core.poison(&stopped);
            self.core.on_finished(Err(poisoned));
        }
    }
}

fn push_entry(events: &mut Vec<Event>, moved: bool, record: &Record, offset: u32) {
    let length = record.payload.len() as u32;
    let place = Place { offset, length };
    if let Some(Event::Entries(run)) = events.last_mut() {
        let next = run.first + run.places.len() as u64;
        if run.term == record.term && next == record.index {
            run.places.push(place);
            return;
        }
    }
    let (term, first) = (record.term, record.index);
    events.push(Event::Entries(Run { moved, term, first, places: vec![place] }));
}
