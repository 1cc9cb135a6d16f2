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
    fn names(self) -> (String, String, u16) {
        // Some old codes bear the name of the service, in one protocol or in both.
        let long = |name: &str| (sqs(name), format!("AWS.SimpleQueueService.{name}"), 400);
        let short = |name: &str| (sqs(name), name.to_string(), 400);
        let general = |shape: &str, name: &str, status| {
            (format!("com.amazon.coral.{shape}"), name.to_string(), status)
        };
        match self {
            Code::QueueDoesNotExist => {
                let (_, query, status) = long("NonExistentQueue");
                (sqs("QueueDoesNotExist"), query, status)
            }
            Code::QueueNameExists => (sqs("QueueNameExists"), "QueueAlreadyExists".into(), 400),
            Code::BatchRequestTooLong => long("BatchRequestTooLong"),
            Code::TooManyEntries => long("TooManyEntriesInBatchRequest"),
            Code::EmptyBatch => long("EmptyBatchRequest"),
            Code::EntryIdsNotDistinct => long("BatchEntryIdsNotDistinct"),
            Code::InvalidEntryId => long("InvalidBatchEntryId"),
            Code::MessageNotInflight => long("MessageNotInflight"),
            Code::UnsupportedOperation => long("UnsupportedOperation"),
            Code::InvalidMessageContents => short("InvalidMessageContents"),
            Code::ReceiptHandleIsInvalid => short("ReceiptHandleIsInvalid"),
            Code::OverLimit => short("OverLimit"),
            Code::InvalidAttributeName => short("InvalidAttributeName"),
            Code::InvalidAttributeValue => short("InvalidAttributeValue"),
            Code::InvalidParameterValue => {
                general("service#InvalidParameterValueException", "InvalidParameterValue", 400)
            }
            Code::MissingParameter => {
                general("service#MissingRequiredParameterException", "MissingParameter", 400)
            }
            Code::InvalidAction => {
                general("service#UnknownOperationException", "InvalidAction", 400)
            }
            Code::Malformed => general("service#SerializationException", "MalformedInput", 400),
            Code::Unavailable => {
                general("availability#ServiceUnavailableException", "ServiceUnavailable", 503)
            }
            Code::Internal => general("service#InternalFailure", "InternalFailure", 500),
        }
    }
}

fn sqs(name: &str) -> String {
    format!("com.amazonaws.sqs#{name}")
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
