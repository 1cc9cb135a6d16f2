//! Transfer of a whole shard to a replica that is too far behind for its log, or new.
//!
//! Its own connection, so that it never stands in the way of heartbeats. The body is a head
//! (length u32 LE and bytes: vote and position), then chunks of the same form as the store made
//! them, each with its own checksum; the store's end mark closes the stream.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use platbook_engine::store::ShardSnapshot;
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::sync::mpsc;

use super::link::LinkError;
use crate::blocking::blocking;
use crate::directory::Directory;
use crate::net::TcpStream;

/// Where snapshots are accepted; the query names shard and replica.
pub(crate) const SNAPSHOT_PATH: &str = "/raft/snapshot";

const CHUNK_BYTES: usize = 1 << 20;
const CHUNKS_AHEAD: usize = 2;
const PART_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const WINDOW_BYTES: u32 = 8 << 20;

/// Why a snapshot was not delivered.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends a snapshot and waits until it is installed. Answers the receiver's vote.
pub(crate) async fn send(
    directory: &Directory,
    peer: NodeId,
    (shard, replica): (ShardId, ReplicaId),
    head: Bytes,
    snapshot: ShardSnapshot,
) -> Result<Bytes, Failure> {
    let address = directory.address(peer).ok_or(LinkError::Down { peer })?;
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await??;
    tcp.set_nodelay(true)?;
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(tcp))
        .await?;
    let driver = tokio::spawn(connection);
    let _stop = AbortOnDrop(driver.abort_handle());
    let path = format!("{SNAPSHOT_PATH}?shard={shard}&replica={replica}");
    let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
    let reader = tokio::spawn(scan(snapshot, head, chunks));
    let frames = futures_util::stream::unfold(queue, |mut queue| async move {
        let chunk: Bytes = queue.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(chunk)), queue))
    });
    let request = directory.request(&address, &path).body(StreamBody::new(Box::pin(frames)))?;
    let response = client.send_request(request).await?;
    let status = response.status();
    let said = response.into_body().collect().await?.to_bytes();
    if status != http::StatusCode::OK {
        return Err(String::from_utf8_lossy(&said).into_owned().into());
    }
    reader.await??;
    Ok(said)
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads ahead of the network.
async fn scan(
    mut snapshot: ShardSnapshot,
    head: Bytes,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), Failure> {
    let mut next = Some(head.to_vec());
    while let Some(part) = next {
        let mut framed = BytesMut::with_capacity(4 + part.len());
        framed.extend_from_slice(&(part.len() as u32).to_le_bytes());
        framed.extend_from_slice(&part);
        if chunks.send(framed.freeze()).await.is_err() {
            return Err("the receiver went away".into());
        }
        let read;
        (read, snapshot) = blocking(move || (snapshot.next_chunk(CHUNK_BYTES), snapshot)).await?;
        next = read?;
    }
    Ok(())
}

/// Reads the parts of a snapshot body, the head first.
pub(crate) struct Parts {
    body: Incoming,
    buffer: BytesMut,
}

impl Parts {
    pub(crate) fn new(body: Incoming) -> Parts {
        Parts { body, buffer: BytesMut::new() }
    }

    /// The next part; `None` where the body ends between parts.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(len) = self.buffer.first_chunk::<4>() {
                let len = u32::from_le_bytes(*len) as usize;
                if len > PART_BYTES_MAX {
                    return Err(format!("part of {len} bytes, limit {PART_BYTES_MAX}").into());
                }
                if self.buffer.len() >= 4 + len {
                    return Ok(Some(self.buffer.split_to(4 + len).freeze().slice(4..)));
                }
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err("the body ends within a part".into()),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
