//! The messages between poll and delete, by message id, with the handles that delete them.
//!
//! A message that comes again while it is held adds its newer handle and is not processed twice.
//! All its handles are deleted in the end, the newest among them: where a queue holds two copies
//! each copy has its own handle, and an old handle of the same copy deletes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use platbook_protocol::TimeMs;
use tokio::time::Instant;

use crate::queue::Received;

/// Handles remembered for one message; the oldest go first.
const HANDLES_MAX: usize = 8;
/// Messages whose excused deliveries are remembered.
const EXCUSED_MAX: usize = 100_000;
/// How long a queue hides a message at most, counted from its delivery.
const HIDDEN_MAX: Duration = Duration::from_secs(12 * 60 * 60 - 60);

/// The table.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<String, Entry>,
    /// Deliveries that ended in no fault of the message: they don't count against it.
    excused: HashMap<String, u32>,
}

#[derive(Debug)]
struct Entry {
    handles: Vec<String>,
    received: Instant,
    hidden_until: Instant,
    sent: TimeMs,
}

impl Held {
    /// Notes a delivery, hidden until `hidden_until`. False if the message is already held.
    pub(super) fn insert(&self, message: &Received, now: Instant, hidden_until: Instant) -> bool {
        let mut table = self.lock();
        let handle = message.receipt_handle.clone();
        if let Some(entry) = table.entries.get_mut(&message.message_id) {
            if entry.handles.len() == HANDLES_MAX {
                entry.handles.remove(0);
            }
            entry.handles.push(handle);
            entry.hidden_until = hidden_until;
            return false;
        }
        let (handles, sent) = (vec![handle], message.sent);
        let entry = Entry { handles, received: now, hidden_until, sent };
        table.entries.insert(message.message_id.clone(), entry);
        true
    }

    /// Ends the holding of a message that is done; gives its handles.
    pub(super) fn finish(&self, message_id: &str) -> Vec<String> {
        let mut table = self.lock();
        table.excused.remove(message_id);
        table.entries.remove(message_id).map(|entry| entry.handles).unwrap_or_default()
    }

    /// Ends the holding of a message that is to come again; gives its handles. An excused delivery
    /// does not count against the message.
    pub(super) fn release(&self, message_id: &str, is_excused: bool) -> Vec<String> {
        let mut table = self.lock();
        if is_excused
            && (table.excused.len() < EXCUSED_MAX || table.excused.contains_key(message_id))
        {
            *table.excused.entry(message_id.to_string()).or_default() += 1;
        }
        table.entries.remove(message_id).map(|entry| entry.handles).unwrap_or_default()
    }

    /// Deliveries of a message that count against it.
    pub(super) fn counted(&self, message: &Received) -> u32 {
        let excused = self.lock().excused.get(&message.message_id).copied().unwrap_or_default();
        message.receive_count.saturating_sub(excused)
    }

    /// Ids and newest handles of what becomes visible before `until` although it is still held.
    pub(super) fn due(&self, now: Instant, until: Instant) -> Vec<(String, String)> {
        let table = self.lock();
        let is_due = |entry: &Entry| {
            entry.hidden_until < until && now.duration_since(entry.received) < HIDDEN_MAX
        };
        let due = table.entries.iter().filter(|(_, entry)| is_due(entry));
        due.filter_map(|(id, entry)| Some((id.clone(), entry.handles.last()?.clone()))).collect()
    }

    /// Notes that a message is hidden until then.
    pub(super) fn extend(&self, message_id: &str, hidden_until: Instant) {
        if let Some(entry) = self.lock().entries.get_mut(message_id) {
            entry.hidden_until = hidden_until;
        }
    }

    /// Ends the holding of everything; gives all handles.
    pub(super) fn release_all(&self) -> Vec<String> {
        let entries = std::mem::take(&mut self.lock().entries);
        entries.into_values().flat_map(|entry| entry.handles).collect()
    }

    /// Messages held, and when the oldest of them was sent.
    pub(super) fn oldest(&self) -> (usize, Option<TimeMs>) {
        let table = self.lock();
        (table.entries.len(), table.entries.values().map(|entry| entry.sent).min())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change under the lock is whole before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(handle: &str, receive_count: u32) -> Received {
        Received {
            message_id: "m".into(),
            receipt_handle: handle.into(),
            body: String::new(),
            sent: TimeMs(5),
            receive_count,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn a_second_delivery_adds_its_handle_and_is_not_processed() {
        let (held, now) = (Held::default(), Instant::now());
        assert!(held.insert(&received("a", 1), now, now));
        assert!(!held.insert(&received("b", 2), now, now));
        assert_eq!(held.oldest(), (1, Some(TimeMs(5))));
        assert_eq!(held.finish("m"), ["a", "b"]);
        assert!(held.finish("m").is_empty());
        assert!(held.insert(&received("c", 3), now, now), "done means it may come anew");
    }

    #[test]
    fn only_the_newest_handles_are_kept() {
        let (held, now) = (Held::default(), Instant::now());
        for n in 0..20 {
            held.insert(&received(&n.to_string(), n), now, now);
        }
        let handles = held.finish("m");
        assert_eq!(handles.len(), HANDLES_MAX);
        assert_eq!(handles.last().map(String::as_str), Some("19"));
    }

    #[test]
    fn excused_deliveries_do_not_count_against_a_message() {
        let (held, now) = (Held::default(), Instant::now());
        for count in 1..=3 {
            held.insert(&received("a", count), now, now);
            held.release("m", count != 2);
        }
        assert_eq!(held.counted(&received("a", 4)), 2);
        held.finish("m");
        assert_eq!(held.counted(&received("a", 4)), 4);
    }

    #[test]
    fn what_soon_becomes_visible_is_due_until_the_queue_lets_go_of_it_anyway() {
        let (held, now) = (Held::default(), Instant::now());
        let second = Duration::from_secs(1);
        held.insert(&received("a", 1), now, now + 10 * second);
        assert!(held.due(now, now + 9 * second).is_empty());
        assert_eq!(held.due(now, now + 11 * second).len(), 1);
        held.extend("m", now + 30 * second);
        assert!(held.due(now, now + 11 * second).is_empty());
        let late = now + Duration::from_secs(12 * 60 * 60);
        assert!(held.due(late, late + second).is_empty());
    }
}
