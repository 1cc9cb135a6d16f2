//! The fold of all events of one group: its small state, and where its live entries stand.
//!
//! The writer folds what it has synced, recovery folds what it finds: the same function.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};

use super::event::{Event, Run};
use super::group::{EntryId, GroupState};

/// Where an entry stands: 20 bytes. Segment 0: not found yet (only during recovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    term_high: u32,
    term_low: u32,
}

impl Location {
    const NOWHERE: Location =
        Location { segment: 0, offset: 0, length: 0, term_high: 0, term_low: 0 };

    pub(crate) fn term(&self) -> u64 {
        u64::from(self.term_high) << 32 | u64::from(self.term_low)
    }
}

/// Live entries of a group in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// Small state and entry locations of one group.
///
/// Invariants: `locations` covers exactly the indexes behind `purged` up to `last`; `usage` counts
/// them by segment and holds no zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupIndex {
    state: GroupState,
    first: u64,
    locations: VecDeque<Location>,
    usage: BTreeMap<u32, Usage>,
}

impl GroupIndex {
    pub(crate) fn state(&self) -> &GroupState {
        &self.state
    }

    /// The first live index, if there is any; otherwise where one may begin.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn location(&self, index: u64) -> Option<Location> {
        let position = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.locations.get(position).copied()
    }

    /// Live entries by segment.
    pub(crate) fn usage(&self) -> &BTreeMap<u32, Usage> {
        &self.usage
    }

    /// Indexes and locations of all live entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, Location)> + '_ {
        (self.first..).zip(self.locations.iter().copied())
    }

    /// The first live entry that no segment was found to hold.
    pub(crate) fn hole(&self) -> Option<u64> {
        self.usage.get(&0)?;
        self.entries().find(|(_, location)| location.segment == 0).map(|(index, _)| index)
    }

    /// Applies one event found in or written to `segment`; an error says why that can't be.
    pub(crate) fn apply(&mut self, segment: u32, event: &Event) -> Result<(), &'static str> {
        match event {
            Event::Entries(run) if run.moved => self.move_entries(segment, run),
            Event::Entries(run) => self.append(segment, run),
            Event::Vote(vote) => {
                self.state.vote = Some(vote.clone());
                Ok(())
            }
            Event::Truncate(last) => self.truncate(*last),
            Event::Purge(id) => {
                self.purge(*id);
                Ok(())
            }
            Event::Remove => {
                *self = GroupIndex::default();
                Ok(())
            }
        }
    }

    fn append(&mut self, segment: u32, run: &Run) -> Result<(), &'static str> {
        match self.state.last {
            Some((_, last)) if run.first != last + 1 => return Err("an entry leaves a gap"),
            Some(_) | None => {}
        }
        if self.locations.is_empty() {
            self.first = run.first;
        }
        for place in &run.places {
            self.locations.push_back(locate(segment, place.offset, place.length, run.term));
            self.count(segment, place.length);
        }
        if let Some(more) = (run.places.len() as u64).checked_sub(1) {
            self.state.last = Some((run.term, run.first + more));
        }
        Ok(())
    }

    fn move_entries(&mut self, segment: u32, run: &Run) -> Result<(), &'static str> {
        for (index, place) in (run.first..).zip(&run.places) {
            let old = self.location(index).ok_or("an entry moved that was not live")?;
            if old.segment != 0 && old.term() != run.term {
                return Err("an entry moved that has another term");
            }
            self.uncount(old);
            let new = locate(segment, place.offset, place.length, run.term);
            self.locations[(index - self.first) as usize] = new;
            self.count(segment, place.length);
        }
        Ok(())
    }

    fn truncate(&mut self, last: Option<EntryId>) -> Result<(), &'static str> {
        let keep = last.map_or(0, |(_, index)| (index + 1).saturating_sub(self.first));
        if keep > self.locations.len() as u64 || (last < self.state.purged) {
            return Err("a truncation keeps what is not there");
        }
        while self.locations.len() as u64 > keep {
            let location = self.locations.pop_back().expect("it is longer than `keep`");
            self.uncount(location);
        }
        self.state.last = last;
        Ok(())
    }

    fn purge(&mut self, id: EntryId) {
        if self.state.purged.is_some_and(|(_, purged)| id.1 <= purged) {
            return;
        }
        while self.first <= id.1 {
            let Some(location) = self.locations.pop_front() else { break };
            self.uncount(location);
            self.first += 1;
        }
        if self.locations.is_empty() {
            self.first = id.1 + 1;
            self.state.last = Some(id);
        }
        self.state.purged = Some(id);
    }

    fn count(&mut self, segment: u32, length: u32) {
        let usage = self.usage.entry(segment).or_default();
        usage.entries += 1;
        usage.bytes += u64::from(length);
    }

    fn uncount(&mut self, location: Location) {
        let usage = self.usage.get_mut(&location.segment).expect("every live entry is counted");
        usage.entries -= 1;
        usage.bytes -= u64::from(location.length);
        if usage.entries == 0 {
            self.usage.remove(&location.segment);
        }
    }

    /// Whether both stand at the same point: same small state, same live indexes.
    pub(crate) fn agrees_with(&self, other: &GroupIndex) -> bool {
        self.state == other.state
            && self.locations.len() == other.locations.len()
            && (self.locations.is_empty() || self.first == other.first)
    }

    /// The payload of the group's record in a checkpoint.
    pub(crate) fn put_state(&self, out: &mut Vec<u8>) {
        let GroupState { vote, purged, last } = &self.state;
        let flags = u8::from(vote.is_some())
            | u8::from(purged.is_some()) << 1
            | u8::from(last.is_some()) << 2;
        out.push(flags);
        for (term, index) in [purged.unwrap_or_default(), last.unwrap_or_default()] {
            out.extend_from_slice(&term.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&(self.locations.len() as u64).to_le_bytes());
        if let Some(vote) = vote {
            out.extend_from_slice(vote);
        }
    }

    /// The state that a checkpoint tells, with the locations of its live entries unknown.
    pub(crate) fn take_state(mut at: &[u8]) -> Option<GroupIndex> {
        let flags = at.try_get_u8().ok()?;
        let mut id = || Some((at.try_get_u64_le().ok()?, at.try_get_u64_le().ok()?));
        let (purged, last, (first, entries)) = (id()?, id()?, id()?);
        let state = GroupState {
            vote: (flags & 1 != 0).then(|| Bytes::copy_from_slice(at)),
            purged: (flags & 2 != 0).then_some(purged),
            last: (flags & 4 != 0).then_some(last),
        };
        let end = state.last.and_then(|(_, last)| last.checked_add(1));
        if entries > 0 && (end.is_none() || end != first.checked_add(entries)) {
            return None;
        }
        let locations = VecDeque::from(vec![Location::NOWHERE; usize::try_from(entries).ok()?]);
        let usage = (entries > 0).then_some((0, Usage { entries, bytes: 0 }));
        Some(GroupIndex { state, first, locations, usage: usage.into_iter().collect() })
    }
}

fn locate(segment: u32, offset: u32, length: u32, term: u64) -> Location {
    Location { segment, offset, length, term_high: (term >> 32) as u32, term_low: term as u32 }
}
