//! What a reader of changes asks for: parsed and checked.

use std::time::Duration;

use http::{HeaderMap, header};
use platbook_protocol::follow::FOLLOW_ZIPS_MAX;
use platbook_protocol::problem::Code;
use platbook_protocol::records;
use platbook_protocol::rpc::Filter;
use platbook_protocol::{ShardId, Zip};

use super::encode::Format;
use crate::http::params;
use crate::http::problem::ApiError;
use crate::read::fields::Fields;
use crate::read::query::number;

/// Seconds between two signs of life, unless asked otherwise.
const HEARTBEAT_S: u64 = 15;
/// Below the time after which a silent connection is closed.
const HEARTBEAT_S_MAX: u64 = 60;
/// Seconds that a long poll waits, unless asked otherwise.
const WAIT_S: u64 = 20;
const WAIT_S_MAX: u64 = 60;
/// Where a reader of server-sent events goes on.
const LAST_EVENT_ID: &str = "last-event-id";
/// Most parameters of one request.
const PAIRS_MAX: usize = 2 * FOLLOW_ZIPS_MAX;

/// From where to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The whole present state, then what changes.
    Beginning,
    /// What changes from now on.
    Now,
    /// Behind this token.
    Token(String),
}

/// When the response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// Never by itself.
    Yes,
    /// Where nothing is left.
    No,
    /// Behind the first changes, or after this time.
    Poll(Duration),
}

/// Everything that a reader asks for.
#[derive(Clone, Debug)]
pub(crate) struct ChangesQuery {
    pub(crate) format: Format,
    pub(crate) from: From,
    pub(crate) is_history: bool,
    pub(crate) live: Live,
    pub(crate) zips: Vec<Zip>,
    pub(crate) shards: Vec<ShardId>,
    pub(crate) upserts: bool,
    pub(crate) deletes: bool,
    pub(crate) filter: Filter,
    pub(crate) fields: Option<Fields>,
    pub(crate) with_bodies: bool,
    pub(crate) heartbeat: Duration,
}

impl ChangesQuery {
    /// Reads parameters, and the headers that choose the format or go on behind an event.
    pub(crate) fn parse(
        pairs: Vec<(String, String)>,
        headers: &HeaderMap,
    ) -> Result<ChangesQuery, ApiError> {
        if pairs.len() > PAIRS_MAX {
            let detail = format!("{} parameters, {PAIRS_MAX} are allowed", pairs.len());
            return Err(bad(detail));
        }
        let mut query = ChangesQuery {
            format: format(params::text(headers, header::ACCEPT.as_str())?)?,
            from: From::Now,
            is_history: false,
            live: Live::Yes,
            zips: Vec::new(),
            shards: Vec::new(),
            upserts: true,
            deletes: true,
            filter: Filter::default(),
            fields: None,
            with_bodies: true,
            heartbeat: Duration::from_secs(HEARTBEAT_S),
        };
        let mut wait = None;
        for (name, value) in pairs {
            match name.as_str() {
                "wait" => wait = Some(seconds(&name, &value, WAIT_S_MAX)?),
                _ => query.set(&name, &value)?,
            }
        }
        match (&mut query.live, wait) {
            (Live::Poll(patience), Some(wait)) => *patience = wait,
            (_, Some(_)) => return Err(bad("`wait` goes with live=long-poll".into())),
            (_, None) => {}
        }
        // An empty one says that there was none (HTML, section 9.2.4).
        let last = params::text(headers, LAST_EVENT_ID)?.filter(|token| !token.is_empty());
        if let Some(token) = last {
            query.from = From::Token(token.to_string());
        }
        if let (Some(min), Some(max)) = (query.filter.min_price, query.filter.max_price)
            && min > max
        {
            let detail = format!("min_price {min} is above max_price {max}: nothing is both");
            return Err(ApiError::new(Code::ImpossibleFilter, detail));
        }
        if query.format == Format::Binary && query.fields.is_some() {
            let detail = "fields: listings are not opened where they are told in binary";
            return Err(bad(detail.into()));
        }
        query.zips.sort_unstable();
        query.zips.dedup();
        query.shards.sort_unstable();
        query.shards.dedup();
        if query.zips.len() > FOLLOW_ZIPS_MAX {
            let detail = format!("{} ZIPs, {FOLLOW_ZIPS_MAX} are allowed", query.zips.len());
            return Err(bad(detail));
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "from" => {
                self.from = match value {
                    "beginning" => From::Beginning,
                    "now" => From::Now,
                    token => From::Token(token.to_string()),
                }
            }
            "mode" => {
                self.is_history = match value {
                    "state" => false,
                    "history" => true,
                    _ => {
                        let detail = format!("mode: `{value}` is none of state, history");
                        return Err(ApiError::new(Code::UnknownMode, detail));
                    }
                }
            }
            "live" => {
                let poll = Live::Poll(Duration::from_secs(WAIT_S));
                let choices = [("true", Live::Yes), ("false", Live::No), ("long-poll", poll)];
                self.live = choice(name, value, &choices)?;
            }
            "zip" => self.zips.push(params::zip(value)?),
            "shard" => self.shards.push(ShardId(number(name, value)?)),
            "op" => {
                let choices = [("upsert", (true, false)), ("delete", (false, true))];
                (self.upserts, self.deletes) = choice(name, value, &choices)?;
            }
            "min_price" => self.filter.min_price = Some(number(name, value)?),
            "max_price" => self.filter.max_price = Some(number(name, value)?),
            "status" => self.filter.status = Some(value.to_string()),
            "fields" => self.fields = Some(Fields::parse(value)),
            "body" => self.with_bodies = choice(name, value, &[("true", true), ("false", false)])?,
            "heartbeat" => self.heartbeat = seconds(name, value, HEARTBEAT_S_MAX)?,
            _ => return Err(bad(format!("there is no parameter `{name}`"))),
        }
        Ok(())
    }
}

fn bad(detail: String) -> ApiError {
    ApiError::new(Code::BadQuery, detail)
}

fn choice<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, ApiError> {
    let found = choices.iter().find(|(choice, _)| *choice == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let choices: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        bad(format!("{name}: `{value}` is none of {}", choices.join(", ")))
    })
}

fn seconds(name: &str, value: &str, max: u64) -> Result<Duration, ApiError> {
    let found: u64 = number(name, value)?;
    match (1..=max).contains(&found) {
        true => Ok(Duration::from_secs(found)),
        false => Err(bad(format!("{name}: {found} seconds, 1 to {max} are allowed"))),
    }
}

/// The format that `Accept` names first; lines where it leaves the choice.
fn format(accept: Option<&str>) -> Result<Format, ApiError> {
    let Some(accept) = accept.filter(|accept| !accept.is_empty()) else {
        return Ok(Format::Ndjson);
    };
    let names = accept.split(',').filter_map(|part| part.split(';').next());
    let formats = names.filter_map(|name| match name.trim().to_ascii_lowercase().as_str() {
        "text/event-stream" => Some(Format::Sse),
        records::MEDIA_TYPE => Some(Format::Binary),
        "application/x-ndjson" | "application/ndjson" | "application/*" | "*/*" => {
            Some(Format::Ndjson)
        }
        _ => None,
    });
    formats.into_iter().next().ok_or_else(|| {
        let detail = format!(
            "application/x-ndjson, text/event-stream and {} are offered",
            records::MEDIA_TYPE
        );
        ApiError::new(Code::NotAcceptable, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<ChangesQuery, Code> {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        ChangesQuery::parse(pairs.collect(), &HeaderMap::new()).map_err(|error| error.code())
    }

    #[test]
    fn parameters_are_read_and_may_repeat_where_they_widen() {
        let zips = [("zip", "98103"), ("zip", "98004"), ("zip", "98103-1234")];
        let query = parse(&[("from", "beginning"), ("op", "delete"), ("mode", "history")]);
        let query = query.expect("valid");
        assert_eq!((query.from, query.upserts, query.deletes), (From::Beginning, false, true));
        assert!(query.is_history);
        assert_eq!(parse(&zips).expect("valid").zips.len(), 2);
        let poll = parse(&[("wait", "3"), ("live", "long-poll")]).expect("valid");
        assert_eq!(poll.live, Live::Poll(Duration::from_secs(3)));
    }

    #[test]
    fn whatever_cannot_be_is_refused_with_its_name() {
        for (name, value, code) in [
            ("speed", "1", Code::BadQuery),
            ("mode", "fast", Code::UnknownMode),
            ("live", "maybe", Code::BadQuery),
            ("zip", "9810", Code::BadZip),
            ("shard", "-1", Code::BadQuery),
            ("op", "insert", Code::BadQuery),
            ("min_price", "x", Code::BadQuery),
            ("heartbeat", "0", Code::BadQuery),
            ("heartbeat", "99999", Code::BadQuery),
            ("wait", "5", Code::BadQuery),
        ] {
            assert_eq!(parse(&[(name, value)]).unwrap_err(), code, "{name}={value}");
        }
        let prices = |min, max| parse(&[("min_price", min), ("max_price", max)]).map(|_| ());
        assert_eq!(prices("2", "1"), Err(Code::ImpossibleFilter));
        assert_eq!(prices("2", "2"), Ok(()));
        let many: Vec<(&str, &str)> = vec![("zip", "98103"); PAIRS_MAX + 1];
        assert_eq!(parse(&many).unwrap_err(), Code::BadQuery);
    }

    #[test]
    fn the_last_event_is_where_it_goes_on_and_an_empty_one_is_none() {
        let from = |id: &'static str| {
            let id = http::HeaderValue::from_static(id);
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(LAST_EVENT_ID), id)]);
            let pairs = vec![("from".to_string(), "beginning".to_string())];
            ChangesQuery::parse(pairs, &headers).expect("valid").from
        };
        assert_eq!(from("T"), From::Token("T".to_string()));
        assert_eq!(from(""), From::Beginning);
    }

    #[test]
    fn the_header_decides_the_format() {
        for (accept, expected) in [
            (None, Format::Ndjson),
            (Some("*/*"), Format::Ndjson),
            (Some("text/event-stream"), Format::Sse),
            (Some("text/html, text/event-stream;q=0.5"), Format::Sse),
            (Some("application/vnd.platbook.changes, application/x-ndjson"), Format::Binary),
        ] {
            assert_eq!(format(accept).expect("offered"), expected, "{accept:?}");
        }
        assert_eq!(format(Some("text/html")).unwrap_err().code(), Code::NotAcceptable);
    }
}
