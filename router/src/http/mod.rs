//! The HTTP API, as `interface.md` has it.
//!
//! 1. [`problem`]: errors as `application/problem+json`; [`params`]: what requests carry.
//! 2. [`observe`]: request ids, metrics and admission, around every request.
//! 3. [`body`]: request bodies; [`writes`]: writes of one listing; [`bulk`]: of many.
//! 4. [`zips`]: reads of one ZIP; [`export`]: of a shard; [`listings`]: by id; [`rendering`]: their
//!    bodies.
//! 5. [`changes`]: the change stream.
//! 6. [`lists`]: quarantine and suspects; [`cluster`]: nodes, shards, leaders.
//! 7. [`process`]: health, metrics, version.

pub(crate) mod body;
pub(crate) mod bulk;
pub(crate) mod changes;
pub(crate) mod cluster;
pub(crate) mod export;
pub(crate) mod listings;
pub(crate) mod lists;
pub(crate) mod observe;
pub(crate) mod params;
pub(crate) mod problem;
pub(crate) mod process;
pub(crate) mod rendering;
pub(crate) mod writes;
pub(crate) mod zips;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use platbook_protocol::problem::Code;

use crate::app::App;
use problem::ApiError;

/// All routes of the router.
pub(crate) fn routes(app: Arc<App>) -> Router {
    // What tells about the process is answered also when it is overloaded.
    let process = Router::new()
        .route("/healthz", get(process::health))
        .route("/readyz", get(process::ready))
        .route("/metrics", get(process::metrics))
        .route("/v1/version", get(process::version));
    let api = Router::new()
        .route("/v1/zips/{zip}/listings", get(zips::get))
        .route("/v1/listings", get(listings::compare).post(bulk::post))
        .route("/v1/listings/{id}", get(listings::get).put(writes::put).delete(writes::delete))
        .route("/v1/export", get(export::get))
        .route("/v1/quarantine", get(lists::quarantine).post(lists::put))
        .route(
            "/v1/quarantine/{message_id}",
            get(lists::quarantined).delete(lists::drop_quarantined),
        )
        .route("/v1/quarantine/{message_id}/retry", post(lists::retry))
        .route("/v1/suspects", get(lists::suspects))
        .route("/v1/suspects/{id}", delete(lists::drop_suspect))
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/cluster/transfer-leader", post(cluster::transfer_leader))
        .route("/v1/cluster/replace-replica", post(cluster::replace_replica));
    // Readers of changes stay: they have places of their own.
    let changes = Router::new().route("/v1/changes", get(changes::get).post(changes::post));
    api.route_layer(from_fn_with_state(app.clone(), observe::admit))
        .merge(changes)
        .merge(process)
        .fallback(|| async { ApiError::new(Code::NotFound, "no such path") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(Code::MethodNotAllowed, "the path exists, the method does not")
        })
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}
