//! Errors as SQS words them in its JSON protocol.

use serde_json::json;

use super::store::StoreError;

/// What went wrong, by the name that clients match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    QueueDoesNotExist,
    QueueNameExists,
    InvalidMessageContents,
    BatchRequestTooLong,
    TooManyEntries,
    EmptyBatch,
    EntryIdsNotDistinct,
    InvalidEntryId,
    ReceiptHandleIsInvalid,
    MessageNotInflight,
    OverLimit,
    InvalidAttributeName,
    InvalidAttributeValue,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
    InvalidAction,
    Malformed,
    Unavailable,
    Internal,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceError {
    pub(super) code: Code,
    pub(super) message: String,
}

impl ServiceError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> ServiceError {
        ServiceError { code, message: message.into() }
    }

    pub(super) fn invalid(reason: impl std::fmt::Display) -> ServiceError {
        let message = format!("One or more parameters are invalid. Reason: {reason}");
        ServiceError::new(Code::InvalidParameterValue, message)
    }

    /// HTTP status, the header `x-amzn-query-error`, and the body.
    pub(super) fn answer(&self) -> (u16, String, Vec<u8>) {
        let (shape, query, status) = self.code.names();
        let fault = if status < 500 { "Sender" } else { "Receiver" };
        let body = json!({ "__type": shape, "message": self.message });
        (status, format!("{query};{fault}"), body.to_string().into_bytes())
    }

    /// The entry of `Failed[]` in a batch answer.
    pub(super) fn failed_entry(&self, id: &str) -> serde_json::Value {
        let (_, query, status) = self.code.names();
        json!({ "Id": id, "SenderFault": status < 500, "Code": query, "Message": self.message })
    }
}

impl Code {
    /// Type in the JSON protocol, code in the query protocol, HTTP status.
    #[rustfmt::skip]
    fn names(self) -> (&'static str, &'static str, u16) {
        match self {
            Code::QueueDoesNotExist =>
                ("com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400),
            Code::QueueNameExists =>
                ("com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists", 400),
            Code::InvalidMessageContents =>
                ("com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents", 400),
            Code::BatchRequestTooLong =>
                ("com.amazonaws.sqs#BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400),
            Code::TooManyEntries =>
                ("com.amazonaws.sqs#TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400),
            Code::EmptyBatch =>
                ("com.amazonaws.sqs#EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400),
            Code::EntryIdsNotDistinct =>
                ("com.amazonaws.sqs#BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400),
            Code::InvalidEntryId =>
                ("com.amazonaws.sqs#InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400),
            Code::ReceiptHandleIsInvalid =>
                ("com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 400),
            Code::MessageNotInflight =>
                ("com.amazonaws.sqs#MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400),
            Code::OverLimit =>
                ("com.amazonaws.sqs#OverLimit", "OverLimit", 400),
            Code::InvalidAttributeName =>
                ("com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName", 400),
            Code::InvalidAttributeValue =>
                ("com.amazonaws.sqs#InvalidAttributeValue", "InvalidAttributeValue", 400),
            Code::InvalidParameterValue =>
                ("com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue", 400),
            Code::MissingParameter =>
                ("com.amazon.coral.service#MissingRequiredParameterException", "MissingParameter", 400),
            Code::UnsupportedOperation =>
                ("com.amazonaws.sqs#UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400),
            Code::InvalidAction =>
                ("com.amazon.coral.service#UnknownOperationException", "InvalidAction", 400),
            Code::Malformed =>
                ("com.amazon.coral.service#SerializationException", "MalformedInput", 400),
            Code::Unavailable =>
                ("com.amazon.coral.availability#ServiceUnavailableException", "ServiceUnavailable", 503),
            Code::Internal =>
                ("com.amazon.coral.service#InternalFailure", "InternalFailure", 500),
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> ServiceError {
        let code = if error.retryable() { Code::Unavailable } else { Code::Internal };
        ServiceError::new(code, error.to_string())
    }
}

impl From<serde_json::Error> for ServiceError {
    fn from(error: serde_json::Error) -> ServiceError {
        ServiceError::new(Code::Malformed, error.to_string())
    }
}
