//! A router whose answers a test writes, for failures that a real one cannot be made to have.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every test looks at everything")]
pub(crate) struct Call {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) method: String,
    pub(crate) version: http::Version,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What a script answers; an error cuts the connection.
pub(crate) type Reply = Result<Response<Full<Bytes>>, std::io::Error>;

/// Both directions of a connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Handshake = Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Duplex>>> + Send>>;

/// What turns a connection into one that is spoken over.
pub(crate) type Handshakes = Arc<dyn Fn(TcpStream) -> Handshake + Send + Sync>;

/// The router, for as long as it is kept.
pub(crate) struct Scripted {
    pub(crate) url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    serving: JoinHandle<()>,
}

impl Scripted {
    /// Answers every call by `script`, on a port of its own.
    #[allow(dead_code, reason = "not every test is without TLS")]
    pub(crate) async fn start<S, F>(script: S) -> Scripted
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let plain: Handshakes = Arc::new(|stream| {
            Box::pin(std::future::ready(Ok(Box::new(stream) as Box<dyn Duplex>)))
        });
        Scripted::start_over("http", plain, script).await
    }

    /// The same behind these handshakes; over `https` as `localhost`.
    pub(crate) async fn start_over<S, F>(
        scheme: &str,
        handshakes: Handshakes,
        script: S,
    ) -> Scripted
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listener = TcpListener::bind(any).await.expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        let host = if scheme == "https" { "localhost" } else { "127.0.0.1" };
        let url = format!("{scheme}://{host}:{port}");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let serving =
            tokio::spawn(accept(listener, handshakes, Arc::new(script), Arc::clone(&calls)));
        Scripted { url, calls, serving }
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no test panics with the lock").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer of JSON.
pub(crate) fn json(status: u16, body: serde_json::Value) -> Reply {
    let body = Full::new(Bytes::from(body.to_string()));
    Ok(Response::builder().status(status).body(body).expect("a valid answer"))
}

/// A problem.
#[allow(dead_code, reason = "not every test needs one")]
pub(crate) fn problem(status: u16, code: &str) -> Reply {
    json(status, serde_json::json!({"status": status, "code": code, "detail": "scripted"}))
}

async fn accept<S, F>(
    listener: TcpListener,
    handshakes: Handshakes,
    script: Arc<S>,
    calls: Arc<Mutex<Vec<Call>>>,
) where
    S: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let (script, calls) = (Arc::clone(&script), Arc::clone(&calls));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (script, calls) = (Arc::clone(&script), Arc::clone(&calls));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                let call = {
                    let mut calls = calls.lock().expect("no test panics with the lock");
                    let call = Call {
                        number: calls.len() + 1,
                        method: parts.method.to_string(),
                        version: parts.version,
                        path: parts.uri.path_and_query().map_or("", |p| p.as_str()).to_string(),
                        headers: parts.headers,
                        body,
                    };
                    calls.push(call.clone());
                    call
                };
                script(call).await
            }
        });
        let handshake = handshakes(stream);
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            // A connection that a script cuts, or that nobody trusts, ends in an error.
            if let Ok(stream) = handshake.await {
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}
