//! Health, metrics, version: what the process tells about itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use platbook_protocol::codec::PROTOCOL_VERSION;
use platbook_protocol::problem::Code;
use serde_json::json;

use super::problem::ApiError;
use crate::app::App;

/// `GET /healthz`: the process lives.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: requests can be served.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.is_ready() {
        true => "ready\n".into_response(),
        false => ApiError::new(Code::NotReady, "no map yet, or draining").into_response(),
    }
}

/// `GET /metrics`: the Prometheus text.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let media_type = "text/plain; version=0.0.4";
    ([(header::CONTENT_TYPE, media_type)], app.metrics.render()).into_response()
}

/// `GET /v1/version`: build and protocol.
pub(crate) async fn version() -> axum::Json<serde_json::Value> {
    axum::Json(json!({
        "name": "platbook",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL_VERSION,
    }))
}
