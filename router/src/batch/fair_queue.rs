//! What waits for one shard, taken in turns by source, so that one large request does not keep
//! small ones waiting for more than a share of a batch.

use std::collections::{HashMap, VecDeque};

/// Who asks: one number a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(pub(crate) u64);

/// What one batch may hold, and what one source may take of it at a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Most items.
    pub(crate) items_max: usize,
    /// Most bytes, unless a single item is larger.
    pub(crate) bytes_max: usize,
    /// Most items of one source before the next one has its turn.
    pub(crate) turn_items_max: usize,
    /// Bytes after which a source's turn ends.
    pub(crate) turn_bytes: usize,
}

/// Items by source, in order of arrival within a source.
pub(crate) struct FairQueue<T> {
    waiting: HashMap<Source, VecDeque<(T, usize)>>,
    turns: VecDeque<Source>,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub(crate) fn new() -> FairQueue<T> {
        FairQueue { waiting: HashMap::new(), turns: VecDeque::new() }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Appends an item of `bytes` behind the others of its source.
    pub(crate) fn push(&mut self, source: Source, item: T, bytes: usize) {
        let items = self.waiting.entry(source).or_default();
        if items.is_empty() {
            self.turns.push_back(source);
        }
        items.push_back((item, bytes));
    }

    /// Takes the next batch; empty only if nothing waits.
    pub(crate) fn take(&mut self, limits: &BatchLimits) -> Vec<T> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(source) = self.turns.pop_front() {
            let items = self.waiting.get_mut(&source).expect("a source with a turn has items");
            let (mut turn_items, mut turn_bytes) = (0, 0);
            let is_full = loop {
                let Some((_, next)) = items.front() else { break false };
                let fits = batch.len() < limits.items_max && bytes + next <= limits.bytes_max;
                if !fits && !batch.is_empty() {
                    break true;
                }
                if turn_items == limits.turn_items_max || turn_bytes >= limits.turn_bytes {
                    break false;
                }
                let (item, size) = items.pop_front().expect("the front was just looked at");
                batch.push(item);
                bytes += size;
                turn_items += 1;
                turn_bytes += size;
            };
            match (items.is_empty(), is_full) {
                (true, _) => {
                    self.waiting.remove(&source);
                }
                // Cut off by the batch, not by its turn: first in the next batch.
                (false, true) => self.turns.push_front(source),
                (false, false) => self.turns.push_back(source),
            }
            if is_full {
                break;
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits =
        BatchLimits { items_max: 8, bytes_max: 1_000, turn_items_max: 2, turn_bytes: 400 };

    fn queue(items: &[(u64, u32, usize)]) -> FairQueue<u32> {
        let mut queue = FairQueue::new();
        for (source, item, bytes) in items {
            queue.push(Source(*source), *item, *bytes);
        }
        queue
    }

    #[test]
    fn one_large_source_does_not_keep_a_small_one_waiting() {
        let mut items: Vec<(u64, u32, usize)> = (0..100).map(|i| (1, i, 10)).collect();
        items.push((2, 1_000, 10));
        let mut queue = queue(&items);
        assert_eq!(queue.take(&LIMITS), [0, 1, 1_000, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_items_of_a_source_keep_their_order_and_none_is_lost() {
        let items: Vec<(u64, u32, usize)> =
            (0..50).map(|i| (u64::from(i % 3), i, 10 + i as usize * 7)).collect();
        let mut queue = queue(&items);
        let mut taken = Vec::new();
        while !queue.is_empty() {
            let batch = queue.take(&LIMITS);
            assert!(!batch.is_empty() && batch.len() <= LIMITS.items_max);
            taken.extend(batch);
        }
        for source in 0..3 {
            let of_source: Vec<u32> = taken.iter().copied().filter(|i| i % 3 == source).collect();
            assert!(of_source.is_sorted(), "{of_source:?}");
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..50).collect::<Vec<u32>>());
    }

    #[test]
    fn an_item_larger_than_a_batch_goes_alone() {
        let mut queue = queue(&[(1, 1, 10), (2, 2, 5_000), (3, 3, 10)]);
        assert_eq!(queue.take(&LIMITS), [1]);
        assert_eq!(queue.take(&LIMITS), [2]);
        assert_eq!(queue.take(&LIMITS), [3]);
        assert!(queue.take(&LIMITS).is_empty());
    }
}
