//! Every stable problem code, in one list: what the router answers, what the quarantine keeps and
//! what the command line prints. A code is never renamed and never reused.

use std::fmt;

use crate::register::Label;

/// Whose business a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The queue message or listing itself: it goes to quarantine, sending it again never helps.
    Message,
    /// The request around it: its caller has to change it.
    Request,
    /// The request met a state in which it has no effect: its caller has to look.
    State,
    /// The service: nobody's message is wrong.
    Service,
}

macro_rules! codes {
    ($(
        $(#[$doc:meta])*
        $name:ident = $text:literal, $status:literal, $blame:ident, $title:literal;
    )*) => {
        /// A stable problem code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code as users see it, for ever.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// Whose business it is.
            pub const fn blame(self) -> Blame {
                match self { $(Code::$name => Blame::$blame,)* }
            }

            /// What is wrong, the same words for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// Not JSON per RFC 8259, or a text or number that common readers refuse.
    BadJson = "bad_json", 400, Message, "not valid JSON";
    /// Bytes that are no UTF-8.
    BadUtf8 = "bad_utf8", 400, Message, "not valid UTF-8";
    /// No listing id where it is configured to stand.
    NoId = "no_id", 400, Message, "no listing id";
    /// An id that is empty or holds control characters.
    BadId = "bad_id", 400, Message, "not a listing id";
    /// An id longer than 255 bytes.
    IdTooLong = "id_too_long", 400, Message, "listing id too long";
    /// The id in the path and the id in the body differ.
    IdMismatch = "id_mismatch", 400, Request, "two different listing ids";
    /// An upsert without a listing.
    NoListing = "no_listing", 400, Message, "no listing";
    /// A listing larger than 1 MiB.
    ListingTooLarge = "listing_too_large", 413, Message, "listing too large";
    /// JSON nested deeper than 128.
    TooDeep = "too_deep", 400, Message, "nested too deep";
    /// A field of the wrong type.
    BadField = "bad_field", 400, Message, "field of the wrong type";
    /// An `op` that is neither `upsert` nor `delete`.
    UnknownOp = "unknown_op", 400, Message, "unknown operation";
    /// No usable sequence where the order is a sequence.
    NoSequence = "no_sequence", 400, Message, "no sequence";
    /// A message about an unknown id, older than what is remembered.
    TooOld = "too_old", 409, Message, "message too old";
    /// The object that a message points to does not exist.
    PointerMissing = "pointer_missing", 422, Message, "pointed-to object is missing";
    /// A `sent` too far ahead of the router's clock.
    SentInFuture = "sent_in_future", 400, Request, "sent lies in the future";
    /// A ZIP that is not five digits, ZIP+4 or `unknown`.
    BadZip = "bad_zip", 400, Request, "not a ZIP";
    /// A query parameter that is unknown or has no usable value.
    BadQuery = "bad_query", 400, Request, "bad query parameter";
    /// A filter that nothing can pass.
    ImpossibleFilter = "impossible_filter", 400, Request, "impossible filter";
    /// A mode of following changes that there is not.
    UnknownMode = "unknown_mode", 400, Request, "unknown mode";
    /// A header without a usable value.
    BadHeader = "bad_header", 400, Request, "bad header";
    /// A paging cursor that this service did not give.
    BadCursor = "bad_cursor", 400, Request, "bad cursor";
    /// A request body larger than 64 MiB.
    BodyTooLarge = "body_too_large", 413, Request, "request body too large";
    /// More ids than one comparison takes.
    TooManyIds = "too_many_ids", 400, Request, "too many ids";
    /// A header block larger than 32 KiB.
    HeaderTooLarge = "header_too_large", 431, Request, "request header too large";
    /// A token that is not one, or was damaged.
    BadToken = "bad_token", 400, Request, "not a change-stream token";
    /// A token longer than the limit.
    TokenTooLong = "token_too_long", 400, Request, "token too long";
    /// A token of a format that this build does not read.
    TokenVersion = "token_version", 400, Request, "token of an unknown version";
    /// A token of another cluster.
    TokenCluster = "token_cluster", 400, Request, "token of another cluster";
    /// A token that does not cover what was asked.
    TokenScope = "token_scope", 400, Request, "token does not cover this request";
    /// A token from before history was broken off, for instance by a restore.
    TokenIncarnation = "token_incarnation", 410, State, "token of an earlier history";
    /// A token that points behind the last change there is.
    TokenFuture = "token_future", 400, Request, "token of changes that did not happen";
    /// A token that points before the changes that are still kept.
    TokenTooOld = "token_too_old", 410, State, "token too old";
    /// No or bad credentials.
    Unauthorized = "unauthorized", 401, Request, "not authenticated";
    /// Credentials that do not allow this.
    Forbidden = "forbidden", 403, Request, "not allowed";
    /// No such path.
    NotFound = "not_found", 404, Request, "no such resource";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, Request, "method not allowed";
    /// None of the formats in `Accept` is offered.
    NotAcceptable = "not_acceptable", 406, Request, "no acceptable format";
    /// A content type or encoding that is not read.
    UnsupportedMediaType = "unsupported_media_type", 415, Request, "unsupported media type";
    /// The request did not arrive in time.
    RequestTimeout = "request_timeout", 408, Request, "request did not arrive in time";
    /// No such listing.
    ListingNotFound = "listing_not_found", 404, State, "no such listing";
    /// `If-Match` names another revision than the current one.
    PreconditionFailed = "precondition_failed", 412, State, "precondition failed";
    /// Too much in flight.
    Overloaded = "overloaded", 429, Service, "overloaded";
    /// The process is starting or draining.
    NotReady = "not_ready", 503, Service, "not ready";
    /// A shard without quorum or without leader within the deadline: no effect.
    ShardUnavailable = "shard_unavailable", 503, Service, "shard unavailable";
    /// The deadline passed and the write may still happen.
    OutcomeUnknown = "outcome_unknown", 504, Service, "outcome unknown";
    /// The disks of a shard are read-only because nearly full.
    DiskFull = "disk_full", 507, Service, "disk full";
    /// The quarantine has reached its cap.
    QuarantineFull = "quarantine_full", 507, Service, "quarantine full";
    /// A defect of this program.
    Internal = "internal", 500, Service, "internal error";
}

impl Code {
    /// The code with this text.
    pub fn try_parse(text: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// Whether the same request may succeed later. All of these certainly had no effect.
    pub const fn retryable(self) -> bool {
        matches!(self, Code::Overloaded | Code::NotReady | Code::ShardUnavailable)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one message ended, in the words that are used everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The message moved the listing.
    Applied,
    /// Same body, newer `sent`: no new revision, no change.
    Unchanged,
    /// Seen before.
    Duplicate,
    /// Something newer is known.
    Stale,
    /// Recorded, but the two clocks disagree about it.
    Suspect,
    /// Not applied, for this reason.
    Rejected(Code),
}

impl Outcome {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Duplicate => "duplicate",
            Outcome::Stale => "stale",
            Outcome::Suspect => "suspect",
            Outcome::Rejected(_) => "rejected",
        }
    }
}

impl From<Label> for Outcome {
    fn from(label: Label) -> Outcome {
        match label {
            Label::Applied => Outcome::Applied,
            Label::Unchanged => Outcome::Unchanged,
            Label::Duplicate => Outcome::Duplicate,
            Label::Stale => Outcome::Stale,
            Label::Suspect => Outcome::Suspect,
        }
    }
}

/// One problem as it is answered: `application/problem+json` (RFC 9457) with our `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one.
    pub code: Code,
    /// What happened this time, a sentence for people.
    pub detail: String,
}

impl Problem {
    /// Media type of [`Problem::to_json`].
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// A problem with its sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into() }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.code.title(),
            "status": self.code.status(),
            "code": self.code.as_str(),
            "detail": self.detail,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_text_and_is_found_by_it() {
        let texts: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for &code in Code::ALL {
            assert_eq!(Code::try_parse(code.as_str()), Some(code));
            assert!((400..600).contains(&code.status()), "{code}");
            let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(code.as_str().bytes().all(is_word), "{code}");
        }
        assert_eq!(Code::try_parse("no such code"), None);
    }

    #[test]
    fn what_is_wrong_with_the_message_is_never_retried() {
        for &code in Code::ALL {
            assert!(!(code.retryable() && code.blame() != Blame::Service), "{code}");
        }
        assert!(!Code::OutcomeUnknown.retryable(), "unknown is not refused");
    }

    #[test]
    fn a_problem_is_answered_as_json_with_its_code() {
        let problem = Problem::new(Code::BadZip, "`9411\"` is no ZIP");
        let json: serde_json::Value = serde_json::from_str(&problem.to_json()).expect("JSON");
        assert_eq!(json["code"], "bad_zip");
        assert_eq!(json["status"], 400);
        assert_eq!(json["detail"], "`9411\"` is no ZIP");
    }
}
