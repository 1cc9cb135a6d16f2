//! Streaming a ZIP or a shard: one RocksDB snapshot, read as fast as the caller takes it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use platbook_engine::error::StoreError;
use platbook_engine::store::{RowScan, ShardStore};
use platbook_protocol::codec;
use platbook_protocol::listing::Matcher;
use platbook_protocol::rpc::{Refusal, Scan, ScanShard, ZipState};

use super::data::shard_of;
use super::service::{Answer, bad_request, bytes, deadline, note_bad};
use crate::blocking::blocking;
use crate::node::Node;
use crate::objections::Caller;
use crate::raft::Group;
use crate::shard::Shard;

/// The first chunk is small, so that the first listing is out soon.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
/// Later chunks; one is in memory per scan.
const CHUNK_BYTES: usize = 256 << 10;

/// Answers a [`Scan`]: head, rows, end.
pub(super) async fn scan(node: &Arc<Node>, caller: Caller, body: Bytes) -> Answer {
    stream(node, caller, open_zip(node, body).await)
}

/// Answers a [`ScanShard`] in the same way.
pub(super) async fn scan_shard(node: &Arc<Node>, caller: Caller, body: Bytes) -> Answer {
    stream(node, caller, open_shard(node, body).await)
}

fn stream(node: &Node, caller: Caller, opened: Result<Rows, Refusal>) -> Answer {
    match opened {
        Err(refusal) => {
            note_bad(node, caller, &refusal);
            bytes(StatusCode::OK, head(Err(refusal)).into())
        }
        Ok(rows) => {
            let first = Stage::Head(rows.scan.state(), rows);
            let chunks =
                futures_util::stream::unfold(first, |stage| async move { stage.next().await });
            Response::new(StreamBody::new(chunks).boxed_unsync())
        }
    }
}

fn head(answer: Result<ZipState, Refusal>) -> Vec<u8> {
    let encoded = codec::encode(&answer);
    let mut head = (encoded.len() as u32).to_le_bytes().to_vec();
    head.extend_from_slice(&encoded);
    head
}

async fn open_zip(node: &Arc<Node>, body: Bytes) -> Result<Rows, Refusal> {
    let request: Scan = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(request.consistency, deadline(request.deadline_ms)).await?;
    open(shard, move |store| {
        let Scan { zip, after, limit, filter, .. } = request;
        let wanted = Matcher::new(&filter);
        let keep = Box::new(move |summary: &[u8]| wanted.matches(summary));
        store.scan(zip, after.as_deref(), keep, limit)
    })
    .await
}

async fn open_shard(node: &Arc<Node>, body: Bytes) -> Result<Rows, Refusal> {
    let request: ScanShard = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(request.consistency, deadline(request.deadline_ms)).await?;
    open(shard, ShardStore::scan_all).await
}

/// Opens where blocking is allowed.
async fn open(
    shard: Shard,
    begin: impl FnOnce(&ShardStore) -> Result<RowScan, StoreError> + Send + 'static,
) -> Result<Rows, Refusal> {
    let (id, group) = (shard.id(), shard.group().clone());
    let opened = blocking(move || begin(shard.store())).await;
    let failed = |reason: String| Refusal::Unavailable { shard: id, reason };
    let opened = opened.map_err(|e| failed(e.to_string()))?;
    match opened {
        Ok(scan) => Ok(Rows { scan, group }),
        Err(error) => {
            group.on_read_error(&error);
            Err(failed(error.to_string()))
        }
    }
}

/// Rows on their way, and whose they are.
struct Rows {
    scan: RowScan,
    group: Group,
}

/// Where a stream stands.
enum Stage {
    Head(ZipState, Rows),
    Rows(Rows),
}

impl Stage {
    async fn next(self) -> Option<(Result<Frame<Bytes>, Infallible>, Stage)> {
        match self {
            Stage::Head(state, rest) => {
                let (rows, stage) = rows(rest, FIRST_CHUNK_BYTES).await?;
                let mut first = head(Ok(state));
                first.extend_from_slice(&rows);
                Some((Ok(Frame::data(first.into())), stage))
            }
            Stage::Rows(rest) => {
                let (rows, stage) = rows(rest, CHUNK_BYTES).await?;
                Some((Ok(Frame::data(rows.into())), stage))
            }
        }
    }
}

/// The next rows, or the end. After a failure the stream stops without an end, which tells the
/// caller that something is missing.
async fn rows(mut rest: Rows, bytes_max: usize) -> Option<(Vec<u8>, Stage)> {
    let read = blocking(move || (rest.scan.next_chunk(bytes_max), rest)).await;
    match read {
        Ok((Ok(Some(rows)), rest)) => Some((rows, Stage::Rows(rest))),
        // The end mark was in the chunk before.
        Ok((Ok(None), _)) => None,
        Ok((Err(error), rest)) => {
            tracing::error!(%error, "scan failed");
            rest.group.on_read_error(&error);
            None
        }
        Err(error) => {
            tracing::error!(%error, "scan failed");
            None
        }
    }
}
