//! Ids and ZIPs of one shard, so that a write waits for no other shard's leader.

use platbook_protocol::{Slot, Zip};

use crate::Error;
use crate::status::{Slots, Status};

/// Listings of one client.
const IDS: usize = 24;
/// First ZIP that is tried; King County's, which the feed uses, lie far above.
const FIRST_ZIP: u32 = 10_000;
/// Last ZIP that is tried.
const LAST_ZIP: u32 = 59_999;
/// Ids that are tried for one client; a shard with one slot of 65,536 would need about as many.
const TRIES_MAX: u64 = 4_000_000;

/// Where one client writes: everything in it is decided and kept by one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: u32,
    /// The listings, no other client's.
    pub ids: Vec<String>,
    /// The two ZIPs between which they move; they may be other clients' as well.
    pub zips: [String; 2],
}

/// A place for each of `per_shard` clients in every shard that has slots; ids begin with `name`.
pub fn places(status: &Status, per_shard: usize, name: &str) -> Result<Vec<Place>, Error> {
    let shards = status.shards.iter().filter_map(|shard| Some((shard.id, shard.slots?)));
    let clients = shards.flat_map(|shard| (0..per_shard).map(move |client| (shard, client)));
    clients.map(|((shard, slots), client)| place(name, shard, slots, client)).collect()
}

fn place(name: &str, shard: u32, slots: Slots, client: usize) -> Result<Place, Error> {
    let is_in = |slot: Slot| (slots.first..=slots.last).contains(&slot.0);
    let names = (0..TRIES_MAX).map(|number| format!("{name}-{shard}-{client}-{number}"));
    let ids: Vec<String> = names.filter(|id| is_in(Slot::of_id(id))).take(IDS).collect();
    let codes = (FIRST_ZIP..=LAST_ZIP).map(|code| code.to_string());
    let in_shard = |code: &String| is_in(Slot::of_zip(&Zip::normalise(Some(code))));
    let zips: Vec<String> = codes.filter(in_shard).take(2).collect();
    match (ids.len(), <[String; 2]>::try_from(zips)) {
        (IDS, Ok(zips)) => Ok(Place { shard, ids, zips }),
        (_, _) => {
            let what = format!("slots of shard {shard}");
            Err(Error::Malformed { what, reason: "too few for a client".to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_place_is_in_its_shard_and_no_id_is_shared() {
        let text = r#"{"shards":[
            {"id":0,"slots":null,"leader":1,"replicas":[]},
            {"id":1,"slots":{"first":0,"last":32767},"leader":1,"replicas":[]},
            {"id":2,"slots":{"first":32768,"last":65535},"leader":1,"replicas":[]}]}"#;
        let status: Status = serde_json::from_str(text).expect("a status");
        let places = places(&status, 2, "chaos").expect("wide shards");
        assert_eq!(places.iter().map(|p| p.shard).collect::<Vec<_>>(), [1, 1, 2, 2]);
        let mut seen = std::collections::BTreeSet::new();
        for place in &places {
            assert!(place.ids.iter().all(|id| seen.insert(id.clone())));
            let half = |slot: Slot| 1 + u32::from(slot.0 >> 15);
            assert!(place.ids.iter().all(|id| half(Slot::of_id(id)) == place.shard));
            let zip = |zip: &String| half(Slot::of_zip(&Zip::normalise(Some(zip))));
            assert!(place.zips.iter().all(|code| zip(code) == place.shard));
            assert_ne!(place.zips[0], place.zips[1]);
        }
    }
}
