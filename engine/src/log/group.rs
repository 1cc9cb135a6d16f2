//! One Raft group's part of the shared log.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use platbook_protocol::{ReplicaId, ShardId};
use tokio::sync::{oneshot, watch};

use super::error::LogError;
use super::event::Event;
use super::index::GroupIndex;
use super::queue::{Op, Work};
use super::shared::Handle;
use super::tail::Tail;

/// Greatest vote, in bytes.
pub(crate) const VOTE_BYTES_MAX: usize = 1024;

/// Term and index of an entry.
pub type EntryId = (u64, u64);

/// Called once, when the work is synced or never will be.
pub type Flushed = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// One entry of a Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Term in which it was proposed.
    pub term: u64,
    /// Its place in the group's log.
    pub index: u64,
    /// What it is; opaque to the log.
    pub kind: u8,
    /// Its content; opaque to the log.
    pub payload: Bytes,
}

/// The small state of a group, as submitted: it may not be synced yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last vote.
    pub vote: Option<Bytes>,
    /// The last entry that was purged.
    pub purged: Option<EntryId>,
    /// The last entry; the purged one if there is none behind it.
    pub last: Option<EntryId>,
}

/// A group as the writer and its handles share it.
pub(crate) struct Group {
    pub(crate) replica: ReplicaId,
    pub(crate) shard: ShardId,
    inner: Mutex<Inner>,
    durable: watch::Sender<Option<u64>>,
}

/// Invariant: an index from the view's first to its last is in `tail`, or else in `index`, and
/// then it is the same entry there.
pub(crate) struct Inner {
    /// As submitted: what callers see.
    view: GroupState,
    /// The first live index, as submitted.
    first: u64,
    pub(crate) tail: Tail,
    /// As synced: what a crash leaves.
    pub(crate) index: GroupIndex,
    /// Truncations submitted but not synced. Until they are, `index` may hold entries that are no
    /// longer wanted at indexes that are used again.
    truncations: usize,
    removed: bool,
}

impl Inner {
    /// The greatest index such that the entries up to it are synced.
    fn durable(&self) -> Option<u64> {
        let synced = self.index.state().last.map(|(_, index)| index);
        let wanted = self.view.last.map(|(_, index)| index);
        // An older entry at the same index may be what is synced.
        let limit = if self.truncations == 0 { wanted } else { None };
        synced.min(limit)
    }

    fn term(&self, index: u64) -> Option<u64> {
        match self.tail.get(index) {
            Some(record) => Some(record.term),
            None => self.index.location(index).map(|location| location.term()),
        }
    }

    fn term_of_live(&self, replica: ReplicaId, index: u64) -> Result<u64, LogError> {
        self.term(index).ok_or(LogError::MissingIndex { replica, index })
    }

    /// The live indexes, as submitted.
    pub(crate) fn live(&self) -> Range<u64> {
        self.first..self.view.last.map_or(0, |(_, last)| last + 1)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    /// Whether the entry is live in the view.
    pub(crate) fn is_live(&self, (term, index): EntryId) -> bool {
        !self.removed && self.live().contains(&index) && self.term(index) == Some(term)
    }

    /// When the oldest record that may leave the tail was appended, and the index up to which
    /// records may leave.
    pub(crate) fn evictable(&self) -> Option<(u64, u64)> {
        let durable = self.durable()?;
        (self.tail.first()? <= durable).then_some((self.tail.first_stamp()?, durable))
    }
}

/// Cuts records into parts of about `bytes_max`: at least one part, even of nothing.
pub(crate) fn split(records: Vec<Record>, bytes_max: usize) -> Vec<Vec<Record>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        if !part.is_empty() && bytes + record.payload.len() > bytes_max {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += record.payload.len();
        part.push(record);
    }
    parts.push(part);
    parts
}

impl Group {
    pub(crate) fn new(
        replica: ReplicaId,
        shard: ShardId,
        index: GroupIndex,
        tail_bytes: Arc<AtomicUsize>,
    ) -> Group {
        let view = index.state().clone();
        let first = index.first();
        let tail = Tail::new(tail_bytes);
        let inner = Inner { view, first, tail, index, truncations: 0, removed: false };
        let durable = watch::Sender::new(inner.durable());
        Group { replica, shard, inner: Mutex::new(inner), durable }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a group panics")
    }

    /// Folds events that are now synced.
    pub(crate) fn on_synced(&self, segment: u32, events: &[Event]) -> Result<(), &'static str> {
        let mut inner = self.inner();
        for event in events {
            inner.index.apply(segment, event)?;
            if let Event::Truncate(_) = event {
                inner.truncations -= 1;
            }
        }
        self.publish(&inner);
        Ok(())
    }

    fn publish(&self, inner: &Inner) {
        let durable = match inner.truncations {
            0 => inner.durable(),
            // It has fallen when the truncation was submitted and rises when that is synced.
            _ => return,
        };
        self.durable.send_if_modified(|value| std::mem::replace(value, durable) != durable);
    }
}

/// A group's handle to the shared log. Clones share the group.
#[derive(Clone)]
pub struct GroupLog {
    pub(crate) group: Arc<Group>,
    pub(crate) handle: Arc<Handle>,
}

impl GroupLog {
    /// The group's replica.
    pub fn replica(&self) -> ReplicaId {
        self.group.replica
    }

    /// The shard that the replica is a copy of.
    pub fn shard(&self) -> ShardId {
        self.group.shard
    }

    /// Vote, purged and last entry as submitted so far.
    pub fn state(&self) -> GroupState {
        self.group.inner().view.clone()
    }

    /// Why the whole log is poisoned, if it is: what was appended since is not in it.
    pub fn fault(&self) -> Option<String> {
        self.handle.core.fault.borrow().clone()
    }

    /// Follows the greatest index such that everything up to it is synced; it falls at a
    /// truncation. `None`: nothing is.
    pub fn durable_index(&self) -> watch::Receiver<Option<u64>> {
        self.group.durable.subscribe()
    }

    /// Appends records behind the last one. Returns when they are readable; `flushed` is called
    /// when they are synced. Waits only for room in the queue.
    pub async fn append(&self, records: Vec<Record>, flushed: Flushed) {
        if let Err((error, flushed)) = self.try_append(records, flushed).await {
            flushed(Err(error));
        }
    }

    async fn try_append(
        &self,
        records: Vec<Record>,
        flushed: Flushed,
    ) -> Result<(), (LogError, Flushed)> {
        let bytes_max = self.handle.core.config.record_bytes_max();
        if let Some(bytes) = records.iter().map(|r| r.payload.len()).find(|b| *b > bytes_max) {
            return Err((LogError::TooLarge { bytes, bytes_max }, flushed));
        }
        let mut works = Vec::new();
        for records in split(records, bytes_max) {
            works.push(Work::Entries { records, moved: false });
        }
        let bytes = works.iter().map(Work::body_bytes).sum();
        let room = match self.handle.core.queue.room(bytes).await {
            Ok(room) => room,
            Err(error) => return Err((error, flushed)),
        };
        let mut inner = self.group.inner();
        if let Err(error) = self.check_next(&inner, &works) {
            return Err((error, flushed));
        }
        let stamp = self.handle.core.next_stamp();
        for work in &works {
            let Work::Entries { records, .. } = work else { continue };
            for record in records {
                if inner.view.last.is_none() {
                    inner.first = record.index;
                }
                inner.view.last = Some((record.term, record.index));
                inner.tail.push(stamp, record.clone());
            }
        }
        let mut ops: Vec<Op> = works.into_iter().map(|work| self.op(work)).collect();
        let last = ops.last_mut().expect("there is at least one part");
        last.room = Some(room);
        last.done = Some(flushed);
        let pushed = self.handle.core.queue.push(ops);
        drop(inner);
        match pushed {
            Ok(()) => Ok(()),
            Err((error, mut ops)) => {
                let flushed = ops.pop().and_then(|op| op.done).expect("set just now");
                Err((error, flushed))
            }
        }
    }

    fn op(&self, work: Work) -> Op {
        Op { group: self.group.clone(), work, done: None, room: None }
    }

    fn check_next(&self, inner: &Inner, works: &[Work]) -> Result<(), LogError> {
        let replica = self.group.replica;
        if inner.removed {
            return Err(LogError::Removed { replica });
        }
        let mut expected = inner.view.last.map(|(_, last)| last + 1);
        for work in works {
            let Work::Entries { records, .. } = work else { continue };
            for record in records {
                let found = record.index;
                match expected {
                    Some(expected) if expected != found => {
                        return Err(LogError::NotContiguous { replica, expected, found });
                    }
                    Some(_) | None => expected = Some(found + 1),
                }
            }
        }
        Ok(())
    }

    /// Saves the vote; resolves when it is synced.
    pub async fn save_vote(&self, vote: Bytes) -> Result<(), LogError> {
        if vote.len() > VOTE_BYTES_MAX {
            let bytes = vote.len();
            return Err(LogError::TooLarge { bytes, bytes_max: VOTE_BYTES_MAX });
        }
        let (sender, receiver) = oneshot::channel();
        let done: Flushed = Box::new(move |result| {
            // Whoever asked may have gone; the vote is saved all the same.
            let _ = sender.send(result);
        });
        let work = Work::Vote(vote.clone());
        self.submit(work, Some(done), |inner| inner.view.vote = Some(vote)).await?;
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    /// Drops the entries behind `keep`, or all; ordered before later appends, not synced.
    pub async fn truncate_after(&self, keep: Option<u64>) -> Result<(), LogError> {
        let replica = self.group.replica;
        let room = self.handle.core.queue.room(Work::Truncate(None).body_bytes()).await?;
        let mut inner = self.group.inner();
        if inner.removed {
            return Err(LogError::Removed { replica });
        }
        let last = match keep {
            Some(keep) if inner.view.last.is_none_or(|(_, last)| last <= keep) => return Ok(()),
            Some(keep) if keep >= inner.first => Some((inner.term_of_live(replica, keep)?, keep)),
            // What is purged is decided: nothing before it can be taken back.
            Some(_) | None => inner.view.purged,
        };
        let end = last.map_or(inner.first, |(_, index)| index + 1);
        inner.tail.truncate(end);
        inner.view.last = last;
        inner.truncations += 1;
        let kept = last.map(|(_, index)| index);
        self.group.durable.send_if_modified(|value| {
            let falls = *value > kept;
            *value = kept.min(*value);
            falls
        });
        let mut op = self.op(Work::Truncate(last));
        op.room = Some(room);
        self.handle.core.queue.push(vec![op]).map_err(|(error, _)| error)
    }

    /// Drops the entries up to `index`, which has `term`; seen at once, ordered, not synced.
    pub async fn purge(&self, term: u64, index: u64) -> Result<(), LogError> {
        let id = (term, index);
        self.submit(Work::Purge(id), None, |inner| {
            if inner.view.purged.is_some_and(|(_, purged)| index <= purged) {
                return;
            }
            inner.view.purged = Some(id);
            inner.first = inner.first.max(index + 1);
            inner.tail.drop_before(index + 1);
            if inner.view.last.is_none_or(|(_, last)| last <= index) {
                inner.view.last = Some(id);
            }
        })
        .await
    }

    async fn submit(
        &self,
        work: Work,
        done: Option<Flushed>,
        change: impl FnOnce(&mut Inner),
    ) -> Result<(), LogError> {
        let room = self.handle.core.queue.room(work.body_bytes()).await?;
        let mut inner = self.group.inner();
        if inner.removed {
            return Err(LogError::Removed { replica: self.group.replica });
        }
        change(&mut inner);
        let mut op = self.op(work);
        op.done = done;
        op.room = Some(room);
        self.handle.core.queue.push(vec![op]).map_err(|(error, _)| error)
    }

    /// Queues the end of the group behind all its earlier work.
    pub(crate) fn remove(&self) -> Result<(), LogError> {
        let mut inner = self.group.inner();
        inner.removed = true;
        inner.tail.truncate(0);
        self.handle.core.queue.push(vec![self.op(Work::Remove)]).map_err(|(error, _)| error)
    }
}
