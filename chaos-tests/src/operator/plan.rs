//! What happens to the houses, and in which order: made from the sales and a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;
use super::sales::Sale;

/// One thing that happens, in the order in which it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The house of this sale is listed, or its listing is sent again with something changed.
    Upsert {
        /// Index of the sale.
        sale: usize,
        /// How often this house was sent before.
        edition: u32,
        /// What the listing says about where it is.
        place: Place,
        /// Dollars.
        price: u64,
    },
    /// The listing is taken off.
    Delete {
        /// Index of the sale.
        sale: usize,
    },
    /// A message that nobody can apply.
    Poison(Poison),
}

/// The postal code that is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// As recorded.
    True,
    /// With four more digits.
    PlusFour,
    /// Somebody typed another one; corrected later.
    Mistyped(String),
    /// None at all.
    Missing,
}

/// Ways to be no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// Cut off in the middle.
    BadJson,
    /// A listing without its key.
    NoId,
    /// Neither upsert nor delete.
    UnknownOp,
    /// One byte over the limit.
    LongId,
}

const POISONS: [Poison; 4] = [Poison::BadJson, Poison::NoId, Poison::UnknownOp, Poison::LongId];
/// Each kind of poison is sent so often.
const POISON_ROUNDS: usize = 2;

/// Shares per mille of the sales.
const MISTYPED: u64 = 15;
const PLUS_FOUR: u64 = 30;
const MISSING: u64 = 3;
const DELETED: u64 = 60;
const RECREATED_OF_DELETED: u64 = 300;
const REPRICED: u64 = 80;
/// A later event follows within so many sales.
const LATER_MAX: u64 = 3_000;

/// Everything that happens, from the first `sales`.
pub(crate) fn plan(sales: &[Sale], seed: u64) -> Vec<Event> {
    let mut planner = Planner {
        chance: Chance::new(seed, "plan"),
        zips: sales.iter().map(|sale| sale.zip.as_str()).collect::<BTreeSet<_>>(),
        events: BTreeMap::new(),
    };
    for at in 0..sales.len() {
        planner.sale(sales, at);
    }
    planner.poison(sales.len());
    number_editions(planner.events.into_values().flatten().collect(), sales)
}

struct Planner<'a> {
    chance: Chance,
    zips: BTreeSet<&'a str>,
    /// By the number of sales that came before.
    events: BTreeMap<usize, Vec<Event>>,
}

impl Planner<'_> {
    fn at(&mut self, time: usize, event: Event) {
        self.events.entry(time).or_default().push(event);
    }

    fn later(&mut self, time: usize) -> usize {
        time + 1 + self.chance.below(LATER_MAX) as usize
    }

    fn sale(&mut self, sales: &[Sale], at: usize) {
        let sale = &sales[at];
        let upsert = |place, price| Event::Upsert { sale: at, edition: 0, place, price };
        let mut time = at;
        if self.chance.happens(MISTYPED) {
            let zips: Vec<&str> = self.zips.iter().copied().filter(|z| *z != sale.zip).collect();
            if !zips.is_empty() {
                let wrong = self.chance.pick(&zips).to_string();
                self.at(time, upsert(Place::Mistyped(wrong), sale.price));
                time = self.later(time);
            }
        }
        let place = match self.chance.below(1000) {
            draw if draw < PLUS_FOUR => Place::PlusFour,
            draw if draw < PLUS_FOUR + MISSING => Place::Missing,
            _ => Place::True,
        };
        self.at(time, upsert(place.clone(), sale.price));
        if self.chance.happens(REPRICED) {
            time = self.later(time);
            self.at(time, upsert(place.clone(), sale.price / 100 * 97));
        }
        if self.chance.happens(DELETED) {
            time = self.later(time);
            self.at(time, Event::Delete { sale: at });
            if self.chance.happens(RECREATED_OF_DELETED) {
                time = self.later(time);
                self.at(time, upsert(place, sale.price));
            }
        }
    }

    fn poison(&mut self, sales: usize) {
        let step = (sales / (POISONS.len() * POISON_ROUNDS)).max(1);
        for round in 0..POISON_ROUNDS {
            for (at, poison) in POISONS.into_iter().enumerate() {
                let time = (round * POISONS.len() + at) * step + step / 2;
                self.at(time, Event::Poison(poison));
            }
        }
    }
}

fn number_editions(mut events: Vec<Event>, sales: &[Sale]) -> Vec<Event> {
    let mut sent: BTreeMap<&str, u32> = BTreeMap::new();
    for event in &mut events {
        if let Event::Upsert { sale, edition, .. } = event {
            let count = sent.entry(&sales[*sale].id).or_default();
            *edition = *count;
            *count += 1;
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::super::sales::for_tests;
    use super::*;

    #[test]
    fn everything_that_can_happen_happens() {
        let sales = for_tests().sales;
        let events = plan(&sales, 1);
        let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        let place = |is: fn(&Place) -> bool| {
            let is = |e: &&Event| matches!(e, Event::Upsert { place, .. } if is(place));
            events.iter().filter(is).count()
        };
        let deletes = count(|event| matches!(event, Event::Delete { .. }));
        assert!((1_000..1_600).contains(&deletes), "{deletes} deletes");
        assert_eq!(count(|event| matches!(event, Event::Poison(_))), 8);
        assert!(place(|place| matches!(place, Place::Mistyped(_))) > 200);
        assert!(place(|place| *place == Place::PlusFour) > 400);
        assert!(place(|place| *place == Place::Missing) > 30);
        let editions = |e: &&Event| matches!(e, Event::Upsert { edition: 1.., .. });
        assert!(events.iter().filter(editions).count() > 2_000);
    }

    #[test]
    fn the_seed_decides_the_plan() {
        let sales = for_tests().sales;
        assert_eq!(plan(&sales[..500], 7), plan(&sales[..500], 7));
        assert_ne!(plan(&sales[..500], 7), plan(&sales[..500], 8));
    }
}
