//! Places for scans: so many at a time, and not all of them for one hot ZIP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use platbook_protocol::Zip;

/// Counts the scans under way.
pub(crate) struct Places {
    taken: Mutex<Taken>,
    scans_max: usize,
    per_zip_max: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_zip: HashMap<Option<Zip>, usize>,
}

/// One place, given back when it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    zip: Option<Zip>,
}

impl Places {
    /// `scans_max` places, `per_zip_max` of them for one ZIP.
    pub(crate) fn new(scans_max: usize, per_zip_max: usize) -> Arc<Places> {
        Arc::new(Places { taken: Mutex::default(), scans_max, per_zip_max })
    }

    /// A place for a scan of `zip`, or of a whole shard, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, zip: Option<Zip>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_zip = taken.by_zip.get(&zip).copied().unwrap_or(0);
        if taken.all >= self.scans_max || of_zip >= self.per_zip_max {
            return None;
        }
        taken.all += 1;
        taken.by_zip.insert(zip, of_zip + 1);
        Some(Place { places: self.clone(), zip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_zip) = taken.by_zip.get_mut(&self.zip) {
            *of_zip -= 1;
            if *of_zip == 0 {
                taken.by_zip.remove(&self.zip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_zip_leaves_places_for_others() {
        let places = Places::new(3, 2);
        let hot = Zip::normalise(Some("94110"));
        let first = places.enter(Some(hot)).expect("free");
        let _second = places.enter(Some(hot)).expect("free");
        assert!(places.enter(Some(hot)).is_none());
        let _other = places.enter(Some(Zip::Unknown)).expect("free");
        assert!(places.enter(Some(Zip::Unknown)).is_none(), "all are taken");
        drop(first);
        assert!(places.enter(Some(Zip::Unknown)).is_some());
        assert!(places.enter(Some(hot)).is_some());
    }
}
