//! One attempt: what came back, sorted into an answer, a failure without effect, and a failure
//! that may have had one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::call::Call;
use super::connect::{Connections, HttpClient};
use super::credentials::Credentials;
use super::endpoints::Endpoints;
use super::retry::Failure;
use crate::answer::BulkAnswer;
use crate::config;
use crate::error::{ArgumentError, AttemptError, Error, Source, source};
use crate::problem::Problem;

/// A collected answer; its status is below 400.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Makes attempts; shared by all clones of a client.
#[derive(Debug)]
pub(crate) struct Attempts {
    http: HttpClient,
    connections: Connections,
    endpoints: Arc<Endpoints>,
    credentials: Arc<Credentials>,
}

impl Attempts {
    pub(crate) fn new(
        connections: Connections,
        endpoints: Endpoints,
        credentials: Credentials,
    ) -> Attempts {
        let (endpoints, credentials) = (Arc::new(endpoints), Arc::new(credentials));
        Attempts { http: connections.pool(), connections, endpoints, credentials }
    }

    /// The same over connections of their own. A connection's window is shared by all that it
    /// carries: a few streams that nobody reads would hold up every other call.
    pub(crate) fn apart(&self) -> Attempts {
        let Attempts { connections, endpoints, credentials, .. } = self;
        let (endpoints, credentials) = (endpoints.clone(), credentials.clone());
        let (http, connections) = (connections.pool(), connections.clone());
        Attempts { http, connections, endpoints, credentials }
    }

    /// The router in use.
    pub(crate) fn endpoint(&self) -> &str {
        self.endpoints.current()
    }

    /// One attempt, and the whole of its answer.
    pub(crate) async fn whole(&self, call: &Call, until: Instant) -> Result<Answer, Failure> {
        let endpoint = self.endpoints.current().to_string();
        let (parts, body) = self.send(&endpoint, call, until).await?.into_parts();
        match timeout_at(until, collect(body, config::ANSWER_BYTES_MAX)).await {
            Ok(Ok(body)) => Ok(Answer { headers: parts.headers, body }),
            Ok(Err(source)) => Err(Failure::in_doubt(AttemptError::Broken { endpoint, source })),
            Err(_) => Err(Failure::in_doubt(AttemptError::Late { endpoint })),
        }
    }

    /// One attempt, until its answer begins.
    pub(crate) async fn open(
        &self,
        call: &Call,
        until: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let endpoint = self.endpoints.current().to_string();
        self.send(&endpoint, call, until).await
    }

    async fn send(
        &self,
        endpoint: &str,
        call: &Call,
        until: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let token = self.credentials.header().await.map_err(Failure::again)?;
        let request = request(endpoint, call, token.clone(), until)?;
        let sent = timeout_at(until, self.http.request(request)).await;
        let endpoint = endpoint.to_string();
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                self.endpoints.leave(&endpoint);
                let source = source(error);
                return Err(Failure::again(AttemptError::Connect { endpoint, source }));
            }
            Ok(Err(error)) => {
                self.endpoints.leave(&endpoint);
                let source = source(error);
                return Err(Failure::in_doubt(AttemptError::Broken { endpoint, source }));
            }
            Err(_) => return Err(Failure::in_doubt(AttemptError::Late { endpoint })),
        };
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(response);
        }
        let failure = refusal(response, until).await;
        if status == StatusCode::UNAUTHORIZED && self.credentials.is_renewed(token.as_ref()).await {
            if let Failure::Final { error: Error::Refused(problem), .. } = failure {
                return Err(Failure::again(AttemptError::Answered(problem)));
            }
            return Err(failure);
        }
        if status.is_server_error() {
            // Another router may be better off: this one may be draining, or cut off.
            self.endpoints.leave(&endpoint);
        }
        Err(failure)
    }
}

fn request(
    endpoint: &str,
    call: &Call,
    token: Option<HeaderValue>,
    until: Instant,
) -> Result<Request<Full<Bytes>>, Failure> {
    let left = until.saturating_duration_since(Instant::now() + config::ANSWER_GRACE);
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(format!("{endpoint}{}", call.path))
        .header("x-deadline-ms", left.as_millis().max(1).to_string())
        .body(Full::new(call.body.clone()))
        .map_err(|e| {
            let (url, reason) = (format!("{endpoint}{}", call.path), e.to_string());
            let error = Error::Argument(ArgumentError::Url { url, reason });
            Failure::Final { error, maybe_done: false }
        })?;
    request.headers_mut().extend(call.headers.clone());
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token);
    }
    Ok(request)
}

/// Sorts an answer of 400 and above.
async fn refusal(response: Response<Incoming>, until: Instant) -> Failure {
    let (parts, body) = response.into_parts();
    let read = timeout_at(until, collect(body, config::PROBLEM_BYTES_MAX)).await;
    let text = read.ok().and_then(Result::ok).unwrap_or_default();
    sort(parts.status, &parts.headers, &text)
}

fn sort(status: StatusCode, headers: &HeaderMap, text: &[u8]) -> Failure {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut problem: Problem = serde_json::from_slice(text).unwrap_or_default();
    problem.status = status.as_u16();
    problem.request_id = header("x-request-id").map(ToString::to_string);
    let after = header(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
    let after = after.map(Duration::from_secs);
    // A request of many lines says what it had done before it was refused.
    let done = serde_json::from_slice(text).map_or(0, |answer: BulkAnswer| answer.done());
    let (is_final, maybe_done) = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => (false, done > 0),
        StatusCode::INSUFFICIENT_STORAGE => (true, done > 0),
        // Of a body that came in part, that part may have been carried out.
        StatusCode::REQUEST_TIMEOUT => (false, true),
        status if status.is_server_error() => (false, true),
        _ => (true, done > 0),
    };
    let problem = Box::new(problem);
    match is_final {
        true => Failure::Final { error: Error::Refused(problem), maybe_done },
        false => Failure::Again { last: AttemptError::Answered(problem), maybe_done, after },
    }
}

async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes, Source> {
    let collected = Limited::new(body, bytes_max).collect().await.map_err(source)?;
    Ok(collected.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, text: &str) -> (bool, bool) {
        let status = StatusCode::from_u16(status).expect("a status");
        match sort(status, &HeaderMap::new(), text.as_bytes()) {
            Failure::Final { maybe_done, .. } => (true, maybe_done),
            Failure::Again { maybe_done, .. } => (false, maybe_done),
        }
    }

    #[test]
    fn only_what_says_that_nothing_happened_is_without_effect() {
        for (status, is_final, maybe_done) in [
            (400, true, false),
            (401, true, false),
            (408, false, true),
            (412, true, false),
            (429, false, false),
            (500, false, true),
            (502, false, true),
            (503, false, false),
            (504, false, true),
            (507, true, false),
        ] {
            assert_eq!(sorted(status, ""), (is_final, maybe_done), "{status}");
        }
    }

    #[test]
    fn a_refusal_behind_lines_that_were_done_is_in_doubt() {
        assert_eq!(sorted(413, r#"{"code":"body_too_large","applied":3}"#), (true, true));
        assert_eq!(sorted(413, r#"{"code":"body_too_large","applied":0}"#), (true, false));
        assert_eq!(sorted(503, r#"{"code":"shard_unavailable","stale":1}"#), (false, true));
    }
}
