//! The calling side of control calls between nodes: rare, so each has a connection of its own.

use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use platbook_protocol::codec;
use platbook_protocol::rpc::Refusal;

use crate::directory::Directory;
use crate::net::TcpStream;

const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody there, or it broke off.
    #[error("{address}: {reason}")]
    Transport {
        /// Whom.
        address: String,
        /// Why.
        reason: String,
    },
    /// It answered, but with something else than an answer.
    #[error("{address} answered {status}: {said}")]
    Status {
        /// Whom.
        address: String,
        /// The HTTP status.
        status: http::StatusCode,
        /// Its body.
        said: String,
    },
    /// The call was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Calls `path` at `address`; all of it within `timeout`.
pub(crate) async fn call<Q: Encode, A: Decode<()>>(
    directory: &Directory,
    address: &str,
    path: &str,
    request: &Q,
    timeout: Duration,
) -> Result<A, CallError> {
    let body = Bytes::from(codec::encode(request));
    let transport = |reason: String| CallError::Transport { address: address.to_string(), reason };
    let exchange = exchange(directory, address, path, body);
    let (status, answer) = tokio::time::timeout(timeout, exchange)
        .await
        .map_err(|_| transport(format!("no answer within {} ms", timeout.as_millis())))?
        .map_err(|e| transport(e.to_string()))?;
    if status != http::StatusCode::OK {
        let said = String::from_utf8_lossy(&answer).trim().to_string();
        return Err(CallError::Status { address: address.to_string(), status, said });
    }
    let answer: Result<A, Refusal> =
        codec::decode(&answer).map_err(|e| transport(e.to_string()))?;
    Ok(answer?)
}

async fn exchange(
    directory: &Directory,
    address: &str,
    path: &str,
    body: Bytes,
) -> Result<(http::StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    let driver = tokio::spawn(connection);
    let request = directory.request(address, path).body(Full::new(body))?;
    let response = client.send_request(request).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok((status, answer))
}
