//! Connections, attempts, and the one retry loop.
//!
//! What an attempt met is sorted into three: an answer, a failure without effect, or a failure
//! that may have had one. The loop repeats the last two until the deadline; a write that once may
//! have had an effect can then only end as done or unknown.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{self, ClientConfig};
use crate::error::{Error, Problem};

/// Whether an attempt without answer may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// Safe to repeat: the call carries what makes it idempotent.
    Write,
}

/// One request, kept whole so that it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) method: Method,
    /// Path and query, from `/v1/...`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A collected answer; its status is below 400, or 404.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    /// Scheme, authority and path prefix without a slash at the end.
    base: String,
    deadline: Duration,
}

/// What an attempt met instead of an answer.
enum Failure {
    Final(Error),
    Again { reason: String, problem: Option<Problem>, maybe_done: bool, after: Option<Duration> },
}

impl Transport {
    pub(crate) fn try_new(config: &ClientConfig) -> Result<Transport, Error> {
        let base = config.router.trim_end_matches('/').to_string();
        let bad = |reason: String| Error::BadUrl { url: config.router.clone(), reason };
        let uri: Uri = base.parse().map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("it must begin with http://".to_string()));
        }
        if uri.query().is_some() {
            return Err(bad("it must not have a query".to_string()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config::CONNECT_TIMEOUT));
        let http = HyperClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(!config.http1)
            .http2_initial_stream_window_size(config::STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(config::CONNECTION_WINDOW_BYTES)
            // A router that vanished without a word is noticed before the deadline.
            .http2_keep_alive_interval(Duration::from_secs(5))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            .build(connector);
        let deadline = Duration::from_millis(config.deadline_ms);
        Ok(Transport { http, base, deadline })
    }

    pub(crate) fn with_deadline(mut self, deadline: Duration) -> Transport {
        self.deadline = deadline;
        self
    }

    /// Sends a call until it is answered, and collects the answer.
    pub(crate) async fn call(&self, call: &Call) -> Result<Answer, Error> {
        let mut retry = Retry::new(call.kind, self.deadline);
        loop {
            match self.attempt_whole(call, retry.until).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => retry.on_failure(failure).await?,
            }
        }
    }

    /// Sends a call until its answer begins; the body is the caller's.
    pub(crate) async fn open(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        let mut retry = Retry::new(call.kind, self.deadline);
        loop {
            match self.attempt(call, retry.until).await {
                Ok(response) => return Ok(response),
                Err(failure) => retry.on_failure(failure).await?,
            }
        }
    }

    async fn attempt_whole(&self, call: &Call, until: Instant) -> Result<Answer, Failure> {
        let (parts, body) = self.attempt(call, until).await?.into_parts();
        let reason = match timeout_at(until, collect(body, config::ANSWER_BYTES_MAX)).await {
            Ok(Ok(body)) => {
                return Ok(Answer { status: parts.status, headers: parts.headers, body });
            }
            Ok(Err(reason)) => reason,
            Err(_) => "the answer did not end before the deadline".to_string(),
        };
        Err(Failure::Again { reason, problem: None, maybe_done: true, after: None })
    }

    async fn attempt(&self, call: &Call, until: Instant) -> Result<Response<Incoming>, Failure> {
        let request = self.request(call, until)?;
        let response = match timeout_at(until, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let maybe_done = !error.is_connect();
                let reason = chain(&error);
                return Err(Failure::Again { reason, problem: None, maybe_done, after: None });
            }
            Err(_) => {
                let reason = "no answer before the deadline".to_string();
                return Err(Failure::Again {
                    reason,
                    problem: None,
                    maybe_done: true,
                    after: None,
                });
            }
        };
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(refusal(response, until).await);
        }
        Ok(response)
    }

    fn request(&self, call: &Call, until: Instant) -> Result<Request<Full<Bytes>>, Failure> {
        let left = until.saturating_duration_since(Instant::now() + config::ANSWER_GRACE);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path))
            .header("x-deadline-ms", left.as_millis().max(1).to_string())
            .body(Full::new(call.body.clone()))
            .map_err(|e| {
                Failure::Final(Error::BadUrl { url: self.base.clone(), reason: e.to_string() })
            })?;
        request.headers_mut().extend(call.headers.clone());
        Ok(request)
    }
}

/// The attempts of one call.
struct Retry {
    kind: Kind,
    deadline_ms: u64,
    deadline: Instant,
    /// When an attempt is given up.
    until: Instant,
    attempts: u32,
    backoff: Duration,
    /// Some attempt of a write may have been carried out.
    maybe_done: bool,
}

impl Retry {
    fn new(kind: Kind, deadline: Duration) -> Retry {
        let deadline_ms = deadline.as_millis() as u64;
        let deadline = Instant::now() + deadline;
        let (until, backoff) = (deadline + config::ANSWER_GRACE, config::BACKOFF_MIN);
        Retry { kind, deadline_ms, deadline, until, attempts: 0, backoff, maybe_done: false }
    }

    /// Waits until the next attempt, or tells how the call ended.
    async fn on_failure(&mut self, failure: Failure) -> Result<(), Error> {
        self.attempts += 1;
        let Retry { attempts, deadline_ms, .. } = *self;
        let (reason, problem, after) = match failure {
            // After an attempt that may have been done, a refusal says nothing about it.
            Failure::Final(Error::Refused(problem)) if self.maybe_done => {
                let reason = format!("refused when sent again: {problem}");
                return Err(Error::Unknown { attempts, reason, problem: Some(problem) });
            }
            Failure::Final(error) => return Err(error),
            Failure::Again { reason, problem, maybe_done, after } => {
                self.maybe_done |= maybe_done && self.kind == Kind::Write;
                (reason, problem, after)
            }
        };
        let pause = after.unwrap_or(self.backoff).min(config::BACKOFF_MAX);
        let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if Instant::now() + pause >= self.deadline {
            return Err(match self.maybe_done {
                true => Error::Unknown { attempts, reason, problem },
                false => Error::Unavailable { deadline_ms, attempts, reason, problem },
            });
        }
        sleep(pause).await;
        self.backoff = (self.backoff * 2).min(config::BACKOFF_MAX);
        Ok(())
    }
}

/// Sorts an answer of 400 and above.
async fn refusal(response: Response<Incoming>, until: Instant) -> Failure {
    let (parts, body) = response.into_parts();
    let read = timeout_at(until, collect(body, config::PROBLEM_BYTES_MAX)).await;
    let text = read.ok().and_then(Result::ok).unwrap_or_default();
    let mut problem: Problem = serde_json::from_slice(&text).unwrap_or_default();
    problem.status = parts.status.as_u16();
    let seconds = parts.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let after = seconds.map(Duration::from_secs);
    let maybe_done = match parts.status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => false,
        StatusCode::INSUFFICIENT_STORAGE => return Failure::Final(Error::Refused(problem)),
        status if status.is_server_error() => true,
        _ => return Failure::Final(Error::Refused(problem)),
    };
    Failure::Again { reason: problem.to_string(), problem: Some(problem), maybe_done, after }
}

async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes, String> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(chain(error.as_ref())),
    }
}

/// An error with all its sources: hyper's own message is only "client error".
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |e| e.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Escapes one path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn an_id_with_slashes_stays_one_path_segment() {
        assert_eq!(escape("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
