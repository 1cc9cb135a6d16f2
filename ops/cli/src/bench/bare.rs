//! The ceiling: the same frames into three shared logs, synced, and three state stores, in one
//! process, without consensus, network, registers or compression. No cluster on the same disk and
//! processors can be faster than this.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use platbook_chaos_tests::operator::now_ms;
use platbook_engine::command;
use platbook_engine::log::{LogConfig, OsFiles, Record, SharedLog};
use platbook_engine::store::{Entry, EntryBody, Position, Store, StoreConfig};
use platbook_protocol::frame::{Compressor, Dictionary, LEVELS, train_dictionary};
use platbook_protocol::op::{BATCH_BYTES_MAX, BATCH_OPS_MAX, Body, Op, OpList, Stamp};
use platbook_protocol::register::Recreate;
use platbook_protocol::{Digest, ReplicaId, Revision, ShardId, Slot, SlotRange, TimeMs, Zip};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::drive::Listing;
use super::usage;

const REPLICAS: usize = 3;
const TERM: u64 = 1;
/// What a log entry is, opaque to the log.
const KIND: u8 = 1;
/// Bytes of the summary that stands with every row, about.
const SUMMARY_BYTES: usize = 40;
/// Listings that a dictionary is trained from.
const SAMPLES: usize = 2_000;

/// What it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare {
    pub(super) listings: usize,
    pub(super) took: Duration,
    pub(super) cpu: Duration,
    /// Of one log.
    pub(super) syncs: u64,
    /// Bytes of all frames.
    pub(super) frame_bytes: usize,
}

/// Writes `listings` three times into `dir`.
pub(super) async fn measure(dir: &Path, listings: &[Listing], shards: u32) -> anyhow::Result<Bare> {
    let frames = frames(listings)?;
    let slots = SlotRange::partition(shards);
    let entries = entries(listings, &frames, &slots)?;
    let mut replicas = Vec::new();
    for at in 0..REPLICAS {
        replicas.push(Replica::open(&dir.join(format!("bare-{at}")), &slots, at)?);
    }
    let (began, cpu) = (Instant::now(), usage::of(std::process::id())?.cpu);
    let mut running = JoinSet::new();
    for replica in &replicas {
        for (shard, entries) in entries.iter().enumerate() {
            running.spawn(replica.clone().write(shard, entries.clone()));
        }
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let (took, cpu) = (began.elapsed(), usage::of(std::process::id())?.cpu - cpu);
    let syncs = replicas[0].log.counters().syncs;
    for replica in replicas {
        replica.log.close().await?;
        replica.store.close()?;
    }
    let frame_bytes = frames.iter().map(Vec::len).sum();
    Ok(Bare { listings: listings.len(), took, cpu, syncs, frame_bytes })
}

/// Every body, compressed as the edge of a cluster does it once it has trained a dictionary.
fn frames(listings: &[Listing]) -> anyhow::Result<Vec<Vec<u8>>> {
    let samples: Vec<&[u8]> = listings.iter().take(SAMPLES).map(|one| &one.body[..]).collect();
    let dictionary = Dictionary::try_new(1, train_dictionary(&samples)?)?;
    let mut packer = Compressor::try_new(*LEVELS.start(), Some(&dictionary))?;
    listings.iter().map(|one| Ok(packer.compress(&one.body)?)).collect()
}

/// The payloads of each shard's log entries, as full as a cluster makes them.
fn entries(
    listings: &[Listing],
    frames: &[Vec<u8>],
    slots: &[SlotRange],
) -> anyhow::Result<Vec<Arc<[Bytes]>>> {
    let stamp = Stamp {
        clock: TimeMs(now_ms()),
        skew_ms: 300_000,
        recreate: Recreate::BothClocks,
        tombstone_retention_ms: 1 << 32,
    };
    let mut lists: Vec<OpList> = slots.iter().map(|_| OpList::default()).collect();
    let mut entries: Vec<Vec<Bytes>> = slots.iter().map(|_| Vec::new()).collect();
    for (listing, frame) in listings.iter().zip(frames) {
        let zip = Zip::try_parse(&listing.zip).context("five digits")?;
        let slot = Slot::of_zip(&zip);
        let shard = slots.iter().position(|range| range.contains(slot)).context("a shard")?;
        let body = Body { summary: &[0; SUMMARY_BYTES], frame };
        let revision = Revision::at(stamp.clock);
        let (id, digest) = (listing.id.as_str(), Digest([0; 16]));
        lists[shard].push(&Op::Write { id, zip, revision, digest, body });
        let is_full = lists[shard].count() == BATCH_OPS_MAX
            || lists[shard].bytes().len() + frame.len() > BATCH_BYTES_MAX;
        if is_full {
            let list = std::mem::take(&mut lists[shard]);
            entries[shard].push(command::ops(stamp, &[list.bytes()]));
        }
    }
    for (list, entries) in lists.into_iter().zip(&mut entries) {
        if list.count() > 0 {
            entries.push(command::ops(stamp, &[list.bytes()]));
        }
    }
    Ok(entries.into_iter().map(Arc::from).collect())
}

/// One log and one store.
#[derive(Clone)]
struct Replica {
    log: SharedLog,
    store: Store,
    slots: Arc<[SlotRange]>,
    number: u64,
}

impl Replica {
    fn open(dir: &Path, slots: &[SlotRange], at: usize) -> anyhow::Result<Replica> {
        let logs = dir.join("log");
        std::fs::create_dir_all(&logs).context("making a directory")?;
        let files = Arc::new(OsFiles::try_new(&logs)?);
        let log = SharedLog::open(LogConfig::default(), files)?;
        let store = Store::open(StoreConfig::at(dir.join("store")))?;
        Ok(Replica { log, store, slots: slots.into(), number: at as u64 })
    }

    /// One shard's entries: each synced, then applied, while the other shards do the same.
    async fn write(self, at: usize, entries: Arc<[Bytes]>) -> anyhow::Result<()> {
        let shard = ShardId(at as u32 + 1);
        let replica = ReplicaId(self.number << 32 | u64::from(shard.0));
        let log = self.log.group(replica, shard);
        let store = self.store.shard(shard, Some(self.slots[at]), replica)?;
        for (payload, index) in entries.iter().zip(1..) {
            let (done, synced) = oneshot::channel();
            let record = Record { term: TERM, index, kind: KIND, payload: payload.clone() };
            let flushed = Box::new(move |result| {
                // The receiver waits below.
                let _ = done.send(result);
            });
            log.append(vec![record], flushed).await;
            synced.await.map_err(|_| anyhow!("the log has ended"))??;
            let position = Position { term: TERM, index };
            let entry = Entry { position, body: EntryBody::Command(payload.clone()) };
            tokio::task::block_in_place(|| store.apply(vec![entry]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::bodies::Bodies;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_listing_is_in_every_store_and_the_logs_were_synced() {
        let dir = tempfile::tempdir().unwrap();
        let listings = Bodies::try_new(3, 3_500).unwrap().many(0, 2_500);
        let bare = measure(dir.path(), &listings, 4).await.unwrap();
        assert_eq!(bare.listings, 2_500);
        assert!(bare.syncs > 0 && bare.frame_bytes < 2_500 * 2_000, "{bare:?}");
        let slots = SlotRange::partition(4);
        for at in 0..REPLICAS {
            let path = dir.path().join(format!("bare-{at}")).join("store");
            let store = Store::open(StoreConfig::at(path)).unwrap();
            let mut rows = 0;
            for (shard, range) in (1..).zip(&slots) {
                let replica = ReplicaId((at as u64) << 32 | u64::from(shard));
                let shard = store.shard(ShardId(shard), Some(*range), replica).unwrap();
                rows += shard.applied().seq.0;
            }
            assert_eq!(rows, 2_500);
        }
    }
}
