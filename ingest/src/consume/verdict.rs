//! What the router's answer means for a message.

use platbook_client::answer::{BulkAnswer, Rejection};
use platbook_client::error::chain;
use platbook_client::{Error, WriteError};
use platbook_protocol::problem::{Blame, Code};

/// What becomes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Durable: delete it from the queue.
    Done,
    /// A newer message of the same listing is not finished: come again soon.
    Busy,
    /// The store could not take it now, through no fault of the message: come again.
    Later,
    /// It failed, and it may be its own fault: come again, but not for ever.
    Failed { code: String, detail: String },
    /// Its own fault: quarantine.
    Refused { code: String, detail: String },
}

/// Verdicts on `count` lines, in their order.
pub(super) fn of_answer(answer: &BulkAnswer, count: usize) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Done; count];
    let mut put = |line: u64, verdict: Verdict| {
        let index = line.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        if let Some(place) = index.and_then(|index| verdicts.get_mut(index)) {
            *place = verdict;
        }
    };
    answer.busy.iter().for_each(|line| put(*line, Verdict::Busy));
    answer.rejected.iter().for_each(|rejection| put(rejection.line, of_rejection(rejection)));
    verdicts
}

fn of_rejection(rejection: &Rejection) -> Verdict {
    let Rejection { code, detail, .. } = rejection.clone();
    match Code::try_parse(&code) {
        // A defect may be set off by this very message.
        Some(Code::Internal) | None => Verdict::Failed { code, detail },
        Some(known) => match known.blame() {
            Blame::Message => Verdict::Refused { code, detail },
            Blame::Service => Verdict::Later,
            Blame::Request | Blame::State => Verdict::Failed { code, detail },
        },
    }
}

/// What a failed request says about the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing about its messages: send the same again.
    Again,
    /// One of them may be the cause: send fewer.
    Suspicious { code: String, detail: String },
}

/// Tells a router that is away or overloaded from one that chokes on what it is sent.
pub(super) fn of_error(error: &WriteError) -> Failure {
    let suspicious = |code: &str| Failure::Suspicious {
        code: if code.is_empty() { "internal".to_string() } else { code.to_string() },
        detail: chain(error),
    };
    match error {
        WriteError::NotDone(Error::Refused(problem)) => {
            match Code::try_parse(&problem.code).map(Code::blame) {
                Some(Blame::Service) => Failure::Again,
                // Credentials are nobody's message.
                _ if matches!(problem.status, 401 | 403) => Failure::Again,
                Some(Blame::Message | Blame::Request | Blame::State) | None => {
                    suspicious(&problem.code)
                }
            }
        }
        WriteError::Unknown(_) => match error.problem() {
            Some(problem) if problem.status == 500 => suspicious(&problem.code),
            // Refused behind a part that may be done.
            Some(problem) if matches!(problem.status, 400 | 413) => suspicious(&problem.code),
            Some(_) | None => Failure::Again,
        },
        WriteError::NotDone(_) => Failure::Again,
    }
}

#[cfg(test)]
mod tests {
    use platbook_client::{AttemptError, Problem, Unknown};

    use super::*;

    fn rejection(line: u64, code: &str) -> Rejection {
        Rejection { line, code: code.into(), detail: "d".into() }
    }

    #[test]
    fn each_line_gets_its_own_verdict() {
        let rejected = ["too_old", "shard_unavailable", "internal", "sent_in_future", "new_code"];
        let rejected = rejected.iter().zip(3..).map(|(code, line)| rejection(line, code));
        let answer = BulkAnswer {
            busy: vec![2, 0, 99],
            rejected: rejected.collect(),
            ..BulkAnswer::default()
        };
        let names: Vec<&str> = of_answer(&answer, 7)
            .iter()
            .map(|verdict| match verdict {
                Verdict::Done => "done",
                Verdict::Busy => "busy",
                Verdict::Later => "later",
                Verdict::Failed { .. } => "failed",
                Verdict::Refused { .. } => "refused",
            })
            .collect();
        assert_eq!(names, ["done", "busy", "refused", "later", "failed", "failed", "failed"]);
    }

    #[test]
    fn a_timeout_is_nobodys_fault_and_a_defect_may_be_a_messages() {
        let problem = |status, code: &str| Problem::new(status, code, "");
        let unknown = |status, code: &str| {
            let last = AttemptError::Answered(Box::new(problem(status, code)));
            WriteError::Unknown(Unknown::new(1, last))
        };
        assert_eq!(of_error(&unknown(504, "outcome_unknown")), Failure::Again);
        assert!(matches!(of_error(&unknown(500, "internal")), Failure::Suspicious { .. }));
        assert!(matches!(of_error(&unknown(413, "body_too_large")), Failure::Suspicious { .. }));
        let refused = |status, code: &str| WriteError::NotDone(Error::from(problem(status, code)));
        assert_eq!(of_error(&refused(507, "disk_full")), Failure::Again);
        assert_eq!(of_error(&refused(403, "forbidden")), Failure::Again);
        assert!(matches!(of_error(&refused(400, "bad_json")), Failure::Suspicious { .. }));
    }
}
