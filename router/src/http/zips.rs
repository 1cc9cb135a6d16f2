//! `GET /v1/zips/{zip}/listings`.
//!
//! "Not modified" and cached responses cost one small read of the ZIP's state. Everything else is
//! one scan of one snapshot, streamed. A page (`limit`) is gathered before it is answered, because
//! its headers name the next one; it is cut short rather than let grow.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use platbook_protocol::map::Map;
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::{ReadZipState, Scan, ZipState};
use platbook_protocol::token::{Position, Token};
use platbook_protocol::{ShardId, Slot, Zip, codec};
use tokio::time::Instant;

use super::params::{self, Segment};
use super::problem::ApiError;
use super::rendering::Rendering;
use crate::app::App;
use crate::read::cache::{Kept, Key};
use crate::read::cursor;
use crate::read::etag::{self, ZipVersion};
use crate::read::open::{OpenScan, open};
use crate::read::places::Place;
use crate::read::query::ZipQuery;
use crate::read::stream::stream;

/// Bytes after which a page ends, whatever its limit.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// What a client is told to wait when a ZIP is read by too many at a time.
const RETRY_AFTER_MS: u32 = 1_000;

/// `GET /v1/zips/{zip}/listings`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Segment(zip): Segment,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let zip = params::zip(&zip)?;
    let query = ZipQuery::parse(&uri, &headers)?;
    let if_none_match = params::text(&headers, header::IF_NONE_MATCH.as_str())?;
    let map = app.map(deadline).await?;
    let read = ZipRead::new(app, map, zip, query, deadline)?;
    read.answer(if_none_match, method == Method::HEAD).await
}

struct ZipRead {
    app: Arc<App>,
    map: Arc<Map>,
    shard: ShardId,
    zip: Zip,
    query: ZipQuery,
    spelling: Arc<str>,
    deadline: Instant,
}

impl ZipRead {
    fn new(
        app: Arc<App>,
        map: Arc<Map>,
        zip: Zip,
        query: ZipQuery,
        deadline: Instant,
    ) -> Result<ZipRead, ApiError> {
        let shard = match map.shard_of(Slot::of_zip(&zip)) {
            Some(shard) => shard.id,
            None => return Err(ApiError::new(Code::ShardUnavailable, "no shard owns the ZIP")),
        };
        let spelling = query.spelling();
        Ok(ZipRead { app, map, shard, zip, query, spelling, deadline })
    }

    async fn answer(
        self,
        if_none_match: Option<&str>,
        is_head: bool,
    ) -> Result<Response, ApiError> {
        let cached = self.app.cache.get(&self.key());
        if if_none_match.is_some() || cached.is_some() || is_head {
            let state = self.state().await?;
            if self.is_unmodified(if_none_match, &state) {
                return Ok(self.not_modified(&state));
            }
            if is_head {
                return Ok(self.head(StatusCode::OK, &state, None).into_response());
            }
            if let Some(kept) = cached.filter(|kept| kept.version == self.version(&state)) {
                self.app.metrics.cache_hits.add(1);
                return Ok(self.cached(&state, &kept));
            }
        }
        let Some(place) = self.app.places.enter(Some(self.zip)) else {
            return Err(ApiError::new(Code::Overloaded, "too many reads at a time")
                .with_retry_after_ms(RETRY_AFTER_MS));
        };
        let scan = self.scan().await?;
        let state = scan.state;
        if self.is_unmodified(if_none_match, &state) {
            return Ok(self.not_modified(&state));
        }
        match self.query.limit {
            Some(_) => self.page(scan, &state).await,
            None => self.streamed(scan, &state, place),
        }
    }

    fn key(&self) -> Key {
        Key { zip: self.zip, query: self.spelling.clone(), encoding: self.query.encoding }
    }

    fn version(&self, state: &ZipState) -> ZipVersion {
        ZipVersion { incarnation: self.map.incarnation, shard: self.shard, seq: state.seq }
    }

    fn is_unmodified(&self, if_none_match: Option<&str>, state: &ZipState) -> bool {
        let tag = etag::of_zip(self.version(state), &self.spelling);
        if_none_match.is_some_and(|candidates| etag::matches(candidates, &tag))
    }

    async fn state(&self) -> Result<ZipState, ApiError> {
        let (shard, zip, consistency) = (self.shard, self.zip, self.query.consistency);
        let encode = |deadline_ms| {
            codec::encode(&ReadZipState { shard, deadline_ms, consistency, zip }).into()
        };
        let leaders = self.app.shards.leaders();
        Ok(leaders.read(shard, "zip-state", self.deadline, encode).await?)
    }

    async fn scan(&self) -> Result<OpenScan, ApiError> {
        let scan = Scan {
            shard: self.shard,
            deadline_ms: 0,
            consistency: self.query.consistency,
            zip: self.zip,
            after: self.query.after.clone(),
            limit: self.query.limit,
            filter: self.query.filter.clone(),
        };
        let leaders = self.app.shards.leaders();
        Ok(open(leaders, self.shard, &scan, self.deadline).await?)
    }

    /// Status and headers of every answer.
    fn head(&self, status: StatusCode, state: &ZipState, next: Option<&str>) -> Response {
        let mut response = status.into_response();
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        set("etag", etag::of_zip(self.version(state), &self.spelling));
        set("platbook-count", state.count.to_string());
        let token = Token {
            cluster: self.map.cluster,
            incarnation: self.map.incarnation,
            epoch: self.map.epoch,
            shards: [(self.shard, Position::Follow { seq: state.shard_seq })].into(),
        };
        // A token of one shard is far shorter than the limit.
        set("platbook-token", token.encode().unwrap_or_default());
        set("vary", "accept, accept-encoding".to_string());
        // To be kept, but asked about before every use.
        set("cache-control", "no-cache".to_string());
        if status != StatusCode::NOT_MODIFIED {
            set("content-type", self.query.format.media_type().to_string());
            if let Some(encoding) = self.query.encoding.header() {
                set("content-encoding", encoding.to_string());
            }
        }
        if let Some(next) = next {
            set("platbook-next", next.to_string());
        }
        response
    }

    fn not_modified(&self, state: &ZipState) -> Response {
        self.app.metrics.not_modified.add(1);
        self.head(StatusCode::NOT_MODIFIED, state, None)
    }

    fn cached(&self, state: &ZipState, kept: &Kept) -> Response {
        let chunks: Vec<Result<Bytes, std::convert::Infallible>> =
            kept.chunks.iter().cloned().map(Ok).collect();
        let length: usize = kept.chunks.iter().map(Bytes::len).sum();
        let head = self.head(StatusCode::OK, state, kept.next.as_deref());
        let mut response = head.map(|_| Body::from_stream(futures_util::stream::iter(chunks)));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }

    fn rendering(&self) -> Result<Rendering, ApiError> {
        let ZipQuery { format, fields, encoding, .. } = &self.query;
        Rendering::try_new(self.app.clone(), *format, fields.clone(), *encoding)
    }

    /// Gathers a page, which ends early where it would grow too large.
    async fn page(self, mut scan: OpenScan, state: &ZipState) -> Result<Response, ApiError> {
        let mut rendering = self.rendering()?;
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        let is_whole = loop {
            let cut = |error: &dyn std::fmt::Display| {
                ApiError::new(Code::ShardUnavailable, error.to_string())
            };
            let next = tokio::time::timeout_at(self.deadline, scan.next()).await;
            let Some(rows) =
                next.map_err(|_| cut(&"the deadline passed"))?.map_err(|error| cut(&error))?
            else {
                break true;
            };
            last = rows.last().map(|row| row.id.clone()).or(last);
            let chunk = rendering.rows(rows).await?;
            bytes += chunk.len();
            chunks.push(chunk);
            if bytes >= PAGE_BYTES_MAX {
                break false;
            }
        };
        chunks.push(rendering.finish().await?);
        let has_more = !is_whole || scan.is_limited();
        let next = last.filter(|_| has_more).map(|id| cursor::encode(&id));
        let kept = Kept { version: self.version(state), chunks, next };
        let response = self.cached(state, &kept);
        if bytes <= self.app.limits.cache_entry_bytes_max {
            self.app.cache.put(self.key(), kept, &self.app.metrics.cache_bytes);
        }
        Ok(response)
    }

    /// Streams everything, and keeps it where it is small enough.
    fn streamed(
        self,
        mut scan: OpenScan,
        state: &ZipState,
        place: Place,
    ) -> Result<Response, ApiError> {
        let mut rendering = self.rendering()?;
        let patience = Duration::from_millis(self.app.limits.stalled_reader_ms);
        let (pump, body) = stream(patience);
        let response = self.head(StatusCode::OK, state, None).map(|_| Body::new(body));
        let version = self.version(state);
        // Rendered it is larger than its frames.
        let is_small = state.bytes <= self.app.limits.cache_entry_bytes_max as u64;
        let mut gathering = is_small.then(|| self.app.cache.gather(self.key())).flatten();
        tokio::spawn(async move {
            let _place = place;
            let pumped: Result<(), PumpError> = async {
                while let Some(rows) = scan.next().await? {
                    let chunk = rendering.rows(rows).await?;
                    gathering = gathering.take().and_then(|one| one.add(&chunk));
                    pump.send(chunk).await?;
                }
                let last = rendering.finish().await?;
                gathering = gathering.take().and_then(|one| one.add(&last));
                pump.send(last).await?;
                Ok(pump.end().await?)
            }
            .await;
            match pumped {
                Ok(()) => {
                    if let Some(whole) = gathering {
                        whole.keep(version, &self.app.metrics.cache_bytes);
                    }
                }
                Err(error) => {
                    self.app.metrics.streams_cut.add(1);
                    tracing::warn!(zip = %self.zip, %error, "response cut off");
                }
            }
        });
        Ok(response)
    }
}

/// Why a response was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum PumpError {
    #[error(transparent)]
    Scan(#[from] crate::read::scan::ScanError),
    #[error("{0}")]
    Rendering(String),
    #[error(transparent)]
    Stream(#[from] crate::read::stream::StreamError),
}

impl From<ApiError> for PumpError {
    fn from(error: ApiError) -> PumpError {
        PumpError::Rendering(error.detail().to_string())
    }
}
