//! `/v1/quarantine` and `/v1/suspects`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use platbook_protocol::listing::{LISTING_BYTES_MAX, MESSAGE_BYTES_MAX};
use platbook_protocol::op::Op;
use platbook_protocol::problem::Code;
use platbook_protocol::register::Suspicion;
use platbook_protocol::rpc::{ListKind, QuarantineRecord};
use platbook_protocol::{TimeMs, codec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::BodyReader;
use super::params::{self, Segment};
use super::problem::ApiError;
use super::writes::conclude;
use crate::app::App;
use crate::read::lists::{Entry, Place, find_quarantined, list};
use crate::read::query::{format, number};
use crate::read::render::Format;
use crate::write::Delivery;
use crate::write::edge::Times;
use crate::write::lines::{Line, Lines};
use crate::write::notes::{Note, note};

/// Attribute of a message that has the place in the operator's sequence.
const SEQUENCE: &str = "sequence";
/// Entries of a page without `limit`.
const LIMIT: usize = 100;
/// Greatest `limit`.
const LIMIT_MAX: usize = 1_000;
/// Most messages put into quarantine by one request.
const PUTS_MAX: usize = 1_000;
/// Largest line of such a request: a body as base64, its attributes, and what stands around them.
const LINE_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// `GET /v1/quarantine`.
pub(crate) async fn quarantine(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    page(&app, ListKind::Quarantine, &uri, &headers).await
}

/// `GET /v1/suspects`.
pub(crate) async fn suspects(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    page(&app, ListKind::Suspects, &uri, &headers).await
}

async fn page(
    app: &Arc<App>,
    kind: ListKind,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(headers, &app.limits)?;
    let format = format(params::text(headers, header::ACCEPT.as_str())?)?;
    let (mut limit, mut from) = (LIMIT, Place::start());
    for (name, value) in params::query(uri)? {
        match name.as_str() {
            "limit" => limit = number::<usize>(&name, &value)?.clamp(1, LIMIT_MAX),
            "cursor" => {
                let bad = || ApiError::new(Code::BadCursor, format!("`{value}` is no cursor"));
                from = Place::decode(&value).ok_or_else(bad)?;
            }
            other => {
                let detail = format!("there is no parameter `{other}`");
                return Err(ApiError::new(Code::BadQuery, detail));
            }
        }
    }
    let map = app.map(deadline).await?;
    let leaders = app.shards.leaders();
    let (entries, next) = list(leaders, &map, kind, from, limit, deadline).await?;
    let mut out = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match (format, index) {
            (Format::Json, 0) => out.push(b'['),
            (Format::Json, _) => out.push(b','),
            (Format::Ndjson, _) => {}
        }
        out.extend_from_slice(summary(entry).to_string().as_bytes());
        if format == Format::Ndjson {
            out.push(b'\n');
        }
    }
    match (format, entries.is_empty()) {
        (Format::Json, true) => out.extend_from_slice(b"[]"),
        (Format::Json, false) => out.push(b']'),
        (Format::Ndjson, _) => {}
    }
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], out).into_response();
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next.encode()).ok()) {
        response.headers_mut().insert("platbook-next", next);
    }
    Ok(response)
}

/// `GET /v1/quarantine/{message_id}`: with its body.
pub(crate) async fn quarantined(
    State(app): State<Arc<App>>,
    Segment(message_id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let map = app.map(deadline).await?;
    let leaders = app.shards.leaders();
    let found = find_quarantined(leaders, &map, &message_id, deadline).await?;
    let record = found.ok_or_else(|| not_quarantined(&message_id))?;
    let mut shown = of_record(&message_id, &record);
    match String::from_utf8(record.body) {
        Ok(text) => shown.insert("body".into(), text.into()),
        Err(error) => {
            let encoded = BASE64_STANDARD.encode(error.into_bytes());
            shown.insert("body_base64".into(), encoded.into())
        }
    };
    Ok(axum::Json(Value::Object(shown)).into_response())
}

/// One line of `POST /v1/quarantine`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    message_id: String,
    code: String,
    detail: String,
    body: Option<String>,
    body_base64: Option<String>,
    #[serde(default)]
    attributes: Map<String, Value>,
    sent: u64,
}

impl Put {
    fn into_record(self, now: TimeMs) -> Result<(String, QuarantineRecord), ApiError> {
        let bad = |detail: String| ApiError::new(Code::BadField, detail);
        params::listing_id(&self.message_id)
            .map_err(|error| bad(format!("message_id: {}", error.detail())))?;
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(encoded)) => BASE64_STANDARD
                .decode(encoded)
                .map_err(|error| bad(format!("body_base64: {error}")))?,
            (Some(_), Some(_)) => return Err(bad("both body and body_base64".to_string())),
            (None, None) => return Err(bad("neither body nor body_base64".to_string())),
        };
        if body.len() > MESSAGE_BYTES_MAX {
            let detail = format!("the body has {} bytes", body.len());
            return Err(ApiError::new(Code::ListingTooLarge, detail));
        }
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let attributes = self.attributes.into_iter().map(|(k, v)| (k, text(v))).collect();
        let (code, detail, sent) = (self.code, self.detail, TimeMs(self.sent));
        let record = QuarantineRecord { code, detail, body, attributes, sent, quarantined: now };
        Ok((self.message_id, record))
    }
}

/// `POST /v1/quarantine`: NDJSON; answered after all are durable.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let reader = BodyReader::try_new(&app, &headers, body, app.limits.body_bytes_max, deadline)?;
    let (bytes, _room) = reader.whole().await?;
    let mut lines = Lines::new(LINE_BYTES_MAX);
    lines.push(&bytes);
    let mut notes = Vec::new();
    while let Some(line) = lines.next().or_else(|| lines.end()) {
        let (number, bytes) = match line {
            Line::Text { number, bytes } => (number, bytes),
            Line::TooLong { number } => {
                let detail = format!("line {number} is too long");
                return Err(ApiError::new(Code::ListingTooLarge, detail));
            }
        };
        let put: Put = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::new(Code::BadJson, format!("line {number}: {error}")))?;
        let (message_id, record) = put.into_record(app.clock.now())?;
        let record = codec::encode(&record);
        let op = Op::Quarantine { message_id: &message_id, record: &record };
        notes.push(Note::new(&message_id, &op));
        if notes.len() > PUTS_MAX {
            let detail = format!("more than {PUTS_MAX} messages");
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
    }
    let count = notes.len();
    app.map(deadline).await?;
    for noted in note(app.shards.clone(), app.source(), notes, deadline).await {
        noted?;
    }
    Ok(axum::Json(json!({"quarantined": count})).into_response())
}

/// `POST /v1/quarantine/{message_id}/retry`: applies it as it is now, and forgets it if that works.
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    Segment(message_id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let map = app.map(deadline).await?;
    let leaders = app.shards.leaders();
    let found = find_quarantined(leaders, &map, &message_id, deadline).await?;
    let record = found.ok_or_else(|| not_quarantined(&message_id))?;
    let sequence = record.attributes.iter().find(|(name, _)| name == SEQUENCE);
    let sequence = sequence.filter(|_| app.edge.is_sequenced());
    let sequence = sequence.and_then(|(_, text)| text.trim().parse().ok());
    let times = Times { sent: record.sent, sequence, now: app.clock.now() };
    let lines = vec![Line::Text { number: 1, bytes: record.body.into() }];
    let mut outcomes = app.edge.lines(lines, times).await?;
    let prepared = match outcomes.pop() {
        Some((_, prepared)) => prepared?,
        None => return Err(ApiError::new(Code::BadJson, "the message has no body")),
    };
    let delivery = Delivery { prepared, if_match: None, hold: true };
    let response = conclude(&app, delivery, deadline).await?;
    forget(&app, &message_id, Op::Unquarantine { message_id: &message_id }, deadline).await?;
    Ok(response)
}

/// `DELETE /v1/quarantine/{message_id}`.
pub(crate) async fn drop_quarantined(
    State(app): State<Arc<App>>,
    Segment(message_id): Segment,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    forget(&app, &message_id, Op::Unquarantine { message_id: &message_id }, deadline).await
}

/// `DELETE /v1/suspects/{id}`.
pub(crate) async fn drop_suspect(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let id = params::listing_id(&id)?;
    forget(&app, id.as_str(), Op::ClearSuspect { id: id.as_str() }, deadline).await
}

async fn forget(
    app: &Arc<App>,
    key: &str,
    op: Op<'_>,
    deadline: tokio::time::Instant,
) -> Result<StatusCode, ApiError> {
    let notes = vec![Note::new(key, &op)];
    app.map(deadline).await?;
    for noted in note(app.shards.clone(), app.source(), notes, deadline).await {
        noted?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn summary(entry: &Entry) -> Value {
    match entry {
        Entry::Quarantined(message_id, record) => {
            let mut shown = of_record(message_id, record);
            shown.insert("body_bytes".into(), record.body.len().into());
            Value::Object(shown)
        }
        Entry::Suspect(id, why, noticed) => {
            json!({"id": id, "reason": reason(*why), "noticed": noticed.0})
        }
    }
}

fn of_record(message_id: &str, record: &QuarantineRecord) -> Map<String, Value> {
    let attributes = record.attributes.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
    let mut shown = Map::new();
    shown.insert("message_id".into(), message_id.into());
    shown.insert("code".into(), record.code.as_str().into());
    shown.insert("detail".into(), record.detail.as_str().into());
    shown.insert("attributes".into(), Value::Object(attributes.collect()));
    shown.insert("sent".into(), record.sent.0.into());
    shown.insert("quarantined".into(), record.quarantined.0.into());
    shown
}

fn reason(why: Suspicion) -> &'static str {
    match why {
        Suspicion::ModifiedBeforeDelete => "modified_before_delete",
        Suspicion::ModifiedAhead => "modified_ahead",
        Suspicion::HalfWritten => "half_written",
        Suspicion::Outranked => "outranked",
    }
}

fn not_quarantined(message_id: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("no message `{message_id}` is in quarantine"))
}

const _: () = assert!(LINE_BYTES_MAX > LISTING_BYTES_MAX / 3 * 4, "a body fits as base64");
