//! Freeing space: whole segments are removed, oldest first, once no group needs them.

use std::sync::Arc;

use platbook_protocol::{ReplicaId, ShardId, TimeMs};

use super::error::LogError;
use super::group::{EntryId, Group, Record};
use super::queue::{Op, Work};
use super::shared::SharedLog;

/// A segment is worth emptying when less than one part in this many is still live.
const LIVE_PARTS: u64 = 4;

/// A group whose entries keep the log above its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The group's replica.
    pub replica: ReplicaId,
    /// Its shard.
    pub shard: ShardId,
    /// Payload bytes that it keeps in segments that ought to go.
    pub bytes: u64,
    /// Were the group purged up to here, it would keep none of them.
    pub purge_to: EntryId,
}

/// What `collect` did, and who is in its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Segments removed.
    pub segments: usize,
    /// Entries queued to be appended again; their old segment goes at a later call.
    pub reappended: usize,
    /// Groups to purge, because the log is greater than `log_bytes_max` or older than `retention`;
    /// what is needed is never removed.
    pub held_back: Vec<HeldBack>,
}

impl SharedLog {
    /// Removes segments that no group needs any more, and helps quiet groups out of nearly empty
    /// ones. Blocks on the disk: call it from a thread that may, after purging. `now` decides what
    /// is too old: were it wrong, followers and readers would find less log, and nothing would be
    /// lost.
    pub fn collect(&self, now: TimeMs) -> Result<Collected, LogError> {
        let core = self.core();
        let _one_at_a_time = core.collecting.lock().expect("no holder of the lock panics");
        if let Some(reason) = self.fault().borrow().as_deref() {
            return Err(LogError::Poisoned { reason: reason.into() });
        }
        // Sizes first: whatever is written later stands in the newest of these, or behind it.
        let sizes = core.segments.sizes();
        let groups: Vec<Arc<Group>> = core.synced().values().cloned().collect();
        let segments = self.remove_unused(&sizes, &groups)?;
        let reappended = self.reappend(&groups)?;
        let held_back = self.held_back(&groups, now)?;
        Ok(Collected { segments, reappended, held_back })
    }

    /// Only what is synced counts: a purge that a crash takes back still needs its entries.
    fn remove_unused(
        &self,
        sizes: &[(u32, u64)],
        groups: &[Arc<Group>],
    ) -> Result<usize, LogError> {
        let core = self.core();
        let Some((newest, _)) = sizes.last() else { return Ok(0) };
        let oldest_used = groups
            .iter()
            .filter_map(|group| group.inner().index.usage().keys().next().copied())
            .min()
            .unwrap_or(*newest);
        let mut removed = 0;
        for (number, _) in &sizes[..sizes.len() - 1] {
            if *number >= oldest_used {
                break;
            }
            core.segments.remove(*number).map_err(|error| core.poison(&error))?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Appends the live entries of the oldest segment again, if they are few.
    fn reappend(&self, groups: &[Arc<Group>]) -> Result<usize, LogError> {
        let core = self.core();
        let sizes = core.segments.sizes();
        let [(oldest, bytes), newer @ ..] = sizes.as_slice() else { return Ok(0) };
        if newer.len() < core.config.reappend_segments_min.max(1) {
            return Ok(0);
        }
        let live = |group: &Arc<Group>| group.inner().index.usage().get(oldest).copied();
        let live_bytes: u64 = groups.iter().filter_map(live).map(|usage| usage.bytes).sum();
        if live_bytes > bytes / LIVE_PARTS {
            return Ok(0);
        }
        let mut room = core.config.reappend_bytes_max;
        let mut moved = 0;
        for group in groups.iter().filter(|group| live(group).is_some()) {
            moved += self.reappend_group(group, *oldest, &mut room)?;
        }
        core.metrics.on_reappend(moved);
        Ok(moved)
    }

    /// Queues copies of the group's entries in `segment` for as long as `room` bytes last.
    fn reappend_group(
        &self,
        group: &Arc<Group>,
        segment: u32,
        room: &mut usize,
    ) -> Result<usize, LogError> {
        let handle = self.handle_of(group.clone());
        let indexes: Vec<u64> = {
            let inner = group.inner();
            let here = |location: &super::index::Location| location.segment == segment;
            inner.index.entries().filter(|(_, l)| here(l)).map(|(index, _)| index).collect()
        };
        let mut records: Vec<Record> = Vec::new();
        for index in indexes {
            let found = match handle.read(index..index + 1, 0) {
                Ok(found) => found,
                // Removed meanwhile: then nothing of it is in the way.
                Err(LogError::Removed { .. }) => return Ok(0),
                Err(error) => return Err(error),
            };
            let Some(record) = found.into_iter().find(|r| r.index == index) else { continue };
            if record.payload.len() > *room {
                *room = 0;
                break;
            }
            *room -= record.payload.len();
            records.push(record);
        }
        self.queue_moved(group, records)
    }

    /// Queues copies of those records that are still live.
    pub(super) fn queue_moved(
        &self,
        group: &Arc<Group>,
        records: Vec<Record>,
    ) -> Result<usize, LogError> {
        let core = self.core();
        let mut moved = 0;
        let bytes_max = core.config.record_bytes_max();
        for records in super::group::split(records, bytes_max) {
            let mut work = Work::Entries { records, moved: true };
            let Some(room) = core.queue.try_room(work.body_bytes()) else { break };
            let inner = group.inner();
            if let Work::Entries { records, .. } = &mut work {
                // The group may have gone on; its order in the log is the order under this lock.
                records.retain(|record| inner.is_live((record.term, record.index)));
                moved += records.len();
            }
            let op = Op { group: group.clone(), work, done: None, room: Some(room) };
            let pushed = core.queue.push(vec![op]);
            drop(inner);
            pushed.map_err(|(error, _)| error)?;
        }
        Ok(moved)
    }

    /// Who holds the segments by which the log is too great, or that are too old.
    fn held_back(&self, groups: &[Arc<Group>], now: TimeMs) -> Result<Vec<HeldBack>, LogError> {
        let core = self.core();
        let sizes = core.segments.sizes();
        let mut excess = sizes.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut limit = 0;
        for (number, bytes) in &sizes[..sizes.len().saturating_sub(1)] {
            if excess <= core.config.log_bytes_max {
                break;
            }
            excess -= bytes;
            limit = *number;
        }
        let limit = limit.max(self.newest_expired(&sizes, now)?);
        Ok(groups.iter().filter_map(|group| held_by(group, limit)).collect())
    }

    /// The newest of those sealed segments that are all too old; 0 where none is.
    fn newest_expired(&self, sizes: &[(u32, u64)], now: TimeMs) -> Result<u32, LogError> {
        let core = self.core();
        let retention_ms = core.config.retention.as_millis();
        let mut expired = 0;
        for (number, _) in &sizes[..sizes.len().saturating_sub(1)] {
            let written = core.segments.file(*number)?.written();
            let written = written
                .map_err(|e| LogError::io("read the age of", &super::segment::name(*number), e))?;
            if u128::from(now.0.saturating_sub(written.0)) <= retention_ms {
                break;
            }
            expired = *number;
        }
        Ok(expired)
    }
}

/// What the group keeps in segments up to `limit`.
fn held_by(group: &Group, limit: u32) -> Option<HeldBack> {
    let inner = group.inner();
    let bytes = inner.index.usage().range(..=limit).map(|(_, usage)| usage.bytes);
    let bytes = bytes.reduce(|a, b| a + b)?;
    // An entry that was appended again may stand behind younger ones: the last one counts.
    let held = inner.index.entries().filter(|(_, location)| location.segment <= limit);
    let (index, location) = held.last()?;
    let purge_to = (location.term(), index);
    Some(HeldBack { replica: group.replica, shard: group.shard, bytes, purge_to })
}
