//! Breadth-first search through every state of a world, with the shortest way to a violation.

use std::collections::hash_map::DefaultHasher;
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

/// 64 bits of SipHash: with a million states, one is taken for another with a chance of 1 in 40
/// million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
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
