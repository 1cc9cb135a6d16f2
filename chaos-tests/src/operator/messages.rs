//! The operator's messages, one after the other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::chance::Chance;
use super::listing::{Facts, listing};
use super::plan::{Event, Poison, plan};
use super::sales::Sales;

/// Longest time between a change at the operator's and its message, in milliseconds.
const LAG_MS_MAX: u64 = 2_000;
/// Shares per mille of messages without an envelope, and of messages with white space.
const BARE: u64 = 100;
const INDENTED: u64 = 50;

/// Makes the messages of a seed. It knows no clock: whoever sends says what time it is.
#[derive(Debug)]
pub struct Messages {
    sales: Sales,
    events: std::vec::IntoIter<Event>,
    seed: u64,
    chance: Chance,
    /// Last `modified` of each id: the operator never gives one twice.
    modified: BTreeMap<String, u64>,
}

impl Messages {
    /// The messages about the first `limit` sales.
    pub fn new(mut sales: Sales, seed: u64, limit: usize) -> Messages {
        sales.sales.truncate(limit);
        let events = plan(&sales.sales, seed).into_iter();
        let chance = Chance::new(seed, "messages");
        Messages { sales, events, seed, chance, modified: BTreeMap::new() }
    }

    /// How many are still to come.
    pub fn remaining(&self) -> usize {
        self.events.len()
    }

    /// The next bodies, at most so many, to be sent at `now`; none at the end.
    pub fn batch(&mut self, now: u64, most: usize) -> Vec<String> {
        std::iter::from_fn(|| self.next(now)).take(most).collect()
    }

    /// The next message body, to be sent at `now` (milliseconds since 1970).
    pub fn next(&mut self, now: u64) -> Option<String> {
        Some(match self.events.next()? {
            Event::Upsert { sale, edition, place, price } => {
                let sale = self.sales.sales[sale].clone();
                let wanted = now - self.chance.below(LAG_MS_MAX);
                let last = self.modified.entry(sale.id.clone()).or_default();
                let modified = wanted.max(*last + 1);
                *last = modified;
                let city = self.sales.cities.get(&sale.zip).map_or("King County", String::as_str);
                let seed = self.seed;
                let facts =
                    Facts { sale: &sale, city, place: &place, price, edition, modified, seed };
                let body = listing(&facts);
                self.wrap("upsert", "listing", body)
            }
            Event::Delete { sale } => {
                let id = &self.sales.sales[sale].id;
                match self.chance.below(3) {
                    0 => json!({ "ListingKey": id }).to_string(),
                    1 => json!({ "id": id }).to_string(),
                    _ => json!({ "op": "delete", "id": id }).to_string(),
                }
            }
            Event::Poison(poison) => poisoned(poison),
        })
    }

    fn wrap(&mut self, op: &str, field: &str, body: Value) -> String {
        let bare = self.chance.happens(BARE);
        let message = if bare { body } else { json!({ "op": op, field: body }) };
        if self.chance.happens(INDENTED) {
            serde_json::to_string_pretty(&message).expect("a JSON value is printable")
        } else {
            message.to_string()
        }
    }
}

fn poisoned(poison: Poison) -> String {
    match poison {
        Poison::BadJson => r#"{"op":"upsert","listing":{"ListingKey":"cut off"#.to_string(),
        Poison::NoId => r#"{"op":"upsert","listing":{"PostalCode":"98101"}}"#.to_string(),
        Poison::UnknownOp => r#"{"op":"paint","id":"7129300520"}"#.to_string(),
        Poison::LongId => json!({ "op": "delete", "id": "9".repeat(256) }).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::sales::for_tests;
    use super::*;

    const NOW: u64 = 1_780_000_000_000;

    fn all(seed: u64, limit: usize) -> Vec<String> {
        let mut messages = Messages::new(for_tests(), seed, limit);
        let mut now = NOW;
        std::iter::from_fn(|| {
            now += 5;
            messages.next(now)
        })
        .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(all(1, 300), all(1, 300));
        assert_ne!(all(1, 300), all(2, 300));
    }

    #[test]
    fn every_zip_appears_and_bodies_have_the_size_of_real_ones() {
        let bodies = all(1, usize::MAX);
        let mut zips = BTreeSet::new();
        let mut bytes = Vec::new();
        for body in &bodies {
            let Ok(message) = serde_json::from_str::<Value>(body) else { continue };
            let listing = message.get("listing").unwrap_or(&message);
            let is_listing = listing["ListingKey"].is_string();
            let zip = listing["PostalCode"].as_str().filter(|zip| is_listing && zip.len() == 5);
            if let Some(zip) = zip {
                zips.insert(zip.to_string());
                bytes.push(body.len());
            }
        }
        assert_eq!(zips.len(), 70);
        bytes.sort_unstable();
        let median = bytes[bytes.len() / 2];
        assert!((3_000..4_500).contains(&median), "median {median}");
        assert!(bytes[bytes.len() - 1] < 8_000);
    }

    #[test]
    fn an_id_never_gets_the_same_modified_twice() {
        let mut seen = BTreeSet::new();
        for body in all(3, 5_000) {
            let Ok(message) = serde_json::from_str::<Value>(&body) else { continue };
            let listing = message.get("listing").unwrap_or(&message);
            let key = listing["ListingKey"].as_str().map(str::to_string);
            if let (Some(key), Some(at)) = (key, listing["ModificationTimestamp"].as_str()) {
                assert!(seen.insert((key, at.to_string())), "twice");
            }
        }
        assert!(seen.len() > 5_000);
    }
}
