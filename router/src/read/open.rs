//! Asking the leader for a scan, and reading it piece by piece.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use platbook_protocol::ShardId;
use platbook_protocol::codec;
use platbook_protocol::rpc::{Consistency, Scan, ScanShard, ZipState};
use tokio::time::Instant;

use super::scan::{ScanDecoder, ScanError, Scanned, ScannedRow};
use crate::error::Failure;
use crate::nodes::Leaders;
use crate::nodes::call::{self, CallError};
use crate::nodes::leader::Attempt;

/// Bytes of frames that are handed on together. Some such pieces wait for each reader, unpacked to
/// three times as much and more.
const PIECE_BYTES: usize = 48 << 10;
/// How long a node may pause in the middle of a scan.
const NODE_PAUSE_MS_MAX: u64 = 10_000;

/// A scan of which the head is read.
pub(crate) struct OpenScan {
    /// The ZIP in the snapshot that is scanned.
    pub(crate) state: ZipState,
    body: Incoming,
    decoder: ScanDecoder,
    is_limited: bool,
    is_ended: bool,
}

/// Asks the leader of `shard` for `scan`, whose deadline is filled in.
pub(crate) async fn open(
    leaders: &Leaders,
    shard: ShardId,
    scan: &Scan,
    deadline: Instant,
) -> Result<OpenScan, Failure> {
    let encode = |deadline_ms| codec::encode(&Scan { deadline_ms, ..scan.clone() }).into();
    ask(leaders, shard, "scan", deadline, encode).await
}

/// Asks the leader of `shard` for all its listings.
pub(crate) async fn open_shard(
    leaders: &Leaders,
    shard: ShardId,
    consistency: Consistency,
    deadline: Instant,
) -> Result<OpenScan, Failure> {
    let encode = |deadline_ms| codec::encode(&ScanShard { shard, deadline_ms, consistency }).into();
    ask(leaders, shard, "scan-shard", deadline, encode).await
}

async fn ask(
    leaders: &Leaders,
    shard: ShardId,
    name: &'static str,
    deadline: Instant,
    encode: impl Fn(u32) -> Bytes,
) -> Result<OpenScan, Failure> {
    let attempt = |attempt: Attempt| {
        let request = encode(attempt.deadline_ms());
        async move {
            let Attempt { link, cluster, deadline } = attempt;
            let response = call::open(&link, name, Some(cluster), request, deadline).await?;
            let begun = begin(response.into_body());
            match tokio::time::timeout_at(deadline, begun).await {
                Ok(opened) => opened,
                Err(_) => Err(CallError::Broken("no head within the deadline".into())),
            }
        }
    };
    leaders.ask(shard, deadline, None, attempt).await
}

async fn begin(mut body: Incoming) -> Result<OpenScan, CallError> {
    let broken = |error: &dyn std::error::Error| CallError::Broken(error.to_string().into());
    let mut decoder = ScanDecoder::default();
    loop {
        match decoder.head().map_err(|error| broken(&error))? {
            Some(Ok(state)) => {
                return Ok(OpenScan { state, body, decoder, is_limited: false, is_ended: false });
            }
            Some(Err(refusal)) => return Err(CallError::Refused(refusal)),
            None => {}
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    decoder.push(&chunk);
                }
            }
            Some(Err(error)) => return Err(broken(&error)),
            None => return Err(broken(&ScanError::Cut)),
        }
    }
}

impl OpenScan {
    /// The next rows, of those that have arrived; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ScannedRow>>, ScanError> {
        loop {
            let (mut rows, mut bytes) = (Vec::new(), 0);
            while !self.is_ended && bytes < PIECE_BYTES {
                match self.decoder.next()? {
                    Scanned::Nothing => break,
                    Scanned::Row(row) => {
                        bytes += row.frame.len();
                        rows.push(row);
                    }
                    Scanned::End { is_limited } => {
                        self.is_limited = is_limited;
                        self.is_ended = true;
                    }
                }
            }
            match (rows.is_empty(), self.is_ended) {
                (false, _) => return Ok(Some(rows)),
                (true, true) => return Ok(None),
                (true, false) => {}
            }
            let patience = Duration::from_millis(NODE_PAUSE_MS_MAX);
            match tokio::time::timeout(patience, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(chunk) = frame.into_data() {
                        self.decoder.push(&chunk);
                    }
                }
                Ok(Some(Err(_)) | None) | Err(_) => {
                    self.decoder.finish()?;
                    return Err(ScanError::Cut);
                }
            }
        }
    }

    /// Whether the limit stopped the scan, so that more may follow; known at the end.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited
    }
}
