//! Writes of one listing: `PUT` and `DELETE /v1/listings/{id}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use platbook_protocol::Revision;
use platbook_protocol::coordination::Verdict;
use platbook_protocol::listing::Prepared;
use platbook_protocol::problem::{Code, Outcome};
use serde_json::{Map, json};
use tokio::time::Instant;

use super::body::BodyReader;
use super::params::{self, Segment};
use super::problem::ApiError;
use crate::app::App;
use crate::write::edge::Times;
use crate::write::tally::too_old;
use crate::write::wave::deliver;
use crate::write::{Delivery, Ending};

/// Header with the time at which the client first tried, in milliseconds.
pub(crate) const SENT: &str = "platbook-sent";
/// Header with the place in the operator's sequence, where that is the order.
pub(crate) const SEQUENCE: &str = "platbook-sequence";

/// `PUT /v1/listings/{id}`.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let id = params::listing_id(&id)?;
    let if_match = params::if_match(&headers)?;
    app.edge.check_condition(if_match)?;
    let clocks = app.edge.clocks(times(&app, &headers)?)?;
    let reader = BodyReader::try_new(&app, &headers, body, app.limits.listing_bytes_max, deadline)
        .map_err(as_listing)?;
    let (bytes, room) = reader.whole().await.map_err(as_listing)?;
    let prepared = app.edge.listing(id, bytes, clocks).await?;
    drop(room);
    conclude(&app, Delivery { prepared, if_match, hold: true }, deadline).await
}

/// `DELETE /v1/listings/{id}`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let id = params::listing_id(&id)?;
    let if_match = params::if_match(&headers)?;
    app.edge.check_condition(if_match)?;
    let prepared = Prepared::delete(id, app.edge.clocks(times(&app, &headers)?)?);
    conclude(&app, Delivery { prepared, if_match, hold: true }, deadline).await
}

/// `Platbook-Sent` or the router's clock, and `Platbook-Sequence`.
pub(crate) fn times(app: &App, headers: &HeaderMap) -> Result<Times, ApiError> {
    let now = app.clock.now();
    let sent = params::number(headers, SENT)?.map_or(now, platbook_protocol::TimeMs);
    let sequence = params::number(headers, SEQUENCE)?;
    Ok(Times { sent, sequence, now })
}

/// Carries messages through in a task of their own: a client that hangs up in the middle leaves
/// nothing half done that would not be half done anyway.
pub(crate) async fn carry(
    app: &Arc<App>,
    deliveries: Vec<Delivery>,
    deadline: Instant,
) -> Result<Vec<Ending>, ApiError> {
    let work = deliver(app.shards.clone(), app.source(), deliveries, deadline);
    let ended = tokio::spawn(work).await;
    // A task that was lost may have sent anything.
    ended.map_err(|error| ApiError::new(Code::OutcomeUnknown, error.to_string()))
}

/// Carries one message through and answers how it ended.
pub(crate) async fn conclude(
    app: &Arc<App>,
    delivery: Delivery,
    deadline: Instant,
) -> Result<Response, ApiError> {
    let mut endings = carry(app, vec![delivery], deadline).await?;
    let ending = endings.pop();
    let verdict = match ending {
        Some(Ending::Verdict(verdict)) => verdict,
        Some(Ending::Failed(failure)) => return Err(failure.into()),
        None => return Err(ApiError::new(Code::OutcomeUnknown, "the message was lost")),
    };
    match verdict {
        Verdict::Acknowledge { label, revision } => {
            let outcome = Outcome::from(label).as_str();
            let body = json!({"outcome": outcome, "revision": revision.to_string()});
            let mut response = axum::Json(body).into_response();
            response.headers_mut().insert(header::ETAG, etag(revision));
            Ok(response)
        }
        Verdict::Busy => {
            let detail = "it is recorded, but a newer write of the listing is half done";
            Err(ApiError::new(Code::OutcomeUnknown, detail))
        }
        Verdict::TooOld => Err(too_old()),
        Verdict::PreconditionFailed { revision } => {
            let detail = format!("the current revision is {revision}");
            let mut members = Map::new();
            members.insert("revision".into(), revision.to_string().into());
            Err(ApiError::new(Code::PreconditionFailed, detail).with_members(members))
        }
    }
}

/// The entity tag of a listing.
pub(crate) fn etag(revision: Revision) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits stand in any header")
}

/// A body that holds nothing but a listing is too large as a listing.
fn as_listing(error: ApiError) -> ApiError {
    match error.code() == Code::BodyTooLarge {
        true => ApiError::new(Code::ListingTooLarge, error.detail()),
        false => error,
    }
}
