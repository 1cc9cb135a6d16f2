//! As much of gRPC as one unary call needs, over one HTTP/2 connection.

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

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

    /// Calls `path` with an encoded [`message`]; an error unless its status is OK.
    pub(super) async fn call(&self, path: &str, message: Bytes) -> anyhow::Result<()> {
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
        Ok(())
    }
}

/// The frame of a message.
pub(super) fn message(protobuf: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + protobuf.len());
    framed.put_u8(0);
    framed.put_u32(protobuf.len() as u32);
    framed.put_slice(protobuf);
    framed.freeze()
}

/// Appends a length-delimited field (numbers up to 15).
pub(super) fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
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
}
