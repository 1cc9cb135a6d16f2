//! Errors as `application/problem+json`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use platbook_protocol::problem::{Code, Problem};
use serde_json::{Map, Value};

use crate::error::Failure;

/// An error answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    problem: Problem,
    retry_after_ms: Option<u32>,
    /// Further members of the document.
    members: Map<String, Value>,
}

impl ApiError {
    /// An error with its code and what happened this time.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> ApiError {
        let problem = Problem::new(code, detail);
        ApiError { problem, retry_after_ms: None, members: Map::new() }
    }

    /// Its code.
    pub(crate) fn code(&self) -> Code {
        self.problem.code
    }

    /// The sentence for people.
    pub(crate) fn detail(&self) -> &str {
        &self.problem.detail
    }

    /// Adds members to the document.
    pub(crate) fn with_members(mut self, members: Map<String, Value>) -> ApiError {
        self.members = members;
        self
    }

    /// Tells the client when to come again.
    pub(crate) fn with_retry_after_ms(mut self, retry_after_ms: u32) -> ApiError {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        let detail = failure.to_string();
        match failure {
            Failure::Overloaded { retry_after_ms, .. } => {
                ApiError::new(Code::Overloaded, detail).with_retry_after_ms(retry_after_ms)
            }
            Failure::DiskFull { .. } => ApiError::new(Code::DiskFull, detail),
            Failure::Unavailable { .. } => ApiError::new(Code::ShardUnavailable, detail),
            Failure::Unknown { .. } => ApiError::new(Code::OutcomeUnknown, detail),
            Failure::Refused { .. } => ApiError::new(Code::Internal, detail),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.problem.code;
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut members = self.members;
        members.insert("type".into(), "about:blank".into());
        members.insert("title".into(), code.title().into());
        members.insert("status".into(), code.status().into());
        members.insert("code".into(), code.as_str().into());
        members.insert("detail".into(), self.problem.detail.into());
        let body = Value::Object(members).to_string();
        let media_type = HeaderValue::from_static(Problem::MEDIA_TYPE);
        let mut response = (status, [(header::CONTENT_TYPE, media_type)], body).into_response();
        if let Some(ms) = self.retry_after_ms {
            let seconds = u64::from(ms).div_ceil(1000).max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
