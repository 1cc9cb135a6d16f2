//! What a record does to its group, and the footer that sums up a whole segment.
//!
//! Recovery sees the same events whether it scans a segment's rounds or reads its footer.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use platbook_protocol::{ReplicaId, ShardId};

use super::group::EntryId;
use super::layout::{self, RECORD_HEADER, RecordHeader, RecordType};

/// Where the payload's record starts in its segment, and how long the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// Entries of one term at consecutive indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) moved: bool,
    pub(crate) term: u64,
    pub(crate) first: u64,
    pub(crate) places: Vec<Place>,
}

/// One step in the life of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Entries(Run),
    Vote(Bytes),
    /// Only entries up to here remain; `None`: none.
    Truncate(Option<EntryId>),
    Purge(EntryId),
    Remove,
}

impl Event {
    /// The event that a record of a data round stands for; `None` for a record of another round.
    pub(crate) fn of_record(header: &RecordHeader, payload: &[u8], offset: u32) -> Option<Event> {
        let id = (header.term, header.index);
        let run = |moved| {
            let places = vec![Place { offset, length: header.length }];
            Event::Entries(Run { moved, term: header.term, first: header.index, places })
        };
        match header.record_type {
            RecordType::Entry => Some(run(false)),
            RecordType::Moved => Some(run(true)),
            RecordType::Vote => Some(Event::Vote(Bytes::copy_from_slice(payload))),
            RecordType::Truncate => Some(Event::Truncate((header.flag == 1).then_some(id))),
            RecordType::Purge => Some(Event::Purge(id)),
            RecordType::Remove => Some(Event::Remove),
            RecordType::State | RecordType::Events => None,
        }
    }

    /// Bytes that the event takes in a footer, if it can't be joined to the one before.
    fn footer_bytes(&self) -> usize {
        match self {
            Event::Entries(run) => 21 + 8 * run.places.len(),
            Event::Vote(vote) => 3 + vote.len(),
            Event::Truncate(_) => 18,
            Event::Purge(_) => 17,
            Event::Remove => 1,
        }
    }
}

/// Bytes that a footer may grow by for one piece of work of `entries` entries or a small record
/// with `payload` bytes: an upper bound.
pub(crate) fn footer_growth(entries: usize, payload: usize) -> usize {
    // Entries of different terms make several runs.
    RECORD_HEADER + 18 + payload + entries * (21 + 8)
}

/// The events of one segment, by group: what its footer holds.
#[derive(Debug, Default)]
pub(crate) struct SegmentEvents {
    groups: BTreeMap<ReplicaId, (ShardId, Vec<Event>)>,
    bytes: usize,
}

impl SegmentEvents {
    /// Upper bound of the footer's bytes, without its round header.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event behind the earlier ones of the same group.
    pub(crate) fn push(&mut self, replica: ReplicaId, shard: ShardId, event: Event) {
        let (_, events) = self.groups.entry(replica).or_insert_with(|| {
            self.bytes += RECORD_HEADER;
            (shard, Vec::new())
        });
        if let (Some(Event::Entries(last)), Event::Entries(run)) = (events.last_mut(), &event) {
            let next = last.first + last.places.len() as u64;
            if last.moved == run.moved && last.term == run.term && next == run.first {
                last.places.extend_from_slice(&run.places);
                self.bytes += 8 * run.places.len();
                return;
            }
        }
        if event == Event::Remove {
            // Nothing of a removed group is wanted back.
            self.bytes -= events.iter().map(Event::footer_bytes).sum::<usize>();
            events.clear();
        }
        self.bytes += event.footer_bytes();
        events.push(event);
    }

    /// Appends one record a group to `out` and tells how many.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, seed: u32) -> u32 {
        let mut payload = Vec::new();
        for (replica, (shard, events)) in &self.groups {
            payload.clear();
            for event in events {
                put_event(&mut payload, event);
            }
            let header = RecordHeader {
                record_type: RecordType::Events,
                flag: 0,
                shard: shard.0,
                replica: replica.0,
                term: 0,
                index: 0,
                length: u32::try_from(payload.len()).expect("a footer fits into its segment"),
            };
            layout::put_record(out, seed, &header, &payload);
        }
        u32::try_from(self.groups.len()).expect("groups of a node are few")
    }
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    let put_id = |out: &mut Vec<u8>, (term, index): EntryId| {
        out.extend_from_slice(&term.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
    };
    match event {
        Event::Entries(run) => {
            let tag = if run.moved { RecordType::Moved } else { RecordType::Entry };
            out.push(tag.code());
            put_id(out, (run.term, run.first));
            let count = u32::try_from(run.places.len()).expect("a run fits into its segment");
            out.extend_from_slice(&count.to_le_bytes());
            for place in &run.places {
                out.extend_from_slice(&place.offset.to_le_bytes());
                out.extend_from_slice(&place.length.to_le_bytes());
            }
        }
        Event::Vote(vote) => {
            out.push(RecordType::Vote.code());
            let length = u16::try_from(vote.len()).expect("votes are checked when they are saved");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(vote);
        }
        Event::Truncate(last) => {
            out.push(RecordType::Truncate.code());
            out.push(u8::from(last.is_some()));
            put_id(out, last.unwrap_or_default());
        }
        Event::Purge(id) => {
            out.push(RecordType::Purge.code());
            put_id(out, *id);
        }
        Event::Remove => out.push(RecordType::Remove.code()),
    }
}

/// Reads the events of one group from a footer's record; `None` if the bytes are no such list.
pub(crate) fn take_events(mut at: &[u8]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    while at.has_remaining() {
        let event = match RecordType::of(at.get_u8())? {
            RecordType::Entry => Event::Entries(take_run(&mut at, false)?),
            RecordType::Moved => Event::Entries(take_run(&mut at, true)?),
            RecordType::Vote => {
                let length = usize::from(at.try_get_u16_le().ok()?);
                let vote = Bytes::copy_from_slice(at.get(..length)?);
                at.advance(length);
                Event::Vote(vote)
            }
            RecordType::Truncate => {
                let some = at.try_get_u8().ok()? == 1;
                let id = take_id(&mut at)?;
                Event::Truncate(some.then_some(id))
            }
            RecordType::Purge => Event::Purge(take_id(&mut at)?),
            RecordType::Remove => Event::Remove,
            RecordType::State | RecordType::Events => return None,
        };
        events.push(event);
    }
    Some(events)
}

fn take_id(at: &mut &[u8]) -> Option<EntryId> {
    Some((at.try_get_u64_le().ok()?, at.try_get_u64_le().ok()?))
}

fn take_run(at: &mut &[u8], moved: bool) -> Option<Run> {
    let (term, first) = take_id(at)?;
    let count = at.try_get_u32_le().ok()? as usize;
    if at.remaining() < count.checked_mul(8)? {
        return None;
    }
    let places =
        (0..count).map(|_| Place { offset: at.get_u32_le(), length: at.get_u32_le() }).collect();
    Some(Run { moved, term, first, places })
}
