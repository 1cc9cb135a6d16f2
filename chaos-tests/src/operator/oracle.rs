//! The right answer, computed a second time and in the most naive way: from the queue's journal of
//! everything it accepted, without a line of the product's code. Everything is kept in memory,
//! every message of an id is looked at again at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::calendar;
use crate::Error;

/// Largest credible distance between the operator's clock and the queue's: the default of a node.
const SKEW_MS: u64 = 300_000;
/// Longest id.
const ID_BYTES_MAX: usize = 255;

/// What must be found.
#[derive(Debug, Default)]
pub struct Expected {
    /// Listings as sent without white space, by ZIP and id.
    pub zips: BTreeMap<String, BTreeMap<String, String>>,
    /// Ids of messages that nobody can apply.
    pub quarantined: BTreeSet<String>,
    /// Messages in the journal.
    pub messages: usize,
}

#[derive(Deserialize)]
struct Line {
    message_id: String,
    sent: u64,
    body: String,
}

struct Upsert {
    modified: u64,
    sent: u64,
    zip: String,
    listing: String,
}

#[derive(Default)]
struct History {
    upserts: Vec<Upsert>,
    deletes: Vec<u64>,
}

/// Reads the journal's lines and works out what the store must hold.
pub fn expected(journal: &str) -> Result<Expected, Error> {
    let mut expected = Expected::default();
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    for (at, line) in journal.lines().enumerate() {
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let what = format!("line {} of the queue's journal", at + 1);
            Error::Malformed { what, reason: error.to_string() }
        })?;
        expected.messages += 1;
        if note(&mut histories, &line).is_none() {
            expected.quarantined.insert(line.message_id);
        }
    }
    for (id, history) in histories {
        if let Some(winner) = winner(&id, history)? {
            expected.zips.entry(winner.zip).or_default().insert(id, winner.listing);
        }
    }
    Ok(expected)
}

/// Files a message under its id; `None` if it is none.
fn note(histories: &mut BTreeMap<String, History>, line: &Line) -> Option<()> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&line.body).ok()?;
    let text = |name: &str| serde_json::from_str::<String>(fields.get(name)?.get()).ok();
    let key_alone = fields.len() == 1;
    let (id, listing) = match text("op").as_deref() {
        Some("delete") => (text("id")?, None),
        Some("upsert") => (String::new(), Some(fields.get("listing")?.get())),
        Some(_) => return None,
        None if key_alone => (text("id").or_else(|| text("ListingKey"))?, None),
        None => (String::new(), Some(line.body.as_str())),
    };
    let Some(listing) = listing else {
        check_id(&id)?;
        histories.entry(id).or_default().deletes.push(line.sent);
        return Some(());
    };
    let value: Value = serde_json::from_str(listing).ok()?;
    let id = value.get("ListingKey")?.as_str()?.to_string();
    check_id(&id)?;
    let modified = value.get("ModificationTimestamp").and_then(Value::as_str);
    let upsert = Upsert {
        modified: modified.and_then(calendar::parse).unwrap_or(line.sent).min(line.sent + SKEW_MS),
        sent: line.sent,
        zip: zip(value.get("PostalCode").and_then(Value::as_str).unwrap_or_default()),
        listing: without_white_space(listing),
    };
    histories.entry(id).or_default().upserts.push(upsert);
    Some(())
}

fn check_id(id: &str) -> Option<()> {
    (!id.is_empty() && id.len() <= ID_BYTES_MAX).then_some(())
}

fn zip(text: &str) -> String {
    let bytes = text.trim().as_bytes();
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let good = match bytes.len() {
        5 => digits(bytes),
        10 => digits(&bytes[..5]) && bytes[5] == b'-' && digits(&bytes[6..]),
        _ => false,
    };
    if good { text.trim()[..5].to_string() } else { "unknown".to_string() }
}

fn without_white_space(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        if !escaped && *c == '"' {
            in_string = !in_string;
        }
        escaped = in_string && !escaped && *c == '\\';
        keep
    };
    json.chars().filter(keep).collect()
}

/// The upsert that is to be seen; `None` where the listing is deleted.
fn winner(id: &str, history: History) -> Result<Option<Upsert>, Error> {
    let deleted = history.deletes.into_iter().max();
    let mut best: Option<Upsert> = None;
    for upsert in history.upserts {
        let order = (upsert.modified, upsert.sent);
        match &best {
            Some(other) if (other.modified, other.sent) > order => {}
            Some(other) if (other.modified, other.sent) == order => {
                if other.listing != upsert.listing {
                    let reason = "two bodies at the same time".to_string();
                    return Err(Error::Malformed { what: format!("feed of {id}"), reason });
                }
            }
            _ => best = Some(upsert),
        }
    }
    Ok(best.filter(|upsert| {
        deleted.is_none_or(|deleted| {
            upsert.sent > deleted && upsert.modified >= deleted.saturating_sub(SKEW_MS)
        })
    }))
}

/// Compares the answer of one ZIP, NDJSON in order of id, with what must be there.
pub fn compare(zip: &str, expected: &BTreeMap<String, String>, answer: &str) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Violated { what: format!("ZIP {zip}: {what}") });
    let mut found = BTreeMap::new();
    let mut last = String::new();
    for line in answer.lines() {
        let listing: Value = serde_json::from_str(line).map_err(|error| {
            let (what, reason) = (format!("answer for ZIP {zip}"), error.to_string());
            Error::Malformed { what, reason }
        })?;
        let id = listing.get("ListingKey").and_then(Value::as_str).unwrap_or_default().to_string();
        if last >= id {
            return wrong(format!("{id} stands behind {last}"));
        }
        last.clone_from(&id);
        found.insert(id, line);
    }
    for (id, body) in expected {
        match found.remove(id) {
            None => return wrong(format!("listing {id} is missing")),
            Some(line) if line != body => {
                let both = format!("expected {body}\n  found    {line}");
                return wrong(format!("listing {id} differs\n  {both}"));
            }
            Some(_) => {}
        }
    }
    match found.first_key_value() {
        Some((id, _)) => wrong(format!("listing {id} must not be there")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const T: u64 = 1_780_000_000_000;

    fn upsert(id: &str, zip: &str, modified: u64, price: u64) -> Value {
        let modified = calendar::timestamp(modified);
        json!({"op": "upsert", "listing": {
            "ListingKey": id, "PostalCode": zip, "ModificationTimestamp": modified, "P": price,
        }})
    }

    fn delete(id: &str) -> Value {
        json!({"op": "delete", "id": id})
    }

    /// ZIP and price of the listing `a` after these messages, in both orders.
    fn outcome(messages: &[(u64, Value)]) -> Option<(String, u64)> {
        let line = |(at, (sent, body)): (usize, &(u64, Value))| {
            json!({"message_id": at.to_string(), "sent": sent, "body": body.to_string()})
                .to_string()
        };
        let lines: Vec<String> = messages.iter().enumerate().map(line).collect();
        let forward = look(&lines.join("\n"));
        let backward: Vec<String> = lines.into_iter().rev().collect();
        assert_eq!(forward, look(&backward.join("\n")));
        forward
    }

    fn look(journal: &str) -> Option<(String, u64)> {
        let expected = expected(journal).expect("good journal");
        let mut rows = expected.zips.iter().filter_map(|(zip, rows)| Some((zip, rows.get("a")?)));
        let (zip, body) = rows.next()?;
        assert!(rows.next().is_none(), "in one ZIP only");
        let body: Value = serde_json::from_str(body).expect("JSON");
        Some((zip.clone(), body["P"].as_u64().expect("a price")))
    }

    #[test]
    fn the_rule_is_the_one_of_the_design() {
        let up = |sent, price| (T + sent, upsert("a", "98101", T + sent, price));
        let gone = |sent| (T + sent, delete("a"));
        let here = |price| Some(("98101".to_string(), price));
        assert_eq!(outcome(&[up(1, 1), up(2, 2)]), here(2));
        assert_eq!(outcome(&[up(1, 1), gone(2)]), None);
        assert_eq!(outcome(&[up(1, 1), gone(1)]), None, "on a tie the delete wins");
        assert_eq!(outcome(&[up(1, 1), gone(2), up(3, 3)]), here(3));
        let old_copy = (T + 900_000, upsert("a", "98101", T + 1, 1));
        assert_eq!(outcome(&[up(1, 1), gone(600_000), old_copy]), None, "suspect");
        let ahead = (T, upsert("a", "98102", T + 9_000_000, 9));
        assert_eq!(outcome(&[ahead, up(400_000, 4)]), here(4), "a clock ahead is clamped");
    }

    #[test]
    fn garbage_is_counted_and_odd_zips_are_normalised() {
        let line =
            |id: &str, body: &str| json!({"message_id": id, "sent": T, "body": body}).to_string();
        let journal = [
            line("1", "{\"op\":\"upsert\""),
            line("2", "{\"op\":\"upsert\",\"listing\":{\"PostalCode\":\"98101\"}}"),
            line("3", "{\"op\":\"paint\",\"id\":\"a\"}"),
            line("4", &delete(&"9".repeat(256)).to_string()),
            line(
                "5",
                "{\"ListingKey\" : \"a\",\n \"PostalCode\": \"98101-1234\", \"x\": \"\\\" \"}",
            ),
            line("6", "{\"ListingKey\":\"b\",\"PostalCode\":null}"),
        ];
        let expected = expected(&journal.join("\n")).expect("good journal");
        let quarantined: Vec<&str> = expected.quarantined.iter().map(String::as_str).collect();
        assert_eq!(quarantined, ["1", "2", "3", "4"]);
        let body = r#"{"ListingKey":"a","PostalCode":"98101-1234","x":"\" "}"#;
        assert_eq!(expected.zips["98101"]["a"], body);
        assert!(expected.zips["unknown"].contains_key("b"));
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let row = |id: &str| format!("{{\"ListingKey\":\"{id}\"}}");
        let expected: BTreeMap<String, String> =
            ["a", "b"].into_iter().map(|id| (id.to_string(), row(id))).collect();
        let told = |answer: &[String]| {
            compare("98101", &expected, &answer.join("\n")).map_err(|error| error.to_string())
        };
        assert_eq!(told(&[row("a"), row("b")]), Ok(()));
        let says = |answer: &[String], word: &str| {
            let error = told(answer).expect_err(word);
            assert!(error.contains(word), "{error}");
        };
        says(&[row("a")], "b is missing");
        says(&[row("a"), row("b"), row("c")], "c must not be there");
        says(&[row("b"), row("a")], "a stands behind b");
        says(&[row("a"), "{\"ListingKey\":\"b\",\"x\":1}".to_string()], "b differs");
    }
}
