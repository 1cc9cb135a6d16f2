//! Whole responses to reads of ZIPs, kept up to a number of bytes.
//!
//! Invariant: a response is used only after the ZIP's present version was read and is the one that
//! the response was made from. So the cache saves work and is never stale.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use platbook_protocol::Zip;

use super::encoding::Encoding;
use super::etag::ZipVersion;
use crate::metrics::Gauge;

/// What an entry costs on top of its bytes.
const OVERHEAD_BYTES: usize = 512;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The ZIP.
    pub(crate) zip: Zip,
    /// Everything else that the answer depends on, in one spelling.
    pub(crate) query: Arc<str>,
    /// How the answer is coded.
    pub(crate) encoding: Encoding,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The state that it shows.
    pub(crate) version: ZipVersion,
    /// The body.
    pub(crate) chunks: Vec<Bytes>,
    /// Cursor of the next page.
    pub(crate) next: Option<String>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum::<usize>() + OVERHEAD_BYTES
    }
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<Key, (u64, Arc<Kept>)>,
    /// Keys by their last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

/// Keeps what was used last.
pub(crate) struct Cache {
    shelf: Mutex<Shelf>,
    bytes_max: usize,
    /// Answers that are gathered to be kept.
    gathered: Mutex<HashSet<Key>>,
    gathered_max: usize,
}

/// The right to gather one answer; given back when it is dropped.
pub(crate) struct Gathering {
    cache: Arc<Cache>,
    key: Key,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.cache.gathered().remove(&self.key);
    }
}

impl Cache {
    /// An empty cache of `bytes_max`, for entries of up to `entry_bytes_max`. What is gathered for
    /// it may take as much memory again.
    pub(crate) fn new(bytes_max: usize, entry_bytes_max: usize) -> Arc<Cache> {
        let gathered_max = (bytes_max / entry_bytes_max.max(1)).max(1);
        let (shelf, gathered) = (Mutex::default(), Mutex::default());
        Arc::new(Cache { shelf, bytes_max, gathered, gathered_max })
    }

    /// The right to gather the answer to `key`: of many who are given the same answer one gathers
    /// it, and the memory of all who gather is bounded.
    pub(crate) fn gather(self: &Arc<Self>, key: Key) -> Option<Gathering> {
        let mut gathered = self.gathered();
        let is_free = gathered.len() < self.gathered_max && gathered.insert(key.clone());
        is_free.then(|| Gathering { cache: self.clone(), key })
    }

    fn gathered(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept for `key`, of whatever version: to be checked before it is used.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = &mut *shelf;
        let (used, kept) = shelf.entries.get_mut(key)?;
        shelf.order.remove(used);
        shelf.clock += 1;
        *used = shelf.clock;
        shelf.order.insert(shelf.clock, key.clone());
        Some(kept.clone())
    }

    /// Keeps a response, dropping what was not used for longest; `gauge` follows the bytes.
    pub(crate) fn put(&self, key: Key, kept: Kept, gauge: &Gauge) {
        let size = kept.bytes();
        if size > self.bytes_max {
            return;
        }
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shelf.bytes;
        shelf.drop_entry(&key);
        while shelf.bytes + size > self.bytes_max {
            let Some((_, oldest)) = shelf.order.pop_first() else { break };
            shelf.drop_entry(&oldest);
        }
        shelf.clock += 1;
        let clock = shelf.clock;
        shelf.order.insert(clock, key.clone());
        shelf.entries.insert(key, (clock, Arc::new(kept)));
        shelf.bytes += size;
        gauge.add(shelf.bytes as i64 - before as i64);
    }
}

impl Shelf {
    fn drop_entry(&mut self, key: &Key) {
        if let Some((used, kept)) = self.entries.remove(key) {
            self.order.remove(&used);
            self.bytes -= kept.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::{Seq, ShardId};

    use super::*;

    fn key(query: &str) -> Key {
        Key { zip: Zip::Unknown, query: query.into(), encoding: Encoding::Identity }
    }

    fn kept(seq: u64, bytes: usize) -> Kept {
        let version = ZipVersion { incarnation: 1, shard: ShardId(1), seq: Seq(seq) };
        Kept { version, chunks: vec![Bytes::from(vec![0; bytes])], next: None }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = Cache::new(3 * (1_000 + OVERHEAD_BYTES), 1_000);
        let gauge = Gauge::default();
        for query in ["a", "b", "c"] {
            cache.put(key(query), kept(1, 1_000), &gauge);
        }
        assert!(cache.get(&key("a")).is_some());
        cache.put(key("d"), kept(1, 1_000), &gauge);
        assert!(cache.get(&key("b")).is_none());
        assert!(cache.get(&key("a")).is_some() && cache.get(&key("d")).is_some());
        assert_eq!(gauge.get(), 3 * (1_000 + OVERHEAD_BYTES as i64));
    }

    #[test]
    fn of_many_with_the_same_answer_one_gathers_it_and_the_memory_of_all_is_bounded() {
        let cache = Cache::new(10_000, 5_000);
        let first = cache.gather(key("a"));
        assert!(first.is_some() && cache.gather(key("a")).is_none());
        let second = cache.gather(key("b"));
        assert!(second.is_some() && cache.gather(key("c")).is_none(), "two times 5,000 bytes");
        drop(first);
        assert!(cache.gather(key("b")).is_none() && cache.gather(key("a")).is_some());
    }

    #[test]
    fn a_newer_response_replaces_the_older_one() {
        let cache = Cache::new(10_000, 10_000);
        let gauge = Gauge::default();
        cache.put(key("a"), kept(1, 100), &gauge);
        cache.put(key("a"), kept(2, 50), &gauge);
        assert_eq!(cache.get(&key("a")).map(|kept| kept.version.seq), Some(Seq(2)));
        assert_eq!(gauge.get(), 50 + OVERHEAD_BYTES as i64);
        cache.put(key("b"), kept(1, 20_000), &gauge);
        assert!(cache.get(&key("b")).is_none(), "larger than the cache");
    }
}
