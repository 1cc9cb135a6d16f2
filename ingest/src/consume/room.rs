//! How much may be between poll and delete.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::queue::BATCH_ENTRIES_MAX;

/// Largest message that a queue gives, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What a message costs besides its body, in KiB.
const OVERHEAD_KIB: u32 = 2;
/// The body is held twice: as received, for the quarantine, and as a line for the router.
const BODIES: usize = 2;
/// What one poll may bring, in KiB.
const POLL_KIB: u32 =
    BATCH_ENTRIES_MAX as u32 * ((BODIES * MESSAGE_BYTES_MAX) as u32 / 1024 + OVERHEAD_KIB);

/// The limits, and what is taken of them.
#[derive(Clone, Debug)]
pub(super) struct Room {
    kib: Arc<Semaphore>,
    messages: Arc<Semaphore>,
}

/// A part of the room; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    kib: OwnedSemaphorePermit,
    messages: OwnedSemaphorePermit,
}

impl Room {
    /// Least bytes with which `consumers` can all poll.
    pub(super) fn least_bytes(consumers: usize) -> u64 {
        consumers as u64 * u64::from(POLL_KIB) * 1024
    }

    pub(super) fn new(bytes_max: u64, messages_max: usize) -> Room {
        let kib = (bytes_max / 1024).min(Semaphore::MAX_PERMITS as u64) as usize;
        Room {
            kib: Arc::new(Semaphore::new(kib)),
            messages: Arc::new(Semaphore::new(messages_max)),
        }
    }

    /// Waits until whatever one poll may bring has room.
    pub(super) async fn for_poll(&self) -> Share {
        let never = "the semaphores are never closed";
        let messages = Arc::clone(&self.messages).acquire_many_owned(BATCH_ENTRIES_MAX as u32);
        let messages = messages.await.expect(never);
        let kib = Arc::clone(&self.kib).acquire_many_owned(POLL_KIB).await.expect(never);
        Share { kib, messages }
    }
}

impl Share {
    /// Takes off the part of one message with so many bytes. Only a queue that breaks its own
    /// limits can ask for more than is left; it then gets what is left.
    pub(super) fn for_message(&mut self, bytes: usize) -> Share {
        let wanted = (BODIES * bytes).div_ceil(1024) + OVERHEAD_KIB as usize;
        let take = |permit: &mut OwnedSemaphorePermit, wanted: usize| {
            let wanted = wanted.min(permit.num_permits());
            permit.split(wanted).expect("it has at least as many")
        };
        Share { kib: take(&mut self.kib, wanted), messages: take(&mut self.messages, 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_poll_waits_until_held_messages_have_left() {
        let room = Room::new(Room::least_bytes(1), 15);
        let mut poll = room.for_poll().await;
        let held: Vec<Share> = (0..10).map(|_| poll.for_message(MESSAGE_BYTES_MAX)).collect();
        drop(poll);
        let mut next = std::pin::pin!(room.for_poll());
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        drop(held);
        next.await;
    }
}
