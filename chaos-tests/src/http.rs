//! One HTTP/1.1 request on a connection of its own. The product's client is not used, so that a
//! fault in it cannot hide itself.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Error;

/// Longest wait for a whole answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path` at `address` (`host:port`).
pub async fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
    send(Method::GET, address, path, headers, Bytes::new()).await
}

/// `POST path` at `address`.
pub async fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, Error> {
    send(Method::POST, address, path, headers, body.into()).await
}

async fn send(
    method: Method,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, Error> {
    let url = format!("http://{address}{path}");
    let failed = |reason: String| Error::Http { url: url.clone(), reason };
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|e| failed(e.to_string()))?;
    match tokio::time::timeout(ANSWER_WITHIN, exchange(address, request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(format!("{error:#}"))),
        Err(_) => Err(failed(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

async fn exchange(
    address: &str,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
