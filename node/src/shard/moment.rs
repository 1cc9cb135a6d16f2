//! A moment up to which the last change is known, shared by all readers of changes: many that wait
//! cost one confirmation of leadership now and then, not one each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platbook_protocol::{Seq, TimeMs};
use tokio::time::Instant;

/// Everything that was acknowledged before `at` is a change up to `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The clock of the leader that made sure.
    pub(crate) at: TimeMs,
    /// The last change then.
    pub(crate) seq: Seq,
}

/// The last moment of a shard. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LastMoment {
    known: Arc<Mutex<Option<(Instant, Moment)>>>,
}

impl LastMoment {
    /// The last one, unless it is older than `age_max`.
    pub(super) fn fresh(&self, age_max: Duration) -> Option<Moment> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(made, _)| made.elapsed() <= age_max).map(|(_, moment)| moment)
    }

    /// Keeps one; of several that were made at the same time the latest stays.
    pub(super) fn keep(&self, moment: Moment) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|(_, last)| last.at <= moment.at) {
            *known = Some((Instant::now(), moment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_serves_until_it_is_old_and_never_goes_back() {
        let last = LastMoment::default();
        let moment = |at, seq| Moment { at: TimeMs(at), seq: Seq(seq) };
        let age_max = Duration::from_secs(5);
        assert_eq!(last.fresh(age_max), None);
        last.keep(moment(10, 1));
        last.clone().keep(moment(9, 1));
        assert_eq!(last.fresh(age_max), Some(moment(10, 1)));
        tokio::time::advance(age_max + Duration::from_millis(1)).await;
        assert_eq!(last.fresh(age_max), None);
        last.keep(moment(11, 2));
        assert_eq!(last.fresh(age_max), Some(moment(11, 2)));
    }
}
