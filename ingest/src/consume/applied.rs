//! Which pointed-to objects were applied lately.
//!
//! The extended client deletes the object when it deletes the message, so a late copy of the
//! message points to nothing: that copy is done if its object was applied before.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Objects remembered; the oldest go first.
const OBJECTS_MAX: usize = 100_000;

/// A bounded memory of `bucket/key`.
#[derive(Debug, Default)]
pub(super) struct AppliedObjects {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl AppliedObjects {
    pub(super) fn insert(&self, object: &str) {
        let hash = self.hasher.hash_one(object);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.hashes.insert(hash) {
            known.order.push_back(hash);
        }
        if known.order.len() > OBJECTS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.hashes.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, object: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.hashes.contains(&self.hasher.hash_one(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_object_is_forgotten_first() {
        let applied = AppliedObjects::default();
        for n in 0..=OBJECTS_MAX {
            applied.insert(&n.to_string());
            applied.insert(&n.to_string());
        }
        assert!(!applied.contains("0"));
        assert!(applied.contains("1"));
        assert!(applied.contains(&OBJECTS_MAX.to_string()));
    }
}
