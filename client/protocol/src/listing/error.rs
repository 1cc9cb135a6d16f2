//! Why a message or listing is not taken, each with its stable code.

use super::minify::JsonError;
use super::summary::SummaryError;
use crate::frame::FrameError;
use crate::id::BadListingId;
use crate::problem::Code;

/// Why a message or listing is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Not JSON as it must be.
    #[error("message is {0}")]
    Json(#[from] JsonError),
    /// A listing or the message around it is too large.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// `listing` or `message`.
        what: &'static str,
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nothing usable where the id must stand.
    #[error("field {field} with the listing id is missing")]
    NoId {
        /// JSON pointer of the field.
        field: String,
    },
    /// The id is none.
    #[error("field {field}: {source}")]
    BadId {
        /// JSON pointer of the field.
        field: String,
        /// What is wrong with it.
        source: BadListingId,
    },
    /// The body is about another listing than the request.
    #[error("field {field} says {found:?}, the request is about {expected:?}")]
    IdMismatch {
        /// JSON pointer of the field.
        field: String,
        /// The id of the request.
        expected: String,
        /// The id in the body.
        found: String,
    },
    /// An upsert without a listing.
    #[error("message with op \"upsert\" has no field /listing")]
    NoListing,
    /// A field of the wrong type.
    #[error("field {field} is {found}, {expected} was expected")]
    BadField {
        /// JSON pointer of the field.
        field: String,
        /// The value found, cut after some characters.
        found: String,
        /// The type that it should have.
        expected: &'static str,
    },
    /// An operation that does not exist.
    #[error("field /op is {found:?}, \"upsert\" or \"delete\" was expected")]
    UnknownOp {
        /// What was asked for, cut after some characters.
        found: String,
    },
    /// A message without the sequence that orders it.
    #[error("message has no sequence, and the order is configured to be a sequence")]
    NoSequence,
    /// The body could not be compressed or its frame is none.
    #[error("body of the listing: {0}")]
    Frame(#[from] FrameError),
    /// The summary that came along is none.
    #[error("summary of the listing: {0}")]
    Summary(#[from] SummaryError),
}

impl ListingError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            ListingError::Json(e) => e.code(),
            ListingError::TooLarge { .. } => Code::ListingTooLarge,
            ListingError::NoId { .. } => Code::NoId,
            ListingError::BadId { source, .. } => match source {
                BadListingId::TooLong { .. } => Code::IdTooLong,
                BadListingId::Empty | BadListingId::Control { .. } => Code::BadId,
            },
            ListingError::IdMismatch { .. } => Code::IdMismatch,
            ListingError::NoListing => Code::NoListing,
            ListingError::BadField { .. } => Code::BadField,
            ListingError::UnknownOp { .. } => Code::UnknownOp,
            ListingError::NoSequence => Code::NoSequence,
            ListingError::Frame(e) => match e {
                FrameError::TooLarge { .. } => Code::ListingTooLarge,
                FrameError::Zstd { .. } | FrameError::DictionaryId => Code::Internal,
                FrameError::Truncated { .. }
                | FrameError::Format { .. }
                | FrameError::MissingDictionary { .. }
                | FrameError::Damaged { .. } => Code::BadField,
            },
            ListingError::Summary(_) => Code::BadField,
        }
    }

    /// The sentence for people: names field, limit and value or size.
    pub fn detail(&self) -> String {
        self.to_string()
    }
}
