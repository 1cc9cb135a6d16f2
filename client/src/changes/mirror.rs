//! A copy of what a stream tells, kept right through deletes, moves, repetitions and resyncs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use platbook_protocol::{ListingId, Revision, Zip};

use super::event::{Change, Event, Passage, What};
use crate::listing::Listing;

/// What a service keeps of each listing, by id: `T` is whatever it makes of a listing. Fed with
/// every event of a stream it equals the store at the stream's position.
///
/// ```no_run
/// # async fn f(client: platbook_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use platbook_client::changes::Mirror;
///
/// let mut prices = Mirror::new();
/// let mut changes = client.changes().follow()?;
/// while let Some(event) = changes.try_next().await? {
///     prices.apply(&event, |listing| {
///         listing.json::<serde_json::Value>().ok()?["ListPrice"].as_u64()
///     });
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Mirror<T> {
    rows: HashMap<ListingId, Row<T>>,
    zips: BTreeMap<Zip, BTreeSet<ListingId>>,
    /// Counts how often the state was told from its beginning.
    generation: u64,
}

#[derive(Clone, Debug)]
struct Row<T> {
    zip: Zip,
    revision: Revision,
    value: T,
    /// When it was told last.
    generation: u64,
}

impl<T> Default for Mirror<T> {
    fn default() -> Mirror<T> {
        Mirror { rows: HashMap::new(), zips: BTreeMap::new(), generation: 0 }
    }
}

impl<T> Mirror<T> {
    /// An empty copy.
    pub fn new() -> Mirror<T> {
        Mirror::default()
    }

    /// Takes an event; gives the ZIPs that are no longer as they were. `make` is called for
    /// listings that are kept; a stream without bodies keeps none.
    pub fn apply(&mut self, event: &Event, make: impl FnOnce(&Listing) -> T) -> BTreeSet<Zip> {
        match event {
            Event::Change(change) => self.on_change(change, make),
            Event::StateBegin => {
                self.generation += 1;
                BTreeSet::new()
            }
            Event::StateEnd { is_whole: true } => self.drop_what_was_not_told(),
            Event::StateEnd { is_whole: false }
            | Event::Resolved { .. }
            | Event::ShardResolved { .. }
            | Event::TrimmingSoon { .. } => BTreeSet::new(),
        }
    }

    fn on_change(&mut self, change: &Change, make: impl FnOnce(&Listing) -> T) -> BTreeSet<Zip> {
        let Change { id, zip, revision, what, passage, .. } = change;
        let known = self.rows.get(id).map(|row| row.revision);
        let is_gone = *passage == Some(Passage::Leave);
        match what {
            What::Upsert(_) if is_gone && known.is_some_and(|known| *revision >= known) => {
                self.remove(id).into_iter().collect()
            }
            What::Upsert(_) if is_gone => BTreeSet::new(),
            // At a tie the upsert wins: a move is a delete and an upsert of one revision.
            What::Upsert(Some(listing)) if known.is_none_or(|known| *revision >= known) => {
                let mut touched: BTreeSet<Zip> = self.remove(id).into_iter().collect();
                touched.insert(*zip);
                let (zip, revision, generation) = (*zip, *revision, self.generation);
                let row = Row { zip, revision, value: make(listing), generation };
                self.rows.insert(id.clone(), row);
                self.zips.entry(zip).or_default().insert(id.clone());
                touched
            }
            What::Delete | What::MovedTo(_) if known.is_some_and(|known| *revision > known) => {
                self.remove(id).into_iter().collect()
            }
            What::Upsert(_) | What::Delete | What::MovedTo(_) => BTreeSet::new(),
        }
    }

    fn drop_what_was_not_told(&mut self) -> BTreeSet<Zip> {
        let is_old = |row: &Row<T>| row.generation != self.generation;
        let old = self.rows.iter().filter(|(_, row)| is_old(row)).map(|(id, _)| id.clone());
        let old: Vec<ListingId> = old.collect();
        old.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Gives the ZIP where it was.
    fn remove(&mut self, id: &ListingId) -> Option<Zip> {
        let Row { zip, .. } = self.rows.remove(id)?;
        if let Some(ids) = self.zips.get_mut(&zip) {
            ids.remove(id);
            if ids.is_empty() {
                self.zips.remove(&zip);
            }
        }
        Some(zip)
    }

    /// What is kept of a listing.
    pub fn get(&self, id: &ListingId) -> Option<&T> {
        self.rows.get(id).map(|row| &row.value)
    }

    /// What is kept of the listings of a ZIP, in the order of their ids.
    pub fn zip(&self, zip: Zip) -> impl Iterator<Item = (&ListingId, &T)> {
        let ids = self.zips.get(&zip).into_iter().flatten();
        ids.filter_map(|id| Some((id, &self.rows.get(id)?.value)))
    }

    /// ZIPs that have listings.
    pub fn zips(&self) -> impl Iterator<Item = Zip> {
        self.zips.keys().copied()
    }

    /// What is kept of all listings, with their ZIPs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ListingId, Zip, &T)> {
        self.rows.iter().map(|(id, row)| (id, row.zip, &row.value))
    }

    /// How many listings there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::{Seq, ShardId, TimeMs};

    use super::*;

    fn change(zip: &str, revision: u64, what: What) -> Event {
        Event::Change(Box::new(Change {
            shard: ShardId(1),
            seq: Seq(1),
            what,
            id: ListingId::try_new("a").expect("an id"),
            zip: zip.parse().expect("a ZIP"),
            revision: Revision(revision),
            at: TimeMs(0),
            before: None,
            changed: Vec::new(),
            prev: Seq(0),
            passage: None,
            is_state: false,
        }))
    }

    fn upsert(zip: &str, revision: u64) -> Event {
        change(zip, revision, What::Upsert(Some(Listing::new("{}".into()))))
    }

    fn moved(from: &str, to: &str, revision: u64) -> Event {
        change(from, revision, What::MovedTo(to.parse().expect("a ZIP")))
    }

    /// All orders in which two shards may tell of these.
    fn merged<'a>(one: &'a [Event], other: &'a [Event]) -> Vec<Vec<&'a Event>> {
        let (Some(a), Some(b)) = (one.first(), other.first()) else {
            return vec![one.iter().chain(other).collect()];
        };
        let first = |head: &'a Event, tails: Vec<Vec<&'a Event>>| {
            tails.into_iter().map(move |tail| [vec![head], tail].concat())
        };
        let with_one = first(a, merged(&one[1..], other));
        with_one.chain(first(b, merged(one, &other[1..]))).collect()
    }

    #[test]
    fn however_two_shards_tell_of_moves_the_copy_ends_the_same() {
        let here = [upsert("98103", 1), moved("98103", "98004", 2), upsert("98103", 3)];
        let there = [upsert("98004", 2), moved("98004", "98103", 3)];
        let ways = merged(&here, &there);
        assert_eq!(ways.len(), 10);
        for way in ways {
            let mut mirror = Mirror::new();
            for event in &way {
                mirror.apply(event, |_| ());
            }
            let zips: Vec<String> = mirror.zips().map(|zip| zip.to_string()).collect();
            assert_eq!((mirror.len(), &zips[..]), (1, &["98103".to_string()][..]), "{way:?}");
        }
    }

    #[test]
    fn it_says_which_zips_are_no_longer_as_they_were() {
        let mut mirror = Mirror::new();
        let mut touched = |event: Event| -> Vec<String> {
            mirror.apply(&event, |_| ()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(touched(upsert("98103", 1)), ["98103"]);
        assert_eq!(touched(upsert("98004", 2)), ["98004", "98103"]);
        assert_eq!(touched(moved("98103", "98004", 2)), [] as [&str; 0]);
        assert_eq!(touched(change("98004", 3, What::Delete)), ["98004"]);
        assert_eq!(touched(change("98004", 3, What::Delete)), [] as [&str; 0]);
    }
}
