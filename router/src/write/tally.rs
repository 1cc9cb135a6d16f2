//! What became of the messages of a bulk request.

use platbook_protocol::coordination::Verdict;
use platbook_protocol::problem::Code;
use platbook_protocol::register::Label;
use serde_json::{Map, Value, json};

use super::flight::Ending;
use crate::error::Failure;
use crate::http::problem::ApiError;

/// Counts, and the lines that are not durable.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    applied: u64,
    unchanged: u64,
    stale: u64,
    duplicate: u64,
    suspect: u64,
    busy: Vec<u64>,
    rejected: Vec<(u64, Code, String)>,
    retry_after_ms: u32,
    is_incomplete: bool,
}

impl Tally {
    /// Notes how the message on a line ended.
    pub(crate) fn on_ending(&mut self, line: u64, ending: Ending) {
        match ending {
            Ending::Verdict(Verdict::Acknowledge { label, .. }) => match label {
                Label::Applied => self.applied += 1,
                Label::Unchanged => self.unchanged += 1,
                Label::Duplicate => self.duplicate += 1,
                Label::Stale => self.stale += 1,
                Label::Suspect => self.suspect += 1,
            },
            Ending::Verdict(Verdict::Busy) => self.busy.push(line),
            Ending::Verdict(Verdict::TooOld) => self.reject(line, too_old()),
            Ending::Verdict(Verdict::PreconditionFailed { revision }) => {
                let detail = format!("the current revision is {revision}");
                self.reject(line, ApiError::new(Code::PreconditionFailed, detail));
            }
            Ending::Failed(failure) => {
                if let Failure::Overloaded { retry_after_ms, .. } = failure {
                    self.retry_after_ms = self.retry_after_ms.max(retry_after_ms);
                }
                self.reject(line, failure.into());
            }
        }
    }

    /// Notes that lines were lost, and that it is not known which.
    pub(crate) fn on_lost_wave(&mut self) {
        self.is_incomplete = true;
    }

    /// Notes a line that was not done.
    pub(crate) fn reject(&mut self, line: u64, error: ApiError) {
        let detail = error.detail().to_string();
        self.rejected.push((line, error.code(), detail));
    }

    /// The answer: 200 if anything was carried out or all faults are the messages' own; else the
    /// gravest fault of the service, so that a client that looks at the status alone is not misled.
    pub(crate) fn into_answer(mut self) -> Result<Value, ApiError> {
        self.busy.sort_unstable();
        if self.is_incomplete {
            let error = ApiError::new(Code::OutcomeUnknown, "some messages were lost on the way");
            return Err(error.with_members(self.into_members()));
        }
        self.rejected.sort_unstable_by_key(|(line, _, _)| *line);
        let done = self.applied + self.unchanged + self.stale + self.duplicate + self.suspect;
        let gravest = self.rejected.iter().map(|(_, code, _)| *code).max_by_key(|c| gravity(*c));
        let retry_after_ms = self.retry_after_ms;
        match gravest {
            Some(code) if done == 0 && gravity(code) > 0 => {
                let detail = self
                    .rejected
                    .iter()
                    .find(|(_, found, _)| *found == code)
                    .map_or_else(String::new, |(_, _, detail)| detail.clone());
                let error = ApiError::new(code, detail).with_members(self.into_members());
                Err(match retry_after_ms {
                    0 => error,
                    ms => error.with_retry_after_ms(ms),
                })
            }
            Some(_) | None => Ok(Value::Object(self.into_members())),
        }
    }

    /// The members of the answer.
    pub(crate) fn into_members(self) -> Map<String, Value> {
        let rejected: Vec<Value> = self
            .rejected
            .into_iter()
            .map(|(line, code, detail)| {
                json!({"line": line, "code": code.as_str(), "detail": detail})
            })
            .collect();
        let answer = json!({
            "applied": self.applied,
            "unchanged": self.unchanged,
            "stale": self.stale,
            "duplicate": self.duplicate,
            "suspect": self.suspect,
            "busy": self.busy,
            "rejected": rejected,
        });
        match answer {
            Value::Object(members) => members,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        }
    }
}

/// A message about an unknown id, older than what is remembered.
pub(crate) fn too_old() -> ApiError {
    let detail =
        "nothing is known of the listing, and the message is older than what is remembered";
    ApiError::new(Code::TooOld, detail)
}

/// Faults of the service, the gravest last.
const FAULTS: [Code; 5] = [
    Code::Overloaded,
    Code::ShardUnavailable,
    Code::DiskFull,
    Code::Internal,
    Code::OutcomeUnknown,
];

/// How much a fault of the service weighs against others; 0 for all that is no such fault.
fn gravity(code: Code) -> usize {
    FAULTS.iter().position(|fault| *fault == code).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use platbook_protocol::{Revision, ShardId};

    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn done() -> Ending {
        let revision = Revision(1);
        Ending::Verdict(Verdict::Acknowledge { label: Label::Applied, revision })
    }

    #[test]
    fn one_unknown_line_does_not_hide_what_was_done() {
        let mut tally = Tally::default();
        tally.on_ending(2, Ending::Failed(Failure::Unknown { shard: SHARD, reason: "x".into() }));
        tally.on_ending(1, done());
        tally.on_ending(3, Ending::Verdict(Verdict::Busy));
        let answer = tally.into_answer().expect("something was done");
        assert_eq!(answer["applied"], 1);
        assert_eq!(answer["busy"], json!([3]));
        assert_eq!(answer["rejected"][0]["line"], 2);
        assert_eq!(answer["rejected"][0]["code"], "outcome_unknown");
    }

    #[test]
    fn where_nothing_was_done_the_status_says_the_gravest_reason() {
        let mut tally = Tally::default();
        tally.on_ending(1, Ending::Failed(Failure::DiskFull { shard: SHARD }));
        tally.on_ending(2, Ending::Failed(Failure::Unknown { shard: SHARD, reason: "x".into() }));
        assert_eq!(tally.into_answer().unwrap_err().code(), Code::OutcomeUnknown);
        let mut tally = Tally::default();
        tally.on_ending(1, Ending::Failed(Failure::Overloaded { shard: SHARD, retry_after_ms: 9 }));
        assert_eq!(tally.into_answer().unwrap_err().code(), Code::Overloaded);
    }

    #[test]
    fn bad_messages_alone_are_an_answer() {
        let mut tally = Tally::default();
        tally.reject(1, ApiError::new(Code::BadJson, "x"));
        tally.on_ending(2, Ending::Verdict(Verdict::TooOld));
        let answer = tally.into_answer().expect("the request itself was fine");
        assert_eq!(answer["rejected"].as_array().map(Vec::len), Some(2));
    }
}
