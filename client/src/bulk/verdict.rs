//! What an answer says about each line of a batch.

use platbook_protocol::problem::Code;

use crate::answer::{BulkAnswer, Rejection};
use crate::problem::Problem;

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// Send it again.
    Again {
        /// It may have been carried out.
        maybe_done: bool,
    },
    /// Sending it again gives the same.
    Refused(Problem),
}

/// Verdicts on `count` lines, in their order.
pub(super) fn verdicts(answer: &BulkAnswer, count: usize) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Done; count];
    let mut put = |line: u64, verdict: Verdict| {
        let index = line.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        if let Some(place) = index.and_then(|index| verdicts.get_mut(index)) {
            *place = verdict;
        }
    };
    // It is recorded, and its row may be there: only the newer one is still half done.
    answer.busy.iter().for_each(|line| put(*line, Verdict::Again { maybe_done: true }));
    answer.rejected.iter().for_each(|rejection| put(rejection.line, of_rejection(rejection)));
    verdicts
}

fn of_rejection(rejection: &Rejection) -> Verdict {
    let Rejection { code, detail, .. } = rejection;
    let known = Code::try_parse(code);
    match known {
        Some(code) if code.retryable() => Verdict::Again { maybe_done: false },
        Some(Code::OutcomeUnknown | Code::Internal) => Verdict::Again { maybe_done: true },
        Some(_) | None => {
            Verdict::Refused(Problem::new(known.map_or(0, Code::status), code, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::problem::Blame;

    use super::*;

    fn rejection(line: u64, code: &str) -> Rejection {
        Rejection { line, code: code.into(), detail: "d".into() }
    }

    #[test]
    fn each_line_gets_its_own_verdict() {
        let codes = ["no_id", "shard_unavailable", "outcome_unknown", "code_of_a_later_version"];
        let answer = BulkAnswer {
            applied: 2,
            busy: vec![2, 0, 99],
            rejected: codes.iter().zip(3..).map(|(code, line)| rejection(line, code)).collect(),
            ..BulkAnswer::default()
        };
        let verdicts = verdicts(&answer, 7);
        let again = |maybe_done| Verdict::Again { maybe_done };
        assert_eq!(verdicts[..2], [Verdict::Done, again(true)]);
        assert!(matches!(&verdicts[2], Verdict::Refused(problem) if problem.is(Code::NoId)));
        assert_eq!(verdicts[3..5], [again(false), again(true)]);
        assert!(matches!(&verdicts[5], Verdict::Refused(problem) if problem.status == 0));
        assert_eq!(verdicts[6], Verdict::Done);
    }

    #[test]
    fn what_is_wrong_with_a_message_is_never_sent_again() {
        for &code in Code::ALL {
            let verdict = of_rejection(&rejection(1, code.as_str()));
            let is_refused = matches!(verdict, Verdict::Refused(_));
            assert!(is_refused || code.blame() == Blame::Service, "{code}");
        }
    }
}
