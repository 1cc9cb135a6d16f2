//! Messages in memory, with a limit: a feed without a directory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::record::{Location, Message, Record};
use super::store::StoreError;

/// What a message costs besides its body and attributes, in bytes.
const OVERHEAD_BYTES: usize = 256;

/// The write side.
pub(super) struct Memory {
    bodies: Arc<Bodies>,
    bytes_max: usize,
    next: u64,
}

/// The read side.
#[derive(Debug, Default)]
pub(super) struct Bodies(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Each with its copies that are not deleted.
    messages: HashMap<Location, (Message, u8)>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Memory {
        Memory { bodies: Arc::default(), bytes_max, next: 0 }
    }

    pub(super) fn bodies(&self) -> Arc<Bodies> {
        Arc::clone(&self.bodies)
    }

    /// Takes all the records or, where they do not fit, none.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<Vec<Location>, StoreError> {
        let mut held = self.bodies.lock();
        let adds: usize = records.iter().map(cost).sum();
        if held.bytes + adds > self.bytes_max && adds > 0 {
            return Err(StoreError::Full { bytes: held.bytes, bytes_max: self.bytes_max });
        }
        held.bytes += adds;
        let mut locations = Vec::with_capacity(records.len());
        for record in records {
            self.next += 1;
            let location = Location { segment: (self.next >> 32) as u32, offset: self.next as u32 };
            locations.push(location);
            match record {
                Record::Message(message) => {
                    let copies = message.copies;
                    held.messages.insert(location, (owned(message), copies));
                }
                Record::Delete { key, back: false } => held.release(key.location),
                Record::Delete { back: true, .. }
                | Record::Queue { .. }
                | Record::QueueGone { .. } => {}
            }
        }
        Ok(locations)
    }
}

impl Bodies {
    pub(super) fn read(&self, locations: &[Location]) -> Vec<Option<Message>> {
        let held = self.lock();
        let find = |at| held.messages.get(at).map(|(message, _)| message.clone());
        locations.iter().map(find).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every change under the lock is whole before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn release(&mut self, location: Location) {
        let Some((message, copies)) = self.messages.get_mut(&location) else { return };
        *copies -= 1;
        if *copies == 0 {
            self.bytes -= message_cost(message);
            self.messages.remove(&location);
        }
    }
}

/// The message in buffers of its own: slices would keep the whole request that it came in.
fn owned(message: &Message) -> Message {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    Message {
        trace: copy(&message.trace),
        attributes: copy(&message.attributes),
        body: copy(&message.body),
        ..message.clone()
    }
}

fn cost(record: &Record) -> usize {
    match record {
        Record::Message(message) => message_cost(message),
        Record::Delete { .. } | Record::Queue { .. } | Record::QueueGone { .. } => 0,
    }
}

fn message_cost(message: &Message) -> usize {
    OVERHEAD_BYTES + message.body.len() + message.attributes.len() + message.trace.len()
}
