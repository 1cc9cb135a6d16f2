//! Judges a journal: nothing missing, nothing twice, and what it adds up to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use platbook_protocol::token::{Position, Token};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::journal::Entry;

/// Violations that are kept; the rest is only counted.
const KEPT_MAX: usize = 20;

/// What a journal says.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Rows of the state.
    pub rows: u64,
    /// Changes.
    pub changes: u64,
    /// How often the state was told from its beginning.
    pub resyncs: u64,
    /// What must not be.
    pub violations: Vec<String>,
    /// Violations that were not kept.
    pub more: u64,
    lines: u64,
    /// The last change of each shard.
    pub last: BTreeMap<u32, u64>,
    /// Every listing, by ZIP and id.
    pub listings: BTreeMap<(String, String), Box<RawValue>>,
    /// Last change of each ZIP, as the next one's `prev` must tell it.
    previous: BTreeMap<String, u64>,
    /// Rows of which a change was told.
    changed: BTreeSet<(String, String)>,
    /// Shards of which rows tell what changed: they may be known already.
    catching_up: BTreeSet<u32>,
}

#[derive(Deserialize)]
struct Line<'a> {
    control: Option<&'a str>,
    shard: Option<u32>,
    seq: Option<&'a str>,
    last: Option<&'a str>,
    prev: Option<&'a str>,
    op: Option<&'a str>,
    reason: Option<&'a str>,
    id: Option<String>,
    zip: Option<&'a str>,
    at: Option<u64>,
    #[serde(borrow)]
    listing: Option<&'a RawValue>,
}

impl Judgement {
    /// Judges all entries.
    pub fn of<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Judgement {
        let mut judgement = Judgement::default();
        for entry in entries {
            judgement.on(&entry);
        }
        judgement
    }

    /// Judges the next entry; gives the time of a change, in milliseconds since 1970.
    pub fn on(&mut self, entry: &Entry<'_>) -> Option<u64> {
        self.lines += 1;
        self.take(entry).unwrap_or_else(|what| {
            self.violated(format!("line {}: {what}: {}", self.lines, entry.event));
            None
        })
    }

    fn violated(&mut self, what: String) {
        match self.violations.len() < KEPT_MAX {
            true => self.violations.push(what),
            false => self.more += 1,
        }
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<Option<u64>, String> {
        let line: Line<'_> = serde_json::from_str(entry.event).map_err(|e| e.to_string())?;
        match line.control {
            Some("resync-begin") => {
                self.resyncs += 1;
                return Ok(None);
            }
            Some("state-end" | "trimming-soon") => return Ok(None),
            Some("catch-up") => {
                let shard = line.shard.ok_or("no shard")?;
                self.last.insert(shard, number(line.last).ok_or("no last")?);
                self.catching_up.insert(shard);
                self.previous.clear();
                return Ok(None);
            }
            Some(other) => return Err(format!("unexpected control line {other}")),
            None => {}
        }
        let shard = line.shard.ok_or("no shard")?;
        let seq = number(line.seq).ok_or("no seq")?;
        let key = (line.zip.ok_or("no zip")?.to_string(), line.id.clone().ok_or("no id")?);
        if line.reason == Some("state") {
            self.rows += 1;
            let is_twice = match line.op {
                Some("delete") => self.listings.remove(&key).is_none(),
                _ => self.put(key, line.listing)?,
            };
            let is_twice = is_twice && !self.catching_up.contains(&shard);
            // Behind a row stands the change up to which the state reaches.
            self.last.insert(shard, state_of(entry.token, shard)?);
            return if is_twice {
                Err("a row of the state is told twice".into())
            } else {
                Ok(None)
            };
        }
        self.changes += 1;
        self.catching_up.remove(&shard);
        self.check_order(shard, seq, number(line.prev), &key.0, entry)?;
        let is_first = self.changed.insert(key.clone());
        match line.op {
            Some("upsert") => drop(self.put(key, line.listing)?),
            // A row that goes while the state is told is not in it.
            Some("delete") if self.listings.remove(&key).is_none() && !is_first => {
                return Err("deleted what was not there".into());
            }
            Some("delete") => {}
            other => return Err(format!("unknown op {other:?}")),
        }
        Ok(line.at)
    }

    fn check_order(
        &mut self,
        shard: u32,
        seq: u64,
        prev: Option<u64>,
        zip: &str,
        entry: &Entry<'_>,
    ) -> Result<(), String> {
        let at = follow_of(entry.token, shard)?;
        if at != seq {
            return Err(format!("the token behind change {seq} stands at {at}"));
        }
        // Of a shard whose state had no rows the first change that is told says where it begins.
        let last = self.last.insert(shard, seq);
        if last.is_some_and(|last| last + 1 != seq) {
            return Err(format!("change {seq} of shard {shard} behind {last:?}"));
        }
        let before = self.previous.insert(zip.to_string(), seq);
        match (before, prev) {
            (Some(before), Some(prev)) if before != prev => {
                Err(format!("prev is {prev}, the last change of {zip} told was {before}"))
            }
            (_, None) => Err("no prev".into()),
            (_, Some(_)) => Ok(()),
        }
    }

    fn put(&mut self, key: (String, String), listing: Option<&RawValue>) -> Result<bool, String> {
        let listing = listing.ok_or("an upsert without a listing")?.to_owned();
        Ok(self.listings.insert(key, listing).is_some())
    }
}

fn number(text: Option<&str>) -> Option<u64> {
    text.and_then(|text| text.parse().ok())
}

fn position(token: &str, shard: u32) -> Result<Position, String> {
    let token = Token::decode(token).map_err(|error| error.to_string())?;
    let found = token.shards.get(&platbook_protocol::ShardId(shard)).cloned();
    found.ok_or_else(|| format!("the token does not cover shard {shard}"))
}

fn state_of(token: &str, shard: u32) -> Result<u64, String> {
    match position(token, shard)? {
        Position::State { seq, .. } | Position::CatchUp { seq, .. } => Ok(seq.0),
        Position::Follow { seq } => Err(format!("a row behind which the token follows {seq}")),
    }
}

fn follow_of(token: &str, shard: u32) -> Result<u64, String> {
    match position(token, shard)? {
        Position::Follow { seq } => Ok(seq.0),
        Position::State { seq, .. } | Position::CatchUp { seq, .. } => {
            Err(format!("a change within the state of {seq}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::map::ClusterId;
    use platbook_protocol::{Seq, ShardId};
    use serde_json::json;

    use super::*;

    fn token(position: Position) -> String {
        let shards = [(ShardId(1), position)].into();
        let token = Token { cluster: ClusterId(1), incarnation: 1, epoch: 1, shards };
        token.encode().expect("short")
    }

    fn row(id: &str) -> (String, String) {
        let at = token(Position::State { seq: Seq(7), cursor: id.as_bytes().to_vec() });
        let event = json!({"shard": 1, "seq": "3", "op": "upsert", "reason": "state", "id": id,
            "zip": "98103", "revision": "1", "before": null, "listing": {"n": 1}});
        (at, event.to_string())
    }

    fn change(seq: u64, prev: u64, op: &str, id: &str) -> (String, String) {
        let at = token(Position::Follow { seq: Seq(seq) });
        let mut event = json!({"shard": 1, "seq": seq.to_string(), "prev": prev.to_string(),
            "op": op, "reason": "feed", "id": id, "zip": "98103", "revision": "1", "at": 1,
            "before": null});
        if op == "upsert" {
            event["listing"] = json!({"n": 2});
        }
        (at, event.to_string())
    }

    fn judge(lines: &[(String, String)]) -> Judgement {
        Judgement::of(lines.iter().map(|(token, event)| Entry { token, event }))
    }

    #[test]
    fn a_whole_journal_adds_up() {
        let lines = [
            row("a"),
            row("b"),
            change(8, 5, "upsert", "c"),
            change(9, 8, "delete", "a"),
            change(10, 9, "upsert", "b"),
            change(11, 10, "delete", "gone while the state was told"),
        ];
        let judgement = judge(&lines);
        assert_eq!(judgement.violations, Vec::<String>::new());
        assert_eq!((judgement.rows, judgement.changes, judgement.last[&1]), (2, 4, 11));
        let left: Vec<(&str, &str)> =
            judgement.listings.iter().map(|((_, id), text)| (&**id, text.get())).collect();
        assert_eq!(left, [("b", r#"{"n":2}"#), ("c", r#"{"n":2}"#)]);
    }

    #[test]
    fn a_catch_up_replaces_what_is_known_and_the_next_change_stands_behind_it() {
        let at = |id: &str| {
            let cursor = id.as_bytes().to_vec();
            token(Position::CatchUp { after: Seq(8), seq: Seq(20), cursor })
        };
        let begin = json!({"control": "catch-up", "shard": 1, "first": "9", "last": "20"});
        let again = json!({"shard": 1, "seq": "12", "op": "upsert", "reason": "state", "id": "c",
            "zip": "98103", "revision": "2", "before": null, "listing": {"n": 3}});
        let gone = json!({"shard": 1, "seq": "13", "op": "delete", "reason": "state", "id": "d",
            "zip": "98103", "revision": "2", "before": null});
        let lines = [
            change(7, 5, "upsert", "d"),
            change(8, 7, "upsert", "c"),
            (at(""), begin.to_string()),
            (at("c"), again.to_string()),
            (at("d"), gone.to_string()),
            change(21, 13, "delete", "c"),
        ];
        let judgement = judge(&lines);
        assert_eq!(judgement.violations, Vec::<String>::new());
        assert!(judgement.listings.is_empty());
        let hole = [&lines[..5], &[change(23, 13, "delete", "c")]].concat();
        assert!(judge(&hole).violations[0].contains("behind"));
    }

    #[test]
    fn whatever_is_missing_or_twice_or_out_of_order_is_seen() {
        let cases: [(&str, Vec<(String, String)>); 7] = [
            ("behind", vec![row("a"), change(9, 5, "upsert", "c")]),
            ("behind", vec![change(8, 5, "upsert", "c"), change(10, 8, "upsert", "c")]),
            ("behind", vec![change(8, 5, "upsert", "c"), change(8, 8, "upsert", "c")]),
            ("behind", vec![change(8, 5, "upsert", "c"), change(7, 8, "upsert", "c")]),
            ("told twice", vec![row("a"), row("a")]),
            ("prev is", vec![change(8, 5, "upsert", "c"), change(9, 5, "upsert", "c")]),
            ("not there", vec![change(8, 5, "delete", "c"), change(9, 8, "delete", "c")]),
        ];
        for (word, lines) in cases {
            let judgement = judge(&lines);
            let told = judgement.violations.join("; ");
            assert!(told.contains(word), "`{word}` is missing in {told:?}");
        }
    }
}
