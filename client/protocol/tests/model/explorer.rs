//! Breadth-first search through every state of a world, with the shortest way to a violation.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::config::Config;
use crate::world::{Action, Violation, World};

/// States after which an exploration is too large to be meant.
const STATES_MAX: usize = 200_000_000;

/// A finished exploration.
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// States in which all that was admitted was acknowledged: what the invariants are about.
    pub(crate) quiet: usize,
    /// The shortest way to a violation, if there is one, as text.
    pub(crate) violation: Option<(Violation, String)>,
}

/// Visits every state that can be reached, or stops at the first violation.
pub(crate) fn explore(config: &Config) -> Explored {
    let start = World::new(config);
    let mut visited: HashSet<u64, BuildHasherDefault<Fingerprint>> = HashSet::default();
    // How each state was first reached; the index is the state's number.
    let mut reached: Vec<(u32, Action)> = vec![(0, Action::Tick)];
    let mut queue = VecDeque::new();
    visited.insert(fingerprint(&start));
    queue.push_back((0_u32, start));
    let mut quiet = 0;
    let mut actions = Vec::new();
    while let Some((number, world)) = queue.pop_front() {
        quiet += usize::from(world.is_quiet());
        world.actions(config, &mut actions);
        for &action in &actions {
            let mut next = world.clone();
            let result = next.act(config, action).and_then(|()| next.check(config));
            if let Err(violation) = result {
                let text = trace(config, &reached, number, action);
                return Explored {
                    states: visited.len(),
                    quiet,
                    violation: Some((violation, text)),
                };
            }
            next.normalise();
            if visited.insert(fingerprint(&next)) {
                assert!(visited.len() <= STATES_MAX, "{}: too many states", config.name);
                queue.push_back((reached.len() as u32, next));
                reached.push((number, action));
            }
        }
    }
    Explored { states: visited.len(), quiet, violation: None }
}

fn trace(config: &Config, reached: &[(u32, Action)], mut number: u32, last: Action) -> String {
    let mut actions = vec![last];
    while number != 0 {
        let (parent, action) = reached[number as usize];
        actions.push(action);
        number = parent;
    }
    let mut world = World::new(config);
    let mut text = String::new();
    for action in actions.into_iter().rev() {
        let outcome = world.act(config, action);
        text += &format!("{action:?} -> {}\n", world.sketch());
        if let Err(violation) = outcome.and_then(|()| world.check(config)) {
            text += &format!("{violation:?}\n");
        }
        world.normalise();
    }
    text
}

/// 64 bits: with a million states, one is taken for another with a chance of 1 in 40 million.
pub(crate) fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Folded(0x9e37_79b9_7f4a_7c15);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Folds each word into the product with a constant, as wyhash does: most of the time goes here.
struct Folded(u64);

impl Folded {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0xe703_7ed1_a0b4_28db;
        self.0 = (product >> 64) as u64 ^ product as u64 ^ self.0.rotate_left(23);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.word(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The fingerprints are hashes already.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
