//! Lists that lie scattered over all shards, read as one: shard after shard, in key order.

use platbook_protocol::map::Map;
use platbook_protocol::register::Suspicion;
use platbook_protocol::rpc::{List, ListKind, Listed, QuarantineRecord};
use platbook_protocol::{ShardId, Slot, TimeMs, codec};
use tokio::time::Instant;

use super::cursor;
use crate::error::Failure;
use crate::nodes::Leaders;

/// Most entries asked of a shard at a time; with bodies of 1 MiB they fit an answer.
const PAGE_ENTRIES_MAX: usize = 32;

/// Where a page starts: in a shard, behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    shard: ShardId,
    after: Option<String>,
}

impl Place {
    /// Before everything.
    pub(crate) fn start() -> Place {
        Place { shard: ShardId(0), after: None }
    }

    /// The place in a cursor.
    pub(crate) fn decode(text: &str) -> Option<Place> {
        let text = cursor::decode(text)?;
        let (shard, after) = text.split_once(' ')?;
        let after = (!after.is_empty()).then(|| after.to_string());
        Some(Place { shard: ShardId(shard.parse().ok()?), after })
    }

    /// The cursor of this place.
    pub(crate) fn encode(&self) -> String {
        let after = self.after.as_deref().unwrap_or_default();
        cursor::encode(format!("{} {after}", self.shard).as_bytes())
    }
}

/// One entry of either list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A message that could not be applied.
    Quarantined(String, QuarantineRecord),
    /// An id to look at: why, and when it was noticed.
    Suspect(String, Suspicion, TimeMs),
}

impl Entry {
    /// Message id or listing id.
    pub(crate) fn key(&self) -> &str {
        match self {
            Entry::Quarantined(key, _) | Entry::Suspect(key, _, _) => key,
        }
    }
}

/// Reads up to `limit` entries from `from` on, and where the next page starts, if there is one.
pub(crate) async fn list(
    leaders: &Leaders,
    map: &Map,
    kind: ListKind,
    from: Place,
    limit: usize,
    deadline: Instant,
) -> Result<(Vec<Entry>, Option<Place>), Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut place = from;
    let first = place.shard;
    for shard in map.shards.iter().filter(|s| s.slots.is_some() && s.id >= first) {
        if shard.id != place.shard {
            place = Place { shard: shard.id, after: None };
        }
        loop {
            let wanted = (limit - entries.len()).min(PAGE_ENTRIES_MAX);
            if wanted == 0 {
                return Ok((entries, Some(place)));
            }
            let found = page(leaders, kind, &place, wanted, deadline).await?;
            let is_last = found.len() < wanted;
            if let Some(entry) = found.last() {
                place.after = Some(entry.key().to_string());
            }
            entries.extend(found);
            if is_last {
                break;
            }
        }
    }
    Ok((entries, None))
}

/// Finds one quarantined message.
pub(crate) async fn find_quarantined(
    leaders: &Leaders,
    map: &Map,
    message_id: &str,
    deadline: Instant,
) -> Result<Option<QuarantineRecord>, Failure> {
    let Some(shard) = map.shard_of(Slot::of(message_id.as_bytes())) else { return Ok(None) };
    let mut place = Place { shard: shard.id, after: None };
    loop {
        // Keys stand in the order of their slots, so there is no place just before one key.
        let kind = ListKind::Quarantine;
        let found = page(leaders, kind, &place, PAGE_ENTRIES_MAX, deadline).await?;
        let is_last = found.len() < PAGE_ENTRIES_MAX;
        place.after = found.last().map(|entry| entry.key().to_string());
        for entry in found {
            match entry {
                Entry::Quarantined(key, record) if key == message_id => return Ok(Some(record)),
                Entry::Quarantined(_, _) | Entry::Suspect(_, _, _) => {}
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

async fn page(
    leaders: &Leaders,
    kind: ListKind,
    place: &Place,
    limit: usize,
    deadline: Instant,
) -> Result<Vec<Entry>, Failure> {
    let encode = |deadline_ms| {
        let Place { shard, after } = place.clone();
        codec::encode(&List { shard, deadline_ms, kind, after, limit: limit as u32 }).into()
    };
    let listed: Listed = leaders.read(place.shard, "list", deadline, encode).await?;
    Ok(match listed {
        Listed::Quarantine(found) => {
            found.into_iter().map(|(key, record)| Entry::Quarantined(key, record)).collect()
        }
        Listed::Suspects(found) => {
            found.into_iter().map(|(key, why, at)| Entry::Suspect(key, why, at)).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_cursor() {
        for place in [
            Place { shard: ShardId(3), after: None },
            Place { shard: ShardId(16), after: Some("a b/é".to_string()) },
        ] {
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert_eq!(Place::decode(&cursor::encode(b"MLS-1")), None);
    }
}
