//! As much of gRPC as one unary call needs, over one HTTP/2 connection.

use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// In front of a message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Channel {
    address: String,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Channel {
    /// Connects to `address` (`host:port`).
    pub(super) async fn open(address: &str) -> anyhow::Result<Channel> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Channel { address: address.to_string(), sender })
    }

    /// Calls `path` with an encoded [`message`] and gives the answer's protobuf; an error unless
    /// its status is OK.
    pub(super) async fn call(&self, path: &str, message: Bytes) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", HeaderValue::from_static("application/grpc"))
            .header("te", HeaderValue::from_static("trailers"))
            .body(Full::new(message))?;
        let response = self.sender.clone().send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("reading an answer")?;
        // A call that failed at once has its status in the headers.
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let status = status.or_else(|| head.headers.get("grpc-status"));
        ensure!(status.is_some_and(|status| status == "0"), "{path}: status {status:?}");
        let mut answer = body.to_bytes();
        ensure!(answer.len() >= FRAME_BYTES, "{path}: an answer without a message");
        answer.advance(FRAME_BYTES);
        Ok(answer)
    }
}

/// A call whose answer is a stream of messages; the request stays open behind its first message.
pub(super) struct Stream {
    body: Incoming,
    buffer: BytesMut,
}

impl Stream {
    /// Calls `path` at `address` on a connection of its own.
    pub(super) async fn open(address: &str, path: &str, message: Bytes) -> anyhow::Result<Stream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        let first = Ok::<_, std::convert::Infallible>(Frame::data(message));
        let frames = stream::once(std::future::ready(first)).chain(stream::pending());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}{path}"))
            .header("content-type", HeaderValue::from_static("application/grpc"))
            .header("te", HeaderValue::from_static("trailers"))
            .body(StreamBody::new(frames))?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "{path}: {}", response.status());
        Ok(Stream { body: response.into_body(), buffer: BytesMut::new() })
    }

    /// The next message's protobuf.
    pub(super) async fn next(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<FRAME_BYTES>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.buffer.len() >= FRAME_BYTES + length {
                    self.buffer.advance(FRAME_BYTES);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            let frame = self.body.frame().await.context("the stream has ended")??;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

/// The frame of a message.
pub(super) fn message(protobuf: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_BYTES + protobuf.len());
    framed.put_u8(0);
    framed.put_u32(protobuf.len() as u32);
    framed.put_slice(protobuf);
    framed.freeze()
}

/// Appends a length-delimited field (numbers up to 15).
pub(super) fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a number field (numbers up to 15).
pub(super) fn put_number(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of a message that is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// Takes the next field off a message; `None` at its end, and where it is none that etcd sends.
pub(super) fn take_field<'a>(message: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = take_varint(message)?;
    match key & 7 {
        0 => Some(Field::Number(key >> 3, take_varint(message)?)),
        2 => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Some(Field::Bytes(key >> 3, bytes))
        }
        _ => None,
    }
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_protobuf_writes_them() {
        let mut out = Vec::new();
        put_field(&mut out, 1, b"key");
        put_field(&mut out, 2, &[7; 300]);
        assert_eq!(out[..5], [0x0a, 3, b'k', b'e', b'y']);
        assert_eq!(out[5..8], [0x12, 0xac, 0x02]);
        assert_eq!(out.len(), 8 + 300);
        assert_eq!(message(b"ab")[..], [0, 0, 0, 0, 2, b'a', b'b']);
    }

    #[test]
    fn fields_are_read_as_they_were_written() {
        let mut out = Vec::new();
        put_field(&mut out, 1, &[7; 300]);
        put_number(&mut out, 3, 5_000);
        let mut rest = &out[..];
        assert_eq!(take_field(&mut rest), Some(Field::Bytes(1, &[7; 300])));
        assert_eq!(take_field(&mut rest), Some(Field::Number(3, 5_000)));
        assert_eq!(take_field(&mut rest), None);
        for cut in 1..302 {
            assert_eq!(take_field(&mut &out[..cut]), None);
        }
    }
}
