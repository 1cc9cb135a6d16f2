//! What one request handed in, and what became of each item.
//!
//! Invariant: an item is in the hands of the queue, of one batch, or done; when its request gives
//! up, an item that was never sent is known to have had no effect, and is never sent afterwards. A
//! batch goes on for those who still wait, so it looks before every attempt who that is.

use std::sync::{Arc, Mutex, MutexGuard};

use platbook_protocol::ShardId;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::error::Failure;
use crate::nodes::OnTheWire;

enum Slot<I, A> {
    Queued(I),
    Sent(Arc<OnTheWire>),
    Done(Result<A, Failure>),
}

struct State<I, A> {
    slots: Vec<Slot<I, A>>,
    open: usize,
}

/// Items that wait for one shard, shared by the request and the gatherer.
pub(crate) struct Submission<I, A> {
    state: Mutex<State<I, A>>,
    answered: Notify,
    deadline: Instant,
    shard: ShardId,
    /// Room in the queue, given back when the last item is done with.
    _room: OwnedSemaphorePermit,
}

impl<I, A> Submission<I, A> {
    /// Hands in `items`, each to be answered before `deadline`.
    pub(crate) fn new(
        shard: ShardId,
        items: Vec<I>,
        deadline: Instant,
        room: OwnedSemaphorePermit,
    ) -> Submission<I, A> {
        let open = items.len();
        let slots = items.into_iter().map(Slot::Queued).collect();
        let state = Mutex::new(State { slots, open });
        Submission { state, answered: Notify::new(), deadline, shard, _room: room }
    }

    /// When the request gives up.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes an item to send it; `None` if its request gave up.
    pub(crate) fn start(&self, index: usize, wire: &Arc<OnTheWire>) -> Option<I> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(index)?;
        match std::mem::replace(slot, Slot::Sent(wire.clone())) {
            Slot::Queued(item) => Some(item),
            other @ (Slot::Sent(_) | Slot::Done(_)) => {
                *slot = other;
                None
            }
        }
    }

    /// Whether an item that was taken to be sent is still waited for.
    pub(crate) fn is_waiting(&self, index: usize) -> bool {
        matches!(self.lock().slots.get(index), Some(Slot::Sent(_)))
    }

    /// Notes the answer to an item; one that comes after its request gave up is dropped.
    pub(crate) fn finish(&self, index: usize, result: Result<A, Failure>) {
        let mut state = self.lock();
        if let Some(slot @ Slot::Sent(_)) = state.slots.get_mut(index) {
            *slot = Slot::Done(result);
            state.open -= 1;
            if state.open == 0 {
                self.answered.notify_one();
            }
        }
    }

    /// Waits for all answers, no longer than the deadline. To be called once.
    pub(crate) async fn wait(&self) -> Vec<Result<A, Failure>> {
        let ended = GiveUp(self);
        // The deadline is an answer of its own for whatever is still open then.
        let _elapsed = tokio::time::timeout_at(self.deadline, self.answered.notified()).await;
        ended.0.give_up()
    }

    /// Ends it: what was not sent never will be.
    fn give_up(&self) -> Vec<Result<A, Failure>> {
        let shard = self.shard;
        // Until this is concluded nobody may find out who waits: an attempt that begins now has
        // said so by its mark, or finds nobody.
        let mut state = self.lock();
        let slots = std::mem::take(&mut state.slots);
        let conclude = |slot| match slot {
            Slot::Done(result) => result,
            Slot::Sent(wire) if wire.maybe() => {
                Err(Failure::Unknown { shard, reason: "the deadline passed".into() })
            }
            Slot::Sent(_) => {
                Err(Failure::Unavailable { shard, reason: "no leader before the deadline".into() })
            }
            Slot::Queued(_) => {
                Err(Failure::Unavailable { shard, reason: "queued until the deadline".into() })
            }
        };
        slots.into_iter().map(conclude).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<I, A>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whoever stops waiting, for whatever reason, gives up.
struct GiveUp<'a, I, A>(&'a Submission<I, A>);

impl<I, A> Drop for GiveUp<'_, I, A> {
    fn drop(&mut self) {
        self.0.lock().slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn submission(items: Vec<u32>) -> Submission<u32, u32> {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Submission::new(SHARD, items, Instant::now() + Duration::from_millis(1), room)
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_tells_what_was_never_sent_from_what_may_still_happen() {
        let submission = submission(vec![10, 11, 12, 13]);
        let (open, closed) = (Arc::new(OnTheWire::default()), Arc::new(OnTheWire::default()));
        open.set(true);
        assert_eq!(submission.start(0, &open), Some(10));
        assert_eq!(submission.start(1, &closed), Some(11));
        assert_eq!(submission.start(2, &open), Some(12));
        submission.finish(2, Ok(99));
        let results = submission.wait().await;
        assert!(results[0].as_ref().is_err_and(Failure::is_unknown));
        assert!(matches!(results[1], Err(Failure::Unavailable { .. })));
        assert_eq!(results[2], Ok(99));
        assert!(matches!(results[3], Err(Failure::Unavailable { .. })));
        assert_eq!(submission.start(3, &open), None, "given up is never sent");
        submission.finish(0, Ok(1));
    }

    /// Seed 301 of the simulation: a batch without a leader was tried again, for others, after one
    /// request had been told that it had no effect, and so a refused delete happened.
    #[tokio::test(start_paused = true)]
    async fn what_was_refused_between_two_attempts_is_no_part_of_the_next_one() {
        let submission = submission(vec![10]);
        let wire = Arc::new(OnTheWire::default());
        assert_eq!(submission.start(0, &wire), Some(10));
        assert!(submission.is_waiting(0));
        assert!(matches!(submission.wait().await[0], Err(Failure::Unavailable { .. })));
        wire.set(true);
        assert!(!submission.is_waiting(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_went_away_is_not_sent() {
        let submission = submission(vec![10]);
        {
            let waiting = submission.wait();
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        assert_eq!(submission.start(0, &Arc::new(OnTheWire::default())), None);
    }
}
