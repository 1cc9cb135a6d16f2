//! The faults that SQS documents, drawn from a seed.
//!
//! Each draw is a hash of the seed and of what it is about (a message, its copy, how often it was
//! delivered), never of time or of the order of requests: the same messages meet the same faults
//! in every run, whatever the consumers do.

use super::record::{Key, Location};

/// How often which fault happens. Probabilities are between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) seed: u64,
    /// A delivery is picked among so many waiting messages; 0 and 1 keep their order.
    pub(super) shuffle: u32,
    /// A message is delivered twice.
    pub(super) duplicate: f64,
    /// A copy returns after its delete.
    pub(super) resurrect: f64,
    /// A delivery is counted, but never handed out.
    pub(super) ghost: f64,
    /// One entry of a batch delete fails.
    pub(super) fail_delete: f64,
}

#[derive(Clone, Copy)]
enum Kind {
    Shuffle = 1,
    Duplicate = 2,
    Resurrect = 3,
    Ghost = 4,
    FailDelete = 5,
}

impl Faults {
    /// Which of `waiting` messages is the `delivery`th of the queue.
    pub(super) fn pick(&self, delivery: u64, waiting: usize) -> usize {
        let window = waiting.min(self.shuffle.max(1) as usize) as u64;
        (self.hash(Kind::Shuffle, delivery, 0) % window.max(1)) as usize
    }

    /// Whether the `n`th message that a queue accepted gets a second copy.
    pub(super) fn duplicates(&self, n: u64) -> bool {
        self.happens(Kind::Duplicate, n, 0, self.duplicate)
    }

    /// Whether a copy returns after its delete.
    pub(super) fn resurrects(&self, key: Key) -> bool {
        self.happens(Kind::Resurrect, number(key.location), key.copy as u64, self.resurrect)
    }

    /// Whether the `count`th delivery of a copy is lost on its way.
    pub(super) fn loses(&self, key: Key, count: u32) -> bool {
        let detail = (u64::from(count) << 2) | key.copy as u64;
        self.happens(Kind::Ghost, number(key.location), detail, self.ghost)
    }

    /// Whether the `attempt`th batch entry that asked for a delete fails.
    pub(super) fn fails_delete(&self, attempt: u64) -> bool {
        self.happens(Kind::FailDelete, attempt, 0, self.fail_delete)
    }

    fn happens(&self, kind: Kind, about: u64, detail: u64, probability: f64) -> bool {
        // 53 bits make a float in [0, 1): probability 0 never happens, 1 always does.
        let unit = (self.hash(kind, about, detail) >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }

    fn hash(&self, kind: Kind, about: u64, detail: u64) -> u64 {
        let words = [kind as u64, about, detail];
        words.into_iter().fold(mix(self.seed), |state, word| mix(state ^ mix(word)))
    }
}

fn number(location: Location) -> u64 {
    (u64::from(location.segment) << 32) | u64::from(location.offset)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_as_often_as_asked_and_the_same_for_the_same_seed() {
        let faults = |seed| Faults { seed, duplicate: 0.1, shuffle: 8, ..Faults::default() };
        let twice =
            |seed| -> Vec<u64> { (0..10_000).filter(|n| faults(seed).duplicates(*n)).collect() };
        assert_eq!(twice(1), twice(1));
        assert_ne!(twice(1), twice(2));
        assert!((900..1100).contains(&twice(1).len()));
        assert!((0..1000).all(|n| faults(1).pick(n, 100) < 8 && faults(1).pick(n, 3) < 3));
        assert!((0..1000).all(|n| !Faults::default().duplicates(n)));
        assert_eq!(Faults::default().pick(7, 100), 0);
    }
}
