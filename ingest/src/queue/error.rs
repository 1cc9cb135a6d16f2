//! Why a call to the queue has no answer.

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Why a call to the queue has no answer. Every call may be repeated: the queue delivers at least
/// once anyway.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The call failed.
    #[error("{action} failed ({code}): {reason}")]
    Call {
        /// The action.
        action: &'static str,
        /// The queue's code; `timeout` or `connection` where it did not answer.
        code: String,
        /// The whole story.
        reason: String,
        /// Whether repeating it may help.
        is_transient: bool,
    },
    /// The answer makes no sense.
    #[error("{action} was answered with {reason}")]
    BadAnswer {
        /// The action.
        action: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Codes of refusals that pass.
const TRANSIENT_CODES: [&str; 5] = [
    "RequestThrottled",
    "ThrottlingException",
    "AWS.SimpleQueueService.OverLimit",
    "OverLimit",
    "RequestTimeTooSkewed",
];

impl QueueError {
    /// Whether repeating the call may help.
    pub fn retryable(&self) -> bool {
        match self {
            QueueError::Call { is_transient, .. } => *is_transient,
            QueueError::BadAnswer { .. } => true,
        }
    }

    pub(super) fn call<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> QueueError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (code, is_transient) = match error {
            SdkError::ServiceError(answer) => {
                let code = error.code().unwrap_or("no code");
                let is_server_side = answer.raw().status().is_server_error();
                (code.to_string(), is_server_side || TRANSIENT_CODES.contains(&code))
            }
            SdkError::TimeoutError(_) => ("timeout".to_string(), true),
            SdkError::DispatchFailure(failure) => {
                // Without credentials no request is ever made.
                let is_ours = failure.is_user();
                ("connection".to_string(), !is_ours)
            }
            SdkError::ResponseError(_) => ("unreadable answer".to_string(), true),
            SdkError::ConstructionFailure(_) => ("bad request".to_string(), false),
            // The SDK may grow more kinds; none of them says that repeating is wrong.
            _ => ("unknown".to_string(), true),
        };
        QueueError::Call {
            action,
            code,
            reason: DisplayErrorContext(error).to_string(),
            is_transient,
        }
    }

    pub(super) fn entry(error: &aws_sdk_sqs::error::BuildError) -> QueueError {
        let reason = error.to_string();
        let code = "bad entry".to_string();
        QueueError::Call { action: "a batch", code, reason, is_transient: false }
    }

    pub(super) fn bad_answer(action: &'static str, reason: &str) -> QueueError {
        QueueError::BadAnswer { action, reason: reason.to_string() }
    }
}
