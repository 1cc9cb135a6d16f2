//! In which ZIP a listing was last known to stand: a guess, so that its row can be asked for
//! together with its register. A wrong guess costs a read, and is never believed.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use platbook_protocol::{ListingId, Zip};

/// Ids that are remembered, at most: 2 MiB. Of two with the same place the later one stays.
const PLACES: usize = 1 << 18;
/// Bits for the ZIP: 100,000 codes, `unknown`, and nothing.
const ZIP_BITS: u32 = 17;
const UNKNOWN: u64 = 100_001;

/// Guesses, by a hash of the id: its lowest bits are the place, its highest ones stand there, to
/// tell one id from most others.
pub(crate) struct Homes {
    places: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Homes {
    pub(crate) fn new() -> Homes {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Homes { places, hasher: RandomState::new() }
    }

    /// Remembers where a listing stands.
    pub(crate) fn note(&self, id: &ListingId, zip: Zip) {
        let number = match zip {
            // A code is five digits; whatever else it were would be a wrong guess.
            Zip::Code(_) => zip.as_str().parse().map_or(0, |code: u64| code + 1),
            Zip::Unknown => UNKNOWN,
        };
        let (place, tag) = self.place(id);
        place.store(tag | number, Ordering::Relaxed);
    }

    /// Where it may stand.
    pub(crate) fn guess(&self, id: &ListingId) -> Option<Zip> {
        let (place, tag) = self.place(id);
        let found = place.load(Ordering::Relaxed);
        match found & ((1 << ZIP_BITS) - 1) {
            _ if found >> ZIP_BITS != tag >> ZIP_BITS => None,
            0 => None,
            UNKNOWN => Some(Zip::Unknown),
            number => Zip::try_parse(&format!("{:05}", number - 1)),
        }
    }

    fn place(&self, id: &ListingId) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(id.as_str());
        (&self.places[hash as usize % PLACES], hash >> ZIP_BITS << ZIP_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zip_is_guessed_as_it_was_noted_and_nothing_else_is() {
        let homes = Homes::new();
        let id = |number: usize| ListingId::try_new(&format!("id-{number}")).unwrap();
        let zips = ["00000", "00501", "98103", "99999", "unknown"];
        for (number, zip) in zips.iter().enumerate() {
            assert_eq!(homes.guess(&id(number)), None);
            homes.note(&id(number), Zip::normalise(Some(zip)));
            assert_eq!(homes.guess(&id(number)).map(|zip| zip.to_string()).as_deref(), Some(*zip));
        }
        homes.note(&id(0), Zip::Unknown);
        assert_eq!(homes.guess(&id(0)), Some(Zip::Unknown));
    }
}
