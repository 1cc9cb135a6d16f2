//! The one retry layer: whether to try again, and when.
//!
//! What an attempt met is final, or worth another attempt. A write that once may have been carried
//! out can from then on only end as done or unknown, whatever later attempts say.

use std::time::Duration;

use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::config;
use crate::error::{AttemptError, Error, Unknown, WriteError};
use crate::problem::Problem;

/// How an attempt failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Sending it again gives the same.
    Final {
        error: Error,
        /// A part of it may have been carried out all the same.
        maybe_done: bool,
    },
    /// Another attempt may be answered.
    Again {
        last: AttemptError,
        /// It may have been carried out.
        maybe_done: bool,
        /// How long the router asks to wait.
        after: Option<Duration>,
    },
}

impl Failure {
    /// Nothing was done, and it may be tried again.
    pub(crate) fn again(last: AttemptError) -> Failure {
        Failure::Again { last, maybe_done: false, after: None }
    }

    /// It may have been carried out, and may be tried again.
    pub(crate) fn in_doubt(last: AttemptError) -> Failure {
        Failure::Again { last, maybe_done: true, after: None }
    }

    /// Whether it may have been carried out.
    pub(crate) fn maybe_done(&self) -> bool {
        match self {
            Failure::Final { maybe_done, .. } | Failure::Again { maybe_done, .. } => *maybe_done,
        }
    }
}

/// How a call ended without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    end: End,
    attempts: u32,
    /// Some attempt may have been carried out.
    maybe_done: bool,
    deadline: Duration,
}

#[derive(Clone, Debug)]
enum End {
    Final(Error),
    OutOfTime(AttemptError),
}

impl Stopped {
    /// Refused by its first answer.
    pub(crate) fn by_refusal(problem: Problem) -> Stopped {
        let end = End::Final(Error::Refused(Box::new(problem)));
        Stopped { end, attempts: 1, maybe_done: false, deadline: Duration::ZERO }
    }

    /// For a call without effects.
    pub(crate) fn of_read(self) -> Error {
        let Stopped { end, attempts, deadline, .. } = self;
        match end {
            End::Final(error) => error,
            End::OutOfTime(last) => Error::Unavailable { deadline, attempts, last },
        }
    }

    /// For a write.
    pub(crate) fn of_write(self) -> WriteError {
        let attempts = self.attempts;
        match (self.maybe_done, self.end) {
            (true, End::OutOfTime(last)) => Unknown { attempts, last, write: None }.into(),
            // After an attempt that may have been carried out, a refusal says nothing about it.
            (true, End::Final(Error::Refused(problem))) => {
                let last = AttemptError::Answered(problem);
                Unknown { attempts, last, write: None }.into()
            }
            (maybe_done, end) => Stopped { maybe_done, end, ..self }.of_read().into(),
        }
    }

    /// For one of many writes that went together: `maybe_done` is said of this one.
    pub(crate) fn of_one(&self, maybe_done: bool) -> WriteError {
        let Stopped { end, attempts, deadline, .. } = self.clone();
        Stopped { end, attempts, deadline, maybe_done }.of_write()
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Duration,
    /// When no further attempt begins.
    ends: Instant,
    attempts: u32,
    backoff: Duration,
    maybe_done: bool,
}

impl Retry {
    pub(crate) fn new(deadline: Duration) -> Retry {
        let ends = Instant::now() + deadline;
        Retry { deadline, ends, attempts: 0, backoff: config::BACKOFF_MIN, maybe_done: false }
    }

    /// When an attempt is given up.
    pub(crate) fn until(&self) -> Instant {
        self.ends + config::ANSWER_GRACE
    }

    /// Waits until the next attempt, or tells how the call ended.
    pub(crate) async fn pause(&mut self, failure: Failure) -> Result<(), Stopped> {
        let roll = rand::rng().random_range(0.5..1.0);
        let pause = self.decide(failure, Instant::now(), roll)?;
        sleep(pause).await;
        Ok(())
    }

    /// How long to wait, where `roll` (0.5 to 1) spreads callers that failed together.
    fn decide(&mut self, failure: Failure, now: Instant, roll: f64) -> Result<Duration, Stopped> {
        self.attempts += 1;
        let (last, after) = match failure {
            Failure::Final { error, maybe_done } => {
                self.maybe_done |= maybe_done;
                return Err(self.stopped(End::Final(error)));
            }
            Failure::Again { last, maybe_done, after } => {
                self.maybe_done |= maybe_done;
                (last, after)
            }
        };
        let pause = after.unwrap_or(self.backoff).min(config::BACKOFF_MAX).mul_f64(roll);
        if now + pause >= self.ends {
            return Err(self.stopped(End::OutOfTime(last)));
        }
        let error = crate::error::chain(&last);
        tracing::debug!(attempt = self.attempts, ?pause, error, "trying again");
        self.backoff = (self.backoff * 2).min(config::BACKOFF_MAX);
        Ok(pause)
    }

    fn stopped(&self, end: End) -> Stopped {
        let Retry { deadline, attempts, maybe_done, .. } = *self;
        Stopped { end, attempts, maybe_done, deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late() -> AttemptError {
        AttemptError::Late { endpoint: "http://a".to_string() }
    }

    fn refused() -> Failure {
        let error = Error::Refused(Box::default());
        Failure::Final { error, maybe_done: false }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_limit_and_are_spread() {
        let mut retry = Retry::new(Duration::from_secs(3_600));
        let now = Instant::now();
        let mut pause = |roll| retry.decide(Failure::again(late()), now, roll).expect("goes on");
        assert_eq!(pause(1.0), config::BACKOFF_MIN);
        assert_eq!(pause(0.5), config::BACKOFF_MIN);
        assert_eq!(pause(1.0), config::BACKOFF_MIN * 4);
        assert_eq!((0..20).map(|_| pause(1.0)).max(), Some(config::BACKOFF_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_router_asks_for_is_waited_for_within_limits() {
        let mut retry = Retry::new(Duration::from_secs(3_600));
        let mut pause = |seconds| {
            let after = Some(Duration::from_secs(seconds));
            let failure = Failure::Again { last: late(), maybe_done: false, after };
            retry.decide(failure, Instant::now(), 1.0).expect("goes on")
        };
        assert_eq!(pause(1), Duration::from_secs(1));
        assert_eq!(pause(600), config::BACKOFF_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn once_in_doubt_a_write_ends_as_unknown_and_a_read_does_not() {
        for is_out_of_time in [false, true] {
            let mut stops = (0..2).map(|_| {
                let mut retry = Retry::new(Duration::from_secs(1));
                let now = Instant::now();
                retry.decide(Failure::in_doubt(late()), now, 1.0).expect("goes on");
                let next = if is_out_of_time { Failure::again(late()) } else { refused() };
                let now = if is_out_of_time { now + Duration::from_secs(1) } else { now };
                retry.decide(next, now, 1.0).expect_err("stops")
            });
            let write = stops.next().expect("two").of_write();
            assert!(matches!(&write, WriteError::Unknown(unknown) if unknown.attempts == 2));
            let read = stops.next().expect("two").of_read();
            let expected = matches!(read, Error::Unavailable { attempts: 2, .. });
            assert_eq!(expected, is_out_of_time, "{read:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_doubt_a_refusal_is_a_refusal() {
        let mut retry = Retry::new(Duration::from_secs(1));
        let now = Instant::now();
        retry.decide(Failure::again(late()), now, 1.0).expect("goes on");
        let stopped = retry.decide(refused(), now, 1.0).expect_err("stops");
        assert!(matches!(stopped.of_write(), WriteError::NotDone(Error::Refused(_))));
    }
}
