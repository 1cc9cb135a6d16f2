//! Whole responses to reads of ZIPs, kept up to a number of bytes, and gathered chunk by chunk
//! while they are streamed, up to as many bytes once more.
//!
//! Invariant: a response is used only after the ZIP's present version was read and is the one that
//! the response was made from. So the cache saves work and is never stale.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// What is being gathered.
#[derive(Default)]
struct Gathered {
    keys: HashSet<Key>,
    bytes: usize,
}

impl Gathered {
    /// Takes so many more bytes, where all together are no more than `bytes_max` then.
    fn try_take(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let is_free = self.bytes + bytes <= bytes_max;
        if is_free {
            self.bytes += bytes;
        }
        is_free
    }
}

/// Keeps what was used last.
pub(crate) struct Cache {
    shelf: Mutex<Shelf>,
    gathered: Mutex<Gathered>,
    /// Limit of what is kept, and once more of what is gathered.
    bytes_max: usize,
    entry_bytes_max: usize,
}

/// One answer on its way into the cache. Its bytes count among all that is gathered, until it is
/// dropped.
pub(crate) struct Gathering {
    cache: Arc<Cache>,
    key: Key,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Gathering {
    /// With the next chunk. `None` gives the answer up, and its bytes back: it is too large to be
    /// kept, or all that is gathered would take too much memory.
    pub(crate) fn add(mut self, chunk: &Bytes) -> Option<Gathering> {
        let bytes = self.bytes + chunk.len();
        if bytes > self.cache.entry_bytes_max || !self.cache.take_more(chunk.len()) {
            return None;
        }
        self.bytes = bytes;
        self.chunks.push(chunk.clone());
        Some(self)
    }

    /// Keeps the answer, which is whole and shows `version`; `gauge` follows the bytes kept.
    pub(crate) fn keep(mut self, version: ZipVersion, gauge: &Gauge) {
        let chunks = std::mem::take(&mut self.chunks);
        self.cache.put(self.key.clone(), Kept { version, chunks, next: None }, gauge);
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut gathered = self.cache.gathered();
        gathered.keys.remove(&self.key);
        gathered.bytes -= self.bytes + OVERHEAD_BYTES;
    }
}

impl Cache {
    /// An empty cache of `bytes_max`, for gathered answers of up to `entry_bytes_max`. What is
    /// gathered for it may take as much memory again.
    pub(crate) fn new(bytes_max: usize, entry_bytes_max: usize) -> Arc<Cache> {
        let (shelf, gathered) = (Mutex::default(), Mutex::default());
        Arc::new(Cache { shelf, gathered, bytes_max, entry_bytes_max })
    }

    /// Begins to gather the answer to `key`: of many who are given the same answer one gathers it.
    /// `None` also where what is gathered leaves no memory for one more.
    pub(crate) fn gather(self: &Arc<Self>, key: Key) -> Option<Gathering> {
        let mut gathered = self.gathered();
        if gathered.keys.contains(&key) || !gathered.try_take(OVERHEAD_BYTES, self.bytes_max) {
            return None;
        }
        gathered.keys.insert(key.clone());
        Some(Gathering { cache: self.clone(), key, chunks: Vec::new(), bytes: 0 })
    }

    fn take_more(&self, bytes: usize) -> bool {
        self.gathered().try_take(bytes, self.bytes_max)
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
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
    fn of_many_with_the_same_answer_one_gathers_it() {
        let cache = Cache::new(10_000, 5_000);
        let first = cache.gather(key("a"));
        assert!(first.is_some() && cache.gather(key("a")).is_none());
        assert!(cache.gather(key("b")).is_some());
        drop(first);
        assert!(cache.gather(key("a")).is_some());
    }

    #[test]
    fn what_is_gathered_is_bounded_by_its_bytes_and_not_by_its_number() {
        let cache = Cache::new(10_000, 5_000);
        let zeroes = |bytes| Bytes::from(vec![0; bytes]);
        let gather = |query: &str, bytes| cache.gather(key(query))?.add(&zeroes(bytes));
        assert!(gather("a", 5_001).is_none(), "larger than one may be");
        let small: Vec<_> = (0..15).map(|n| gather(&n.to_string(), 100)).collect();
        assert!(small.iter().all(Option::is_some), "15 small ones have room");
        assert!(gather("a", 400).is_none(), "820 bytes are left, and it takes 912");
        drop(small);
        let first = gather("a", 4_000).expect("all is given back");
        let second = gather("b", 4_000).expect("half of it is left");
        assert!(cache.gather(key("c")).and_then(|one| one.add(&zeroes(465))).is_none());
        let first = first.add(&zeroes(900)).expect("976 bytes are left");
        assert!(second.add(&zeroes(77)).is_none(), "76 bytes are left");
        assert_eq!(cache.gathered().bytes, 4_900 + OVERHEAD_BYTES, "what it had is given back");
        drop(first);
        let left = cache.gathered();
        assert!(left.bytes == 0 && left.keys.is_empty());
    }

    #[test]
    fn what_was_gathered_to_its_end_is_kept_and_counts_no_longer_as_gathered() {
        let cache = Cache::new(10_000, 5_000);
        let gauge = Gauge::default();
        let chunks = [Bytes::from("one"), Bytes::from("two")];
        let none = cache.gather(key("a")).expect("nothing is gathered");
        let one = none.add(&chunks[0]).expect("is small");
        one.add(&chunks[1]).expect("is small").keep(kept(7, 0).version, &gauge);
        let found = cache.get(&key("a")).expect("it is kept");
        assert_eq!((found.version.seq, &found.chunks[..]), (Seq(7), &chunks[..]));
        assert_eq!(gauge.get(), 6 + OVERHEAD_BYTES as i64);
        assert_eq!(cache.gathered().bytes, 0);
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
