//! One shard's state: applying entries, reading registers, rows and ZIPs.
//!
//! Reads see the last applied batch. Whether that is fresh enough is the caller's business.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use platbook_protocol::map::Map;
use platbook_protocol::register::Register;
use platbook_protocol::rpc::{RowView, ZipState};
use platbook_protocol::{ReplicaId, Seq, ShardId, SlotRange, Zip};
use tokio::sync::watch;

use super::apply::Applying;
use super::db::{Batch, Db, Snapshot};
use super::key::{self, Key};
use super::layout::LayoutError;
use super::node::Shared;
use super::value::map;
use super::value::register::RegisterRecord;
use super::value::row::{RowRecord, ZipTotals};
use super::value::state::{Membership, State, decode_replica, encode_replica};
use super::{Applied, AppliedState, Entry, Position};
use crate::error::StoreError;

/// The state of one shard on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardStore {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) shard: ShardId,
    pub(super) slots: Option<SlotRange>,
    pub(super) replica: ReplicaId,
    /// Held while entries are applied or a snapshot is installed.
    writing: Mutex<Life>,
    shown: RwLock<Shown>,
    /// The last change applied, for those who wait for the next.
    newest: watch::Sender<Seq>,
}

/// Whether the shard may still be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// Another replica of the shard may own the key ranges by now.
    Destroyed,
}

/// The state behind the last batch that was written.
#[derive(Clone, Debug, Default)]
struct Shown {
    state: State,
    membership: Option<Membership>,
}

impl Inner {
    pub(super) fn open(
        shared: Arc<Shared>,
        shard: ShardId,
        slots: Option<SlotRange>,
        replica: ReplicaId,
    ) -> Result<Inner, StoreError> {
        let owner = Key::Replica(shard);
        match read(&shared.db, &owner, decode_replica)? {
            Some(found) if found != replica => {
                return Err(StoreError::WrongReplica { shard, found, wanted: replica });
            }
            Some(_) => {}
            None => {
                // Flushed before or with anything that is applied later.
                let mut batch = Batch::default();
                batch.put(&owner.encode(), &encode_replica(replica));
                shared.db.write(batch)?;
            }
        }
        let shown = load(&shared.db, shard)?;
        let newest = watch::Sender::new(shown.state.seq);
        let (shown, writing) = (RwLock::new(shown), Mutex::new(Life::Alive));
        Ok(Inner { shared, shard, slots, replica, writing, shown, newest })
    }

    pub(super) fn db(&self) -> &Db {
        &self.shared.db
    }

    /// Runs `write` alone.
    pub(super) fn write_alone<T>(
        &self,
        write: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let life = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match *life {
            Life::Alive => write(),
            Life::Destroyed => Err(StoreError::Destroyed { shard: self.shard }),
        }
    }

    /// Removes what is stored; nothing can be written through this handle any more.
    pub(super) fn destroy(&self) -> Result<(), StoreError> {
        let mut life = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *life == Life::Alive {
            *life = Life::Destroyed;
            destroy(self.db(), self.shard, self.slots)?;
            self.reload()?;
            self.shared.forget(self);
        }
        Ok(())
    }

    /// Shows what the database holds, after it was replaced.
    pub(super) fn reload(&self) -> Result<(), StoreError> {
        let shown = load(self.db(), self.shard)?;
        let newest = shown.state.seq;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        self.tell_newest(newest);
        Ok(())
    }

    fn tell_newest(&self, seq: Seq) {
        self.newest.send_if_modified(|newest| std::mem::replace(newest, seq) != seq);
    }

    fn apply(&self, entries: &[Entry]) -> Result<Vec<Applied>, StoreError> {
        let before = self.shown().state;
        let mut applying = Applying::new(self, before);
        let applied = entries
            .iter()
            .map(|entry| applying.entry(entry))
            .collect::<Result<Vec<Applied>, StoreError>>()?;
        let outcome = applying.finish();
        let batch_bytes = outcome.batch.bytes() as u64;
        self.db().write(outcome.batch)?;
        {
            let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            shown.state = outcome.state;
            if let Some(membership) = outcome.membership {
                shown.membership = Some(membership);
            }
        }
        self.tell_newest(outcome.state.seq);
        let totals = &self.shared.totals;
        let changes = outcome.state.seq.0 - before.seq.0;
        totals.batches.fetch_add(1, Ordering::Relaxed);
        totals.batch_bytes.fetch_add(batch_bytes, Ordering::Relaxed);
        totals.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        totals.operations.fetch_add(outcome.operations, Ordering::Relaxed);
        totals.changes.fetch_add(changes, Ordering::Relaxed);
        self.shared.on_applied(entries.len() as u64, outcome.operations)?;
        Ok(applied)
    }

    fn shown(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ShardStore {
    /// The shard.
    pub fn id(&self) -> ShardId {
        self.inner.shard
    }

    /// Where the state stands.
    pub fn applied(&self) -> AppliedState {
        let Shown { state, membership } = self.inner.shown();
        AppliedState {
            position: state.position,
            membership: membership.map(|m| (m.position, m.bytes)),
            seq: state.seq,
            horizon: state.horizon,
            floor: state.floor,
            register_horizon: state.register_horizon,
            quarantine_count: state.quarantine_count,
            quarantine_bytes: state.quarantine_bytes,
            dictionary: state.dictionary,
        }
    }

    /// The position that the state would stand at after a crash now. The log must keep everything
    /// behind it.
    pub fn flushed(&self) -> Result<Option<Position>, StoreError> {
        let key = Key::State(self.inner.shard);
        let Some(value) = self.inner.db().get_persisted(&key.encode())? else { return Ok(None) };
        let state = State::decode(&value).map_err(|source| key.corrupt(source))?;
        Ok(state.position)
    }

    /// Applies committed entries in one atomic batch and answers each. Blocks; one caller at a
    /// time. After an error nothing of the batch is visible, and the shard must stop.
    pub fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Applied>, StoreError> {
        self.inner.write_alone(|| self.inner.apply(&entries))
    }

    /// The last change applied, and every later one: for readers who wait for it.
    pub fn newest_change(&self) -> watch::Receiver<Seq> {
        self.inner.newest.subscribe()
    }

    /// What is decided about an id; `None` where it was never heard of, or was collected.
    pub fn register(&self, id: &str) -> Result<Option<Register>, StoreError> {
        let record = read(self.inner.db(), &Key::Register(id), RegisterRecord::decode)?;
        Ok(record.map(|record| record.register))
    }

    /// What stands under (ZIP, id); summary and frame only where bodies are wanted.
    pub fn row(&self, zip: Zip, id: &str, with_body: bool) -> Result<Option<RowView>, StoreError> {
        read(self.inner.db(), &Key::Row(zip, id), |value| {
            let (record, frame) = RowRecord::decode(value)?;
            let (summary, frame) = match with_body {
                true => (record.summary.to_vec(), frame.to_vec()),
                false => (Vec::new(), Vec::new()),
            };
            Ok(RowView { row: record.row, summary, frame })
        })
    }

    /// The totals of a ZIP and of its shard, of one moment.
    pub fn zip_state(&self, zip: Zip) -> Result<ZipState, StoreError> {
        zip_state_at(&self.inner.db().snapshot(), self.inner.shard, zip)
    }

    /// The cluster's map (system shard); `None` while the cluster is not formed.
    pub fn map(&self) -> Result<Option<Map>, StoreError> {
        read(self.inner.db(), &Key::Map(self.inner.shard), map::decode)
    }

    /// A dictionary for frames (system shard).
    pub fn dictionary(&self, id: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let key = Key::Dictionary(self.inner.shard, id);
        read(self.inner.db(), &key, map::decode_opaque)
    }

    /// The id of the newest dictionary (system shard); 0 before the first.
    pub fn latest_dictionary(&self) -> u32 {
        self.inner.shown().state.dictionary
    }

    /// A setting (system shard).
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        read(self.inner.db(), &Key::Setting(self.inner.shard, name), map::decode_opaque)
    }

    /// Forgets everything, durably: the replica was removed. This handle applies nothing any more;
    /// the shard can be opened as another replica.
    pub fn destroy(&self) -> Result<(), StoreError> {
        self.inner.destroy()
    }
}

/// Removes both key ranges of a shard, durably.
pub(super) fn destroy(db: &Db, shard: ShardId, slots: Option<SlotRange>) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for range in key::ranges_of(shard, slots) {
        batch.delete_range(&range.lower, &range.upper);
    }
    db.write(batch)?;
    db.flush()
}

/// The totals of a ZIP in a snapshot.
pub(super) fn zip_state_at(
    snapshot: &Snapshot,
    shard: ShardId,
    zip: Zip,
) -> Result<ZipState, StoreError> {
    let totals = read_at(snapshot, &Key::Zip(zip), ZipTotals::decode)?.unwrap_or_default();
    let state = read_at(snapshot, &Key::State(shard), State::decode)?.unwrap_or_default();
    let ZipTotals { count, bytes, seq } = totals;
    Ok(ZipState { count, bytes, seq, shard_seq: state.seq })
}

/// Reads one value of now.
pub(super) fn read<T>(
    db: &Db,
    key: &Key<'_>,
    decode: impl FnOnce(&[u8]) -> Result<T, LayoutError>,
) -> Result<Option<T>, StoreError> {
    let found = db.get(&key.encode(), decode)?;
    found.transpose().map_err(|source| key.corrupt(source))
}

/// Reads one value of a snapshot.
pub(super) fn read_at<T>(
    snapshot: &Snapshot,
    key: &Key<'_>,
    decode: impl FnOnce(&[u8]) -> Result<T, LayoutError>,
) -> Result<Option<T>, StoreError> {
    let found = snapshot.get(&key.encode(), decode)?;
    found.transpose().map_err(|source| key.corrupt(source))
}

fn load(db: &Db, shard: ShardId) -> Result<Shown, StoreError> {
    Ok(Shown {
        state: read(db, &Key::State(shard), State::decode)?.unwrap_or_default(),
        membership: read(db, &Key::Membership(shard), Membership::decode)?,
    })
}
