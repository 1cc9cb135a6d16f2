//! Around every request: its id, its metrics, and whether it is let in at all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method};
use http_body::{Frame, SizeHint};
use platbook_protocol::problem::Code;
use rand::RngExt;
use tokio::time::Instant;
use tracing::debug;

use super::problem::ApiError;
use crate::app::App;
use crate::metrics::Route;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// What a client is told to wait when all places are taken.
const RETRY_AFTER_MS: u32 = 1_000;

/// Gives the request an id, or keeps the client's, and counts it.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers().get(&REQUEST_ID));
    let route = route_of(&request);
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let took = started.elapsed();
    app.metrics.on_response(route, status, took);
    debug!(id = ?id, %method, ?route, status, ?took, "request");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Lets the request in if there is a place, which it keeps until its response is sent.
pub(crate) async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(place) = app.requests.clone().try_acquire_owned() else {
        app.metrics.shed.add(1);
        let detail = format!("{} requests are in flight", app.limits.requests_max);
        return ApiError::new(Code::Overloaded, detail)
            .with_retry_after_ms(RETRY_AFTER_MS)
            .into_response();
    };
    let in_flight = InFlight::new(app);
    let response = next.run(request).await;
    response.map(|body| Body::new(Holding { body, _held: (place, in_flight) }))
}

fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let is_usable = |id: &&HeaderValue| {
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.to_str().is_ok()
    };
    match sent.filter(is_usable) {
        Some(id) => id.clone(),
        None => {
            let id = format!("{:016x}", rand::rng().random::<u64>());
            HeaderValue::from_str(&id).expect("hexadecimal digits stand in any header")
        }
    }
}

fn route_of(request: &Request) -> Route {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match (path, request.method()) {
        (Some("/v1/zips/{zip}/listings"), _) => Route::Zip,
        (Some("/v1/listings"), &Method::POST) => Route::Bulk,
        (Some("/v1/listings/{id}"), &Method::PUT | &Method::DELETE) => Route::Write,
        (Some("/v1/listings" | "/v1/listings/{id}"), _) => Route::Listing,
        (Some(_) | None, _) => Route::Other,
    }
}

/// Counts a request while it lives.
struct InFlight(Arc<App>);

impl InFlight {
    fn new(app: Arc<App>) -> InFlight {
        app.metrics.requests.add(1);
        InFlight(app)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.requests.add(-1);
    }
}

/// A body that holds something until it is sent or dropped.
struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
