//! `GET /v1/changes`, and `POST` of the same for filters that no URL holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use platbook_protocol::map::Map;
use platbook_protocol::problem::Code;
use platbook_protocol::token::{Position, Token};
use platbook_protocol::{Seq, ShardId, Slot};
use serde_json::Value;
use tokio::time::Instant;

use super::params;
use super::problem::ApiError;
use crate::app::App;
use crate::changes::query::{ChangesQuery, From};
use crate::changes::session::{self, Session};
use crate::changes::source::SourceEnd;
use crate::error::Failure;
use crate::read::stream::stream;

/// What a client is told to wait when too many follow.
const RETRY_AFTER_MS: u32 = 1_000;

/// `GET /v1/changes`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let pairs = params::query(&uri)?;
    respond(app, pairs, &headers).await
}

/// `POST /v1/changes`: an object with the same names; what may repeat, may be a list.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let bad = |detail: String| ApiError::new(Code::BadQuery, detail);
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(&body).map_err(|e| bad(format!("body is no JSON object: {e}")))?;
    let text = |name: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(bad(format!("{name}: neither a text nor a number")))
        }
    };
    let mut pairs = Vec::new();
    for (name, value) in object {
        match &value {
            Value::Array(values) => {
                for value in values {
                    pairs.push((name.clone(), text(&name, value)?));
                }
            }
            single => pairs.push((name.clone(), text(&name, single)?)),
        }
    }
    respond(app, pairs, &headers).await
}

async fn respond(
    app: Arc<App>,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(headers, &app.limits)?;
    let query = ChangesQuery::parse(pairs, headers)?;
    let Ok(place) = app.followers.clone().try_acquire_owned() else {
        let detail = format!("{} readers of changes are connected", app.limits.followers_max);
        return Err(ApiError::new(Code::Overloaded, detail).with_retry_after_ms(RETRY_AFTER_MS));
    };
    let map = app.map(deadline).await?;
    let mut positions = positions(&app, &query, &map, deadline).await?;
    let is_window = query.is_history && query.from == From::Beginning;
    let session = loop {
        let given = positions.clone();
        match Session::open(app.clone(), query.clone(), &map, given, deadline).await {
            Ok(session) => break session,
            Err(Err(error)) => return Err(ApiError::new(Code::Internal, error.to_string())),
            Err(Ok(SourceEnd::Gone { shard, earliest, .. })) if is_window => {
                positions.insert(shard, Position::Follow { seq: earliest });
            }
            Err(Ok(SourceEnd::Gone { shard, from, newest, .. }))
                if !query.is_history && can_catch_up(&positions, shard) =>
            {
                let (after, seq, cursor) = (from, newest, Vec::new());
                positions.insert(shard, Position::CatchUp { after, seq, cursor });
            }
            Err(Ok(end)) => return Err(refused(&app, &map, &positions, end, deadline).await),
        }
    };
    let (pump, body) = stream(Duration::from_millis(app.limits.stalled_reader_ms));
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = session.run(pump).await {
            tracing::debug!(%error, "a reader of changes left, or was cut off");
        }
    });
    let mut response = (StatusCode::OK, Body::new(body)).into_response();
    let media_type = HeaderValue::from_static(query.format.media_type());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Whether a shard, whose changes behind the reader's position are gone, may tell what they have
/// left: that has not been tried yet.
fn can_catch_up(positions: &BTreeMap<ShardId, Position>, shard: ShardId) -> bool {
    matches!(positions.get(&shard), Some(Position::Follow { .. }))
}

/// Where to start in each shard that is asked for.
async fn positions(
    app: &App,
    query: &ChangesQuery,
    map: &Map,
    deadline: Instant,
) -> Result<BTreeMap<ShardId, Position>, ApiError> {
    let shards = shards_of(query, map)?;
    let follow = |seq| Position::Follow { seq };
    match &query.from {
        From::Token(text) => of_token(text, query, map, &shards),
        // As far back as the log goes: the positions are moved up to what is left of it.
        From::Beginning if query.is_history => {
            Ok(shards.iter().map(|shard| (*shard, follow(Seq(0)))).collect())
        }
        From::Beginning => Ok(states(session::newest(app, &shards, deadline).await?)),
        From::Now => {
            let newest = session::newest(app, &shards, deadline).await?;
            Ok(newest.into_iter().map(|(shard, seq)| (shard, follow(seq))).collect())
        }
    }
}

/// The state of each shard, from its beginning.
fn states(newest: BTreeMap<ShardId, Seq>) -> BTreeMap<ShardId, Position> {
    let state = |seq| Position::State { seq, cursor: Vec::new() };
    newest.into_iter().map(|(shard, seq)| (shard, state(seq))).collect()
}

/// The shards of the wanted ZIPs, or those wanted, or all.
fn shards_of(query: &ChangesQuery, map: &Map) -> Result<Vec<ShardId>, ApiError> {
    for shard in &query.shards {
        if *shard == ShardId::SYSTEM || map.shard(*shard).is_none() {
            let detail = format!("shard: there is no shard {shard}");
            return Err(ApiError::new(Code::BadQuery, detail));
        }
    }
    let of_zip = |zip| map.shard_of(Slot::of_zip(zip)).map(|shard| shard.id);
    let mut shards: Vec<ShardId> = match (query.zips.is_empty(), query.shards.is_empty()) {
        (false, _) => query.zips.iter().filter_map(of_zip).collect(),
        (true, false) => query.shards.clone(),
        (true, true) => map.shards.iter().map(|shard| shard.id).collect(),
    };
    shards.sort_unstable();
    shards.dedup();
    shards.retain(|shard| *shard != ShardId::SYSTEM);
    if let Some(outside) = query.shards.iter().find(|shard| !shards.contains(shard)) {
        let detail = format!("shard {outside} has none of the wanted ZIPs");
        return Err(ApiError::new(Code::ImpossibleFilter, detail));
    }
    if !query.shards.is_empty() {
        shards.retain(|shard| query.shards.contains(shard));
    }
    match shards.is_empty() {
        true => Err(ApiError::new(Code::ImpossibleFilter, "no shard has the wanted ZIPs")),
        false => Ok(shards),
    }
}

fn of_token(
    text: &str,
    query: &ChangesQuery,
    map: &Map,
    shards: &[ShardId],
) -> Result<BTreeMap<ShardId, Position>, ApiError> {
    let refused = |error: platbook_protocol::token::TokenError| {
        ApiError::new(error.code(), error.to_string())
    };
    let token = Token::decode_for(text, map.cluster, map.incarnation).map_err(refused)?;
    let mut positions = BTreeMap::new();
    for shard in shards {
        let Some(position) = token.shards.get(shard) else {
            let detail = match query.zips.is_empty() && query.shards.is_empty() {
                true => format!(
                    "the token covers {} of {} shards: say which `zip` or `shard` it is for",
                    token.shards.len(),
                    shards.len()
                ),
                false => format!("the token does not cover shard {shard}"),
            };
            return Err(ApiError::new(Code::TokenScope, detail));
        };
        positions.insert(*shard, position.clone());
    }
    Ok(positions)
}

/// Why a position cannot be told from, and what can be done instead.
async fn refused(
    app: &App,
    map: &Map,
    given: &BTreeMap<ShardId, Position>,
    end: SourceEnd,
    deadline: Instant,
) -> ApiError {
    let detail = end.to_string();
    match end {
        SourceEnd::Foreign { .. } => ApiError::new(Code::TokenScope, detail),
        SourceEnd::Future { .. } => ApiError::new(Code::TokenFuture, detail),
        SourceEnd::Unavailable { shard, reason } => Failure::Unavailable { shard, reason }.into(),
        SourceEnd::Gone { shard, earliest, newest, .. } => {
            let shards: Vec<ShardId> = given.keys().copied().collect();
            let resync = match session::newest(app, &shards, deadline).await {
                Ok(newest) => token_of(map, states(newest)),
                Err(failure) => return failure.into(),
            };
            let mut reached = given.clone();
            reached.insert(shard, Position::Follow { seq: earliest });
            let mut members = serde_json::Map::new();
            members.insert("shard".into(), shard.0.into());
            members.insert("oldest".into(), (earliest.0 + 1).to_string().into());
            members.insert("newest".into(), newest.0.to_string().into());
            members.insert("earliest".into(), token_of(map, reached).into());
            members.insert("resync".into(), resync.into());
            ApiError::new(Code::TokenTooOld, detail).with_members(members)
        }
    }
}

fn token_of(map: &Map, shards: BTreeMap<ShardId, Position>) -> String {
    let (cluster, incarnation, epoch) = (map.cluster, map.incarnation, map.epoch);
    // Longer than a token may be only with cursors, which none of these has.
    Token { cluster, incarnation, epoch, shards }.encode().unwrap_or_default()
}
