//! One HTTP/1.1 request on a connection of its own, or many on one. The product's client is not
//! used, so that a fault in it cannot hide itself.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

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

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
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
    Connection::to(address).send(method, path, headers, body).await
}

/// One connection that is kept from request to request, and made anew after a fault.
#[derive(Debug)]
pub struct Connection {
    address: String,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// To `address` (`host:port`); the first request connects.
    pub fn to(address: &str) -> Connection {
        Connection { address: address.to_string(), open: None }
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// `PUT path`.
    pub async fn put(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Error> {
        self.send(Method::PUT, path, headers, body.into()).await
    }

    /// `DELETE path`.
    pub async fn delete(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        self.send(Method::DELETE, path, headers, Bytes::new()).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Error> {
        let url = format!("http://{}{path}", self.address);
        let failed = |reason: String| Error::Http { url: url.clone(), reason };
        let host = self.address.as_str();
        let mut request = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| failed(e.to_string()))?;
        // Whatever interrupts the exchange leaves the connection unusable.
        let open = self.open.take();
        let exchanged = exchange(&self.address, open, request);
        match tokio::time::timeout(ANSWER_WITHIN, exchanged).await {
            Ok(Ok((answer, open))) => {
                self.open = Some(open);
                Ok(answer)
            }
            Ok(Err(error)) => Err(failed(format!("{error:#}"))),
            Err(_) => Err(failed(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    address: &str,
    open: Option<Open>,
    request: Request<Full<Bytes>>,
) -> Result<(Answer, Open), Failure> {
    let mut kept = open;
    if let Some(open) = &mut kept
        && open.sender.ready().await.is_err()
    {
        kept = None;
    }
    let mut open = match kept {
        Some(open) => open,
        None => connect(address).await?,
    };
    let response = open.sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((Answer { status: head.status.as_u16(), headers: head.headers, body }, open))
}

async fn connect(address: &str) -> Result<Open, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok(Open { sender, driver: tokio::spawn(connection) })
}
