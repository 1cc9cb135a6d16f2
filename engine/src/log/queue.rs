//! Submitted work on its way to the writer: bounded by bytes, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::error::LogError;
use super::event;
use super::group::{EntryId, Flushed, Group, Record};
use super::layout::RECORD_HEADER;

/// What a group wants written.
pub(crate) enum Work {
    Entries { records: Vec<Record>, moved: bool },
    Vote(Bytes),
    Truncate(Option<EntryId>),
    Purge(EntryId),
    Remove,
}

impl Work {
    /// Bytes of its records in a round.
    pub(crate) fn body_bytes(&self) -> usize {
        match self {
            Work::Entries { records, .. } => {
                records.iter().map(|r| RECORD_HEADER + r.payload.len()).sum()
            }
            Work::Vote(vote) => RECORD_HEADER + vote.len(),
            Work::Truncate(_) | Work::Purge(_) | Work::Remove => RECORD_HEADER,
        }
    }

    /// How many records it makes.
    pub(crate) fn records(&self) -> u32 {
        match self {
            Work::Entries { records, .. } => records.len() as u32,
            Work::Vote(_) | Work::Truncate(_) | Work::Purge(_) | Work::Remove => 1,
        }
    }

    /// Bytes by which it may lengthen the segment's footer.
    pub(crate) fn footer_bytes(&self) -> usize {
        match self {
            Work::Entries { records, .. } => event::footer_growth(records.len(), 0),
            Work::Vote(vote) => event::footer_growth(0, vote.len()),
            Work::Truncate(_) | Work::Purge(_) | Work::Remove => event::footer_growth(0, 0),
        }
    }
}

/// One piece of work, whole in one round.
pub(crate) struct Op {
    pub(crate) group: Arc<Group>,
    pub(crate) work: Work,
    pub(crate) done: Option<Flushed>,
    /// Room in the queue, given back once the work is synced.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Op {
    /// Tells whoever waits how it ended.
    pub(crate) fn finish(self, result: Result<(), LogError>) {
        drop(self.room);
        if let Some(done) = self.done {
            done(result);
        }
    }
}

/// What the writer finds.
pub(crate) enum Taken {
    Ops(VecDeque<Op>),
    /// Nothing will come any more; `marked`: the log was closed on purpose.
    Closed {
        marked: bool,
    },
}

struct State {
    ops: VecDeque<Op>,
    closed: Option<LogError>,
    marked: bool,
}

/// The queue between all groups and the one writer.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    room: Arc<Semaphore>,
    room_bytes: u32,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Queue {
        let room_bytes = u32::try_from(bytes_max).expect("checked by the configuration");
        Queue {
            state: Mutex::new(State { ops: VecDeque::new(), closed: None, marked: false }),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(bytes_max)),
            room_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the queue panics")
    }

    fn closed(&self) -> LogError {
        self.state().closed.clone().unwrap_or(LogError::Closed)
    }

    /// Waits for room. Work greater than the whole queue takes all of it.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LogError> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        self.room.clone().acquire_many_owned(wanted).await.map_err(|_| self.closed())
    }

    /// Room, if there is any now.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        self.room.clone().try_acquire_many_owned(wanted).ok()
    }

    /// Adds work behind all earlier work; gives it back if the log takes none any more.
    pub(crate) fn push(&self, ops: Vec<Op>) -> Result<(), (LogError, Vec<Op>)> {
        let mut state = self.state();
        if let Some(error) = &state.closed {
            return Err((error.clone(), ops));
        }
        state.ops.extend(ops);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes what is queued, about `bytes_max` of it, or waits for something.
    pub(crate) async fn take(&self, bytes_max: usize) -> Taken {
        loop {
            if let Some(taken) = self.take_now(bytes_max) {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    fn take_now(&self, bytes_max: usize) -> Option<Taken> {
        let mut state = self.state();
        let (mut count, mut bytes) = (0, 0);
        for op in &state.ops {
            bytes += op.work.body_bytes();
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        if count > 0 {
            return Some(Taken::Ops(state.ops.drain(..count).collect()));
        }
        state.closed.as_ref().map(|_| Taken::Closed { marked: state.marked })
    }

    /// Takes no more work; what is queued is still written.
    pub(crate) fn close(&self, marked: bool) {
        let mut state = self.state();
        if state.closed.is_none() {
            state.closed = Some(LogError::Closed);
            state.marked = marked;
        }
        drop(state);
        self.room.close();
        self.wake.notify_one();
    }

    /// Takes no more work and gives back what is queued.
    pub(crate) fn fail(&self, error: LogError) -> Vec<Op> {
        let mut state = self.state();
        state.closed = Some(error);
        state.marked = false;
        let ops = state.ops.drain(..).collect();
        drop(state);
        self.room.close();
        self.wake.notify_one();
        ops
    }
}
