//! Whether calls about one listing can be put into an order in which each takes effect at one
//! moment between its beginning and its end, and each answer is what the register gives then.

use std::collections::HashSet;

use super::{Call, Told, What};

/// Orders tried before the search gives up: a history that needs more is too long for one listing.
const TRIED_MAX: usize = 2_000_000;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order explains all answers.
    Linearizable,
    /// No order does: the length of the longest explained beginning, and a call that fits behind
    /// none of them.
    Violated {
        /// Calls that some order explains.
        explained: usize,
        /// The earliest call that cannot follow.
        stuck: Call,
    },
    /// The search would take too long.
    Undecided,
}

/// The register as far as readers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// Greatest stamp so far.
    stamp: u64,
    is_alive: bool,
}

impl State {
    /// The state behind `what`, or `None` where its answer does not fit here.
    fn after(self, what: &What) -> Option<State> {
        match *what {
            What::Read { seen: None } => (!self.is_alive).then_some(self),
            What::Read { seen: Some(seen) } => {
                (self.is_alive && self.stamp == seen.stamp).then_some(self)
            }
            What::Write { stamp, deletes, told } => {
                let is_newer = stamp > self.stamp;
                let written = State { stamp, is_alive: !deletes };
                match told {
                    Told::Done { .. } | Told::Nothing => is_newer.then_some(written),
                    // It may have been there for a while: a router whose first attempt got no
                    // answer, and that then finds a newer one, cannot know.
                    Told::Stale => Some(if is_newer { written } else { self }),
                    Told::Refused { .. } => Some(self),
                }
            }
        }
    }
}

/// How far an order has come. Answered calls are taken nearly in the order in which they began, so
/// that a prefix and few others describe them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Taken {
    state: State,
    /// Answered calls before this one are all taken.
    prefix: usize,
    /// Taken ones behind it, and unanswered ones (counted behind all answered ones), in order.
    others: Vec<usize>,
}

impl Taken {
    fn has(&self, at: usize) -> bool {
        at < self.prefix || self.others.binary_search(&at).is_ok()
    }

    fn with(&self, at: usize, answered: usize, state: State) -> Taken {
        let mut next = Taken { state, ..self.clone() };
        if let Err(place) = next.others.binary_search(&at) {
            next.others.insert(place, at);
        }
        while next.prefix < answered && next.others.first() == Some(&next.prefix) {
            next.others.remove(0);
            next.prefix += 1;
        }
        next
    }

    fn answered_taken(&self, answered: usize) -> usize {
        self.prefix + self.others.iter().filter(|at| **at < answered).count()
    }
}

/// Searches for an order of the calls about one listing, which begins without it.
pub fn check(calls: &[Call]) -> Verdict {
    let (mut answered, unanswered): (Vec<Call>, Vec<Call>) =
        calls.iter().partition(|call| call.ended.is_some());
    answered.sort_by_key(|call| call.began);
    let count = answered.len();
    let mut all = answered;
    all.extend(unanswered.into_iter().filter(|call| matters(call, calls)));

    if let Some(stuck) = calls.iter().find(|call| is_stale_for_nothing(call, calls)) {
        return Verdict::Violated { explained: 0, stuck: *stuck };
    }
    let mut tried: HashSet<Taken> = HashSet::new();
    let mut open = vec![Taken::default()];
    let mut best = 0;
    let mut stuck = all.first().copied();
    while let Some(taken) = open.pop() {
        if taken.prefix == count {
            return Verdict::Linearizable;
        }
        if tried.len() > TRIED_MAX {
            return Verdict::Undecided;
        }
        let explained = taken.answered_taken(count);
        if explained >= best {
            best = explained;
            stuck = Some(all[taken.prefix]);
        }
        for (at, call) in candidates(&all, count, &taken) {
            if let Some(state) = taken.state.after(&call.what) {
                let next = taken.with(at, count, state);
                if tried.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    match stuck {
        Some(stuck) => Verdict::Violated { explained: best, stuck },
        None => Verdict::Linearizable,
    }
}

/// Whether a write was told that something newer is known when nothing newer had been sent.
fn is_stale_for_nothing(call: &Call, calls: &[Call]) -> bool {
    let What::Write { stamp, told: Told::Stale, .. } = call.what else { return false };
    let ended = call.ended.unwrap_or(u64::MAX);
    !calls.iter().any(|other| match other.what {
        What::Write { told: Told::Refused { .. }, .. } => false,
        What::Write { stamp: newer, .. } => newer > stamp && other.began <= ended,
        What::Read { .. } => false,
    })
}

/// Calls that may come next: they began before any other one that is not taken had ended. The one
/// that ended first is tried first, since it mostly is the right one.
fn candidates<'a>(all: &'a [Call], answered: usize, taken: &Taken) -> Vec<(usize, &'a Call)> {
    let left = |at: &usize| !taken.has(*at);
    let first_end = (taken.prefix..answered)
        .filter(left)
        .filter_map(|at| all[at].ended)
        .min()
        .unwrap_or(u64::MAX);
    let begun = (taken.prefix..answered)
        .take_while(|at| all[*at].began <= first_end)
        .filter(left)
        .map(|at| (at, &all[at]));
    let unanswered = (answered..all.len())
        .filter(left)
        .map(|at| (at, &all[at]))
        .filter(|(_, call)| call.began <= first_end);
    let mut next: Vec<(usize, &Call)> = unanswered.chain(begun).collect();
    // The last one is tried first.
    next.sort_by_key(|(_, call)| std::cmp::Reverse(call.ended.unwrap_or(u64::MAX)));
    next
}

/// A write without an answer that nobody saw, and that made no other one stale, may be left out: an
/// order with it is one without it.
fn matters(unanswered: &Call, calls: &[Call]) -> bool {
    let What::Write { stamp, deletes, .. } = unanswered.what else { return false };
    calls.iter().any(|call| match call.what {
        What::Read { seen: Some(seen) } => seen.stamp == stamp,
        What::Read { seen: None } => deletes,
        What::Write { stamp: other, told: Told::Stale, .. } => other < stamp,
        What::Write { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::script::{NEVER, delete, none, put, read, refused, stale};
    use super::*;

    fn is_linearizable(calls: &[Call]) -> bool {
        // The order in which a history is written down means nothing.
        let mut reversed = calls.to_vec();
        reversed.reverse();
        let verdicts = [check(calls), check(&reversed)].map(|v| v == Verdict::Linearizable);
        assert_eq!(verdicts[0], verdicts[1]);
        verdicts[0]
    }

    #[test]
    fn what_one_client_sees_alone_is_what_it_wrote() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[none((0, 1)), put((2, 3), 1), read((4, 5), 1)]));
        assert!(is_linearizable(&[put((2, 3), 1), delete((4, 5), 2), none((6, 7))]));
        assert!(!is_linearizable(&[put((2, 3), 1), none((4, 5))]), "a lost write");
        assert!(!is_linearizable(&[read((4, 5), 1)]), "what nobody wrote");
        assert!(!is_linearizable(&[put((2, 3), 1), delete((4, 5), 2), read((6, 7), 1)]), "back");
    }

    #[test]
    fn calls_at_the_same_time_may_take_either_order() {
        for seen in [1, 2] {
            let together = [put((0, 10), 1), put((0, 10), 2), read((5, 6), seen)];
            assert!(is_linearizable(&together), "{seen}");
        }
        let settled = [put((0, 10), 1), put((0, 10), 2), read((11, 12), 1)];
        assert!(!is_linearizable(&settled), "the greater stamp stays");
        let back = [put((0, 9), 1), put((0, 9), 2), read((1, 2), 2), read((3, 4), 1)];
        assert!(!is_linearizable(&back), "a read went back");
        assert!(is_linearizable(&[put((0, 9), 1), read((1, 2), 1), read((3, 4), 1)]));
        assert!(!is_linearizable(&[put((0, 9), 1), read((1, 2), 1), none((3, 4))]));
    }

    #[test]
    fn a_stale_write_needs_a_newer_one() {
        assert!(is_linearizable(&[put((0, 1), 5), stale((2, 3), 4), read((4, 5), 5)]));
        assert!(!is_linearizable(&[stale((2, 3), 4)]), "nothing was newer");
        assert!(!is_linearizable(&[stale((0, 1), 4), put((2, 3), 5)]), "not yet");
        assert!(is_linearizable(&[put((0, NEVER), 5), stale((2, 3), 4)]), "it may have happened");
        assert!(!is_linearizable(&[put((0, 1), 4), put((2, 3), 3)]), "an older one was applied");
        assert!(!is_linearizable(&[refused((0, 9), 5), stale((0, 9), 4)]), "it never happened");
        assert!(is_linearizable(&[put((0, 1), 1), refused((2, 3), 5), read((4, 5), 1)]));
        assert!(!is_linearizable(&[put((0, 1), 1), refused((2, 3), 5), read((4, 5), 5)]));
        let seen = [put((0, 9), 5), stale((0, 9), 4), read((1, 2), 4), read((10, 11), 5)];
        assert!(is_linearizable(&seen), "an attempt without an answer was carried out");
        assert!(!is_linearizable(&[put((0, 9), 5), stale((0, 9), 4), read((10, 11), 4)]));
    }

    #[test]
    fn a_write_without_an_answer_happens_once_or_never_but_not_before_it_began() {
        assert!(is_linearizable(&[put((0, NEVER), 1), none((2, 3)), none((4, 5))]));
        assert!(is_linearizable(&[put((0, NEVER), 1), none((2, 3)), read((4, 5), 1)]), "late");
        assert!(!is_linearizable(&[put((0, NEVER), 1), read((2, 3), 1), none((4, 5))]), "gone");
        assert!(!is_linearizable(&[read((0, 1), 1), put((2, NEVER), 1)]), "before it began");
        let over = [put((0, NEVER), 1), put((0, 1), 2), read((2, 3), 2), read((4, 5), 1)];
        assert!(!is_linearizable(&over), "an older write over a newer one");
        assert!(is_linearizable(&[put((0, 1), 1), delete((2, NEVER), 2), none((5, 6))]));
        assert!(!is_linearizable(&[
            put((0, 1), 1),
            delete((2, NEVER), 2),
            none((5, 6)),
            read((7, 8), 1)
        ]));
    }

    #[test]
    fn the_call_that_does_not_fit_is_named() {
        let calls = [put((0, 1), 1), put((2, 3), 2), read((4, 5), 1), read((6, 7), 2)];
        let Verdict::Violated { explained, stuck } = check(&calls) else { panic!("it fits") };
        assert_eq!((explained, stuck), (2, calls[2]));
    }

    /// Calls drawn from a register that answers at a moment within each call: always explained; and
    /// with one answer changed to an older one, mostly not.
    #[test]
    fn drawn_histories_are_explained_and_spoilt_ones_are_not() {
        let mut spoilt_found = 0;
        for seed in 0..60 {
            let mut chance = crate::operator::Chance::new(seed, "history");
            let (mut state, mut calls, mut moment) = (State::default(), Vec::new(), 0);
            for number in 1..=200_u64 {
                moment += 1 + chance.below(4);
                let (began, ended) = (moment.saturating_sub(chance.below(12)), moment);
                let ended = ended + chance.below(12);
                // No two writes have the same one.
                let late = chance.below(4) == 0;
                let stamp = if late { 2 * number + 5 } else { 2 * number + 10 };
                let what = match chance.below(3) {
                    0 => What::Write { stamp, deletes: chance.below(4) == 0, told: Told::Nothing },
                    _ => What::Read { seen: seen(state) },
                };
                let call = match what {
                    What::Write { stamp, deletes, .. } => {
                        let is_newer = stamp > state.stamp;
                        if is_newer {
                            state = State { stamp, is_alive: !deletes };
                        }
                        let told = match (chance.below(10), is_newer) {
                            (0, _) => Told::Nothing,
                            (_, true) => Told::Done { revision: stamp },
                            (_, false) => Told::Stale,
                        };
                        let ended = (told != Told::Nothing).then_some(ended);
                        let what = What::Write { stamp, deletes, told };
                        Call { client: 0, began, ended, what }
                    }
                    read @ What::Read { .. } => {
                        Call { client: 0, began, ended: Some(ended), what: read }
                    }
                };
                calls.push(call);
            }
            assert_eq!(check(&calls), Verdict::Linearizable, "seed {seed}");
            let late = calls.iter_mut().rev().find(|call| matches!(call.what, What::Read { .. }));
            late.expect("a read").what =
                What::Read { seen: Some(super::super::Seen { stamp: 2, revision: 2 }) };
            spoilt_found += u32::from(matches!(check(&calls), Verdict::Violated { .. }));
        }
        assert!(spoilt_found > 50, "only {spoilt_found} of 60 spoilt histories were found");
    }

    fn seen(state: State) -> Option<super::super::Seen> {
        let State { stamp, is_alive } = state;
        is_alive.then_some(super::super::Seen { stamp, revision: stamp })
    }
}
