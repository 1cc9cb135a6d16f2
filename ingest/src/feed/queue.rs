//! One queue: which copy waits, which is in flight, and until when. Pure: time comes in as an
//! argument, bodies stay in the store, and a waiting message costs sixteen bytes.
//!
//! A copy is in exactly one of: `waiting` (once, unless it is also in `skipped`), `delayed`, or
//! `delivered` with an `until`. A copy that was delivered and waits again stands in `waiting` and
//! in `delivered` without an `until`. Only a copy that was delivered can be deleted.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use platbook_protocol::TimeMs;

use super::faults::Faults;
use super::record::Key;

/// State of one queue.
#[derive(Debug)]
pub(super) struct Queue {
    faults: Faults,
    in_flight_max: usize,
    waiting: VecDeque<Key>,
    /// Deleted while they waited again; dropped when their turn comes.
    skipped: HashSet<Key>,
    delayed: BTreeSet<(TimeMs, Key)>,
    in_flight: BTreeSet<(TimeMs, Key)>,
    delivered: HashMap<Key, Delivered>,
    deliveries: u64,
    delete_attempts: u64,
}

#[derive(Clone, Copy, Debug)]
struct Delivered {
    count: u32,
    first: TimeMs,
    /// End of the visibility timeout; `None` while it waits again.
    until: Option<TimeMs>,
}

/// One delivery of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) key: Key,
    /// Deliveries so far, this one included: with the key, the receipt handle.
    pub(super) count: u32,
    /// When the first delivery was.
    pub(super) first: TimeMs,
}

/// What a receive finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) deliveries: Vec<Delivery>,
    /// The in-flight cap, not a lack of messages, ended it.
    pub(super) is_at_cap: bool,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    /// The copy is gone; with `back`, another life of it waits already.
    Gone { back: bool },
    /// An old handle, or a copy that is gone: success, and nothing happens.
    Nothing,
    /// The fault was drawn.
    Failed,
}

/// Why a visibility cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotChanged {
    /// Gone, or the handle is old.
    Unknown,
    /// It waits again.
    NotInFlight,
}

/// The three numbers that a queue tells about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    pub(super) delayed: usize,
}

impl Queue {
    pub(super) fn new(faults: Faults, in_flight_max: usize) -> Queue {
        Queue {
            faults,
            in_flight_max,
            waiting: VecDeque::new(),
            skipped: HashSet::new(),
            delayed: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            delivered: HashMap::new(),
            deliveries: 0,
            delete_attempts: 0,
        }
    }

    /// Takes a copy that may be delivered from `visible` on.
    pub(super) fn push(&mut self, key: Key, visible: TimeMs, now: TimeMs) {
        match visible > now {
            true => drop(self.delayed.insert((visible, key))),
            false => self.waiting.push_back(key),
        }
    }

    /// Delivers up to `max` copies, hidden from others for `visibility_ms`.
    pub(super) fn receive(&mut self, max: usize, visibility_ms: u64, now: TimeMs) -> Received {
        self.advance(now);
        let mut received = Received::default();
        while received.deliveries.len() < max && !self.waiting.is_empty() {
            if self.in_flight.len() >= self.in_flight_max {
                received.is_at_cap = true;
                break;
            }
            self.deliveries += 1;
            let pick = self.faults.pick(self.deliveries, self.waiting.len());
            let key = self.waiting.swap_remove_front(pick).expect("a pick is below the length");
            if self.skipped.remove(&key) {
                continue;
            }
            let until = TimeMs(now.0 + visibility_ms);
            let known = self.delivered.entry(key);
            let entry = known.or_insert(Delivered { count: 0, first: now, until: None });
            entry.count += 1;
            entry.until = Some(until);
            self.in_flight.insert((until, key));
            // A lost delivery is hidden and counted like any other.
            if !self.faults.loses(key, entry.count) {
                let Delivered { count, first, .. } = *entry;
                received.deliveries.push(Delivery { key, count, first });
            }
        }
        received
    }

    /// Deletes a copy by its handle. `may_fail` draws the batch fault.
    pub(super) fn delete(&mut self, key: Key, count: u32, may_fail: bool) -> Deleted {
        if may_fail {
            self.delete_attempts += 1;
            if self.faults.fails_delete(self.delete_attempts) {
                return Deleted::Failed;
            }
        }
        match self.delivered.get(&key) {
            Some(known) if known.count == count => {}
            _ => return Deleted::Nothing,
        }
        self.forget(key);
        let back = key.copy.back().filter(|_| self.faults.resurrects(key));
        if let Some(copy) = back {
            self.waiting.push_back(Key { copy, ..key });
        }
        Deleted::Gone { back: back.is_some() }
    }

    /// Forgets a delivered copy whose message is too old; it is gone for good.
    pub(super) fn expire(&mut self, key: Key) {
        if self.delivered.contains_key(&key) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        match self.delivered.remove(&key).and_then(|known| known.until) {
            Some(until) => drop(self.in_flight.remove(&(until, key))),
            None => drop(self.skipped.insert(key)),
        }
    }

    /// Moves the end of a delivery's visibility timeout to `visibility_ms` from now; 0 makes the
    /// copy wait again at once.
    pub(super) fn change_visibility(
        &mut self,
        key: Key,
        count: u32,
        visibility_ms: u64,
        now: TimeMs,
    ) -> Result<(), NotChanged> {
        self.advance(now);
        let entry = self.delivered.get_mut(&key).filter(|known| known.count == count);
        let entry = entry.ok_or(NotChanged::Unknown)?;
        let until = entry.until.ok_or(NotChanged::NotInFlight)?;
        self.in_flight.remove(&(until, key));
        entry.until = (visibility_ms > 0).then_some(TimeMs(now.0 + visibility_ms));
        match entry.until {
            Some(until) => drop(self.in_flight.insert((until, key))),
            None => self.waiting.push_back(key),
        }
        Ok(())
    }

    /// Forgets everything, and tells which copies that were.
    pub(super) fn purge(&mut self) -> Vec<Key> {
        let in_flight = self.in_flight.iter().chain(&self.delayed).map(|(_, key)| *key);
        let waiting = self.waiting.iter().filter(|key| !self.skipped.contains(key));
        let keys = waiting.copied().chain(in_flight).collect();
        self.waiting.clear();
        self.skipped.clear();
        self.delayed.clear();
        self.in_flight.clear();
        self.delivered.clear();
        keys
    }

    /// What is waiting, in flight and delayed.
    pub(super) fn depth(&mut self, now: TimeMs) -> Depth {
        self.advance(now);
        Depth {
            waiting: self.waiting.len() - self.skipped.len(),
            in_flight: self.in_flight.len(),
            delayed: self.delayed.len(),
        }
    }

    /// When a hidden copy next becomes visible.
    pub(super) fn next_visible(&self) -> Option<TimeMs> {
        let first = |set: &BTreeSet<(TimeMs, Key)>| set.first().map(|(at, _)| *at);
        first(&self.in_flight).into_iter().chain(first(&self.delayed)).min()
    }

    /// Lets wait again what is hidden no longer.
    fn advance(&mut self, now: TimeMs) {
        while let Some((_, key)) = pop_due(&mut self.delayed, now) {
            self.waiting.push_back(key);
        }
        while let Some((_, key)) = pop_due(&mut self.in_flight, now) {
            let known = self.delivered.get_mut(&key).expect("what is in flight was delivered");
            known.until = None;
            self.waiting.push_back(key);
        }
    }
}

fn pop_due(set: &mut BTreeSet<(TimeMs, Key)>, now: TimeMs) -> Option<(TimeMs, Key)> {
    if set.first()?.0 > now {
        return None;
    }
    set.pop_first()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Copy, Location};
    use super::*;

    const T0: TimeMs = TimeMs(1_000_000);

    fn key(offset: u32) -> Key {
        Key { location: Location { segment: 1, offset }, copy: Copy::First }
    }

    fn queue_of(faults: Faults, messages: u32) -> Queue {
        let mut queue = Queue::new(faults, 120_000);
        (0..messages).for_each(|n| queue.push(key(n), T0, T0));
        queue
    }

    fn one(queue: &mut Queue, now: TimeMs) -> Delivery {
        let received = queue.receive(1, 30_000, now);
        *received.deliveries.first().expect("something waits")
    }

    #[test]
    fn an_undeleted_message_comes_again_with_a_new_handle_and_the_old_one_deletes_nothing() {
        let mut queue = queue_of(Faults::default(), 1);
        let old = one(&mut queue, T0);
        assert_eq!(queue.receive(1, 30_000, TimeMs(T0.0 + 29_999)), Received::default());
        let new = one(&mut queue, TimeMs(T0.0 + 30_000));
        assert_eq!((old.count, new.count, new.first), (1, 2, T0));
        assert_eq!(queue.delete(old.key, old.count, false), Deleted::Nothing);
        assert_eq!(queue.delete(new.key, new.count, false), Deleted::Gone { back: false });
        assert_eq!(queue.delete(new.key, new.count, false), Deleted::Nothing);
        assert_eq!(queue.depth(TimeMs(T0.0 + 90_000)), Depth::default());
    }

    #[test]
    fn the_newest_handle_deletes_also_after_its_visibility_ended() {
        let mut queue = queue_of(Faults::default(), 2);
        let first = one(&mut queue, T0);
        let late = TimeMs(T0.0 + 60_000);
        assert_eq!(queue.depth(late).waiting, 2);
        assert_eq!(queue.delete(first.key, 1, false), Deleted::Gone { back: false });
        assert_eq!(queue.depth(late).waiting, 1);
        assert_eq!(queue.receive(10, 30_000, late).deliveries.len(), 1);
        assert_eq!(queue.receive(10, 30_000, TimeMs(late.0 + 30_000)).deliveries.len(), 1);
    }

    #[test]
    fn a_resurrected_copy_returns_once() {
        let mut queue = queue_of(Faults { resurrect: 1.0, ..Faults::default() }, 1);
        let first = one(&mut queue, T0);
        assert_eq!(queue.delete(first.key, 1, false), Deleted::Gone { back: true });
        let back = one(&mut queue, T0);
        assert_eq!(back.key.location, first.key.location);
        assert_eq!(queue.delete(back.key, 1, false), Deleted::Gone { back: false });
        assert_eq!(queue.depth(T0), Depth::default());
    }

    #[test]
    fn a_ghost_delivery_is_counted_and_hidden_but_not_handed_out() {
        let mut queue = queue_of(Faults { ghost: 1.0, ..Faults::default() }, 1);
        assert_eq!(queue.receive(10, 30_000, T0), Received::default());
        assert_eq!(queue.depth(T0).in_flight, 1);
        queue.faults.ghost = 0.0;
        assert_eq!(one(&mut queue, TimeMs(T0.0 + 30_000)).count, 2);
    }

    #[test]
    fn at_the_in_flight_cap_nothing_comes_although_messages_wait() {
        let mut queue = queue_of(Faults::default(), 3);
        queue.in_flight_max = 2;
        let received = queue.receive(10, 30_000, T0);
        assert!(received.is_at_cap);
        assert_eq!(received.deliveries.len(), 2);
        let Delivery { key, count, .. } = received.deliveries[0];
        queue.delete(key, count, false);
        assert_eq!(queue.receive(10, 30_000, T0).deliveries.len(), 1);
    }

    #[test]
    fn visibility_can_be_stretched_and_ended() {
        let mut queue = queue_of(Faults::default(), 1);
        let first = one(&mut queue, T0);
        assert_eq!(queue.change_visibility(first.key, 1, 60_000, T0), Ok(()));
        assert_eq!(queue.next_visible(), Some(TimeMs(T0.0 + 60_000)));
        assert_eq!(queue.change_visibility(first.key, 1, 0, T0), Ok(()));
        let ended = queue.change_visibility(first.key, 1, 1, T0);
        assert_eq!(ended, Err(NotChanged::NotInFlight));
        assert_eq!(one(&mut queue, T0).count, 2);
        assert_eq!(queue.change_visibility(first.key, 1, 1, T0), Err(NotChanged::Unknown));
    }

    #[test]
    fn shuffling_delivers_everything_in_another_order() {
        let faults = Faults { seed: 3, shuffle: 20, ..Faults::default() };
        let order = || -> Vec<u32> {
            let received = queue_of(faults, 100).receive(100, 1, T0);
            received.deliveries.iter().map(|d| d.key.location.offset).collect()
        };
        let mut sorted = order();
        assert_eq!(order(), sorted);
        assert_ne!(sorted, (0..100).collect::<Vec<_>>());
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_purge_names_every_copy_once() {
        let mut queue = queue_of(Faults::default(), 3);
        queue.push(key(9), TimeMs(T0.0 + 5), T0);
        let first = one(&mut queue, T0);
        queue.change_visibility(first.key, 1, 0, T0).expect("in flight");
        one(&mut queue, T0);
        queue.delete(first.key, 1, false);
        let mut keys = queue.purge();
        keys.sort_unstable();
        assert_eq!(keys.len(), 3);
        assert!(!keys.contains(&first.key));
        assert_eq!(queue.depth(T0), Depth::default());
    }
}
