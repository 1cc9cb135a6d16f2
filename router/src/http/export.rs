//! `GET /v1/export?shard=`: every listing of one shard, as it was at one moment.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use platbook_protocol::ShardId;
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::Consistency;
use platbook_protocol::token::{Position, Token};

use super::params;
use super::problem::ApiError;
use super::rendering::Rendering;
use super::zips::PumpError;
use crate::app::App;
use crate::read::encoding::Encoding;
use crate::read::open::open_shard;
use crate::read::query::number;
use crate::read::render::Format;
use crate::read::stream::stream;

/// What a client is told to wait when too much is read at a time.
const RETRY_AFTER_MS: u32 = 1_000;

/// `GET /v1/export?shard=N`: NDJSON, streamed from one snapshot. A response that is cut off ends
/// without its end, which a client sees as an error.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let mut wanted = None;
    for (name, value) in params::query(&uri)? {
        match name.as_str() {
            "shard" => wanted = Some(ShardId(number(&name, &value)?)),
            other => {
                let detail = format!("there is no parameter `{other}`");
                return Err(ApiError::new(Code::BadQuery, detail));
            }
        }
    }
    let shard = wanted.ok_or_else(|| ApiError::new(Code::BadQuery, "`shard` is missing"))?;
    let map = app.map(deadline).await?;
    if map.shard(shard).is_none() {
        return Err(ApiError::new(Code::BadQuery, format!("shard: there is no shard {shard}")));
    }
    let Some(place) = app.places.enter(None) else {
        return Err(ApiError::new(Code::Overloaded, "too many reads at a time")
            .with_retry_after_ms(RETRY_AFTER_MS));
    };
    let leaders = app.shards.leaders();
    let mut scan = open_shard(leaders, shard, Consistency::Linearizable, deadline).await?;
    let token = Token {
        cluster: map.cluster,
        incarnation: map.incarnation,
        epoch: map.epoch,
        shards: [(shard, Position::Follow { seq: scan.state.shard_seq })].into(),
    };
    let mut rendering = Rendering::try_new(app.clone(), Format::Ndjson, None, Encoding::Identity)?;
    let (pump, body) = stream(Duration::from_millis(app.limits.stalled_reader_ms));
    tokio::spawn(async move {
        let _place = place;
        let pumped: Result<(), PumpError> = async {
            while let Some(rows) = scan.next().await? {
                pump.send(rendering.rows(rows).await?).await?;
            }
            pump.send(rendering.finish().await?).await?;
            Ok(pump.end().await?)
        }
        .await;
        if let Err(error) = pumped {
            app.metrics.streams_cut.add(1);
            tracing::warn!(%shard, %error, "export cut off");
        }
    });
    let mut response = (StatusCode::OK, Body::new(body)).into_response();
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static(Format::Ndjson.media_type());
    headers.insert(header::CONTENT_TYPE, media_type);
    // A token of one shard is far shorter than the limit.
    if let Ok(token) = HeaderValue::from_str(&token.encode().unwrap_or_default()) {
        headers.insert("platbook-token", token);
    }
    Ok(response)
}
