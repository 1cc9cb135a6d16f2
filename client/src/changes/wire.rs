//! Lines of `GET /v1/changes` as NDJSON: events, and control lines that say where the reader is.

use platbook_protocol::{ListingId, Revision, Seq, ShardId, TimeMs, Zip};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{Change, Facts, Passage, What};
use crate::error::{Source, source};
use crate::listing::Listing;
use crate::token::Token;

/// One line, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Change(Box<Change>),
    Control(Control),
}

/// Not a change, but where the reader stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Changes that a filter left out, both included.
    Skip { shard: ShardId, first: Seq, last: Seq },
    /// The position behind everything told so far; `at` where all shards have got there.
    Token { token: Token, at: Option<TimeMs> },
    /// All present state has been told.
    StateEnd { token: Token },
    /// Present state is told from its beginning.
    StateBegin { token: Option<Token> },
    /// Nothing is left, and no more was asked for.
    End { token: Token },
    /// All changes of a shard are told up to this moment.
    ShardResolved { shard: ShardId, at: TimeMs },
    /// Changes that were not read will soon be given up.
    TrimmingSoon { shard: ShardId },
}

#[derive(Deserialize)]
struct Event<'a> {
    shard: ShardId,
    #[serde(deserialize_with = "decimal")]
    seq: u64,
    /// Rows of present state have none.
    #[serde(default, deserialize_with = "decimal")]
    prev: u64,
    op: Op,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    filter: Option<Passage>,
    id: String,
    zip: String,
    #[serde(deserialize_with = "decimal")]
    revision: u64,
    #[serde(default)]
    at: u64,
    #[serde(default)]
    before: Option<Facts>,
    #[serde(default)]
    changed: Vec<String>,
    #[serde(default)]
    moved_to: Option<String>,
    #[serde(default, borrow)]
    listing: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Upsert,
    Delete,
}

/// Reads a line; `None` for a control line of a later version that this build need not know.
pub(super) fn read(line: &[u8]) -> Result<Option<Line>, Source> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        control: Option<String>,
    }
    let kind: Kind = serde_json::from_slice(line).map_err(source)?;
    match kind.control {
        None => read_event(line).map(Some),
        Some(name) => Ok(read_control(&name, line)?.map(Line::Control)),
    }
}

fn read_event(line: &[u8]) -> Result<Line, Source> {
    let event: Event<'_> = serde_json::from_slice(line).map_err(source)?;
    let zip = |text: String| Zip::try_from(text).map_err(source);
    let listing = |raw: &RawValue| Listing::new(raw.get().to_string().into());
    let what = match (event.op, event.moved_to) {
        (Op::Upsert, _) => What::Upsert(event.listing.map(listing)),
        (Op::Delete, None) => What::Delete,
        (Op::Delete, Some(to)) => What::MovedTo(zip(to)?),
    };
    Ok(Line::Change(Box::new(Change {
        shard: event.shard,
        seq: Seq(event.seq),
        what,
        id: ListingId::try_from(event.id).map_err(source)?,
        zip: zip(event.zip)?,
        revision: Revision(event.revision),
        at: TimeMs(event.at),
        before: event.before,
        changed: event.changed,
        prev: Seq(event.prev),
        passage: event.filter,
        is_state: event.reason == "state",
    })))
}

fn read_control(name: &str, line: &[u8]) -> Result<Option<Control>, Source> {
    #[derive(Deserialize)]
    struct Skipped {
        shard: ShardId,
        #[serde(deserialize_with = "decimal")]
        first: u64,
        #[serde(deserialize_with = "decimal")]
        last: u64,
    }
    #[derive(Deserialize)]
    struct Stands {
        #[serde(default)]
        token: Option<Token>,
        #[serde(default)]
        at: Option<TimeMs>,
        #[serde(default)]
        shard: Option<ShardId>,
    }
    if name == "skip" {
        let Skipped { shard, first, last } = serde_json::from_slice(line).map_err(source)?;
        return Ok(Some(Control::Skip { shard, first: Seq(first), last: Seq(last) }));
    }
    let Stands { token, at, shard } = serde_json::from_slice(line).map_err(source)?;
    if let Some(shard) = shard {
        return Ok(match (name, at) {
            ("resolved", Some(at)) => Some(Control::ShardResolved { shard, at }),
            ("trimming-soon", _) => Some(Control::TrimmingSoon { shard }),
            // Of a catch-up the token of the line before it tells more.
            (_, _) => None,
        });
    }
    Ok(match (name, token) {
        ("end", Some(token)) => Some(Control::End { token }),
        ("state-end", Some(token)) => Some(Control::StateEnd { token }),
        ("resync-begin", token) => Some(Control::StateBegin { token }),
        ("resolved", Some(token)) => Some(Control::Token { token, at }),
        ("heartbeat", Some(token)) => Some(Control::Token { token, at: None }),
        // A token of a line that is not known may stand anywhere.
        (_, _) => None,
    })
}

/// A number as a decimal string: seqs and revisions exceed 2^53.
fn decimal<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    std::borrow::Cow::<str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}
