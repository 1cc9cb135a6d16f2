//! From where a replica can serve a reader of changes: a pure decision.

use platbook_protocol::Seq;

/// What a replica has of a shard's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The oldest change whose entry and effects are here; the one behind `newest` if none is.
    pub oldest: Seq,
    /// The last change applied.
    pub newest: Seq,
}

/// How a reader that has everything up to a change goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// From the log.
    Log,
    /// It has all that there is.
    UpToDate,
    /// It has more than this replica applied. Only a leader that has confirmed its leadership may
    /// conclude that there is no such change.
    Ahead {
        /// The last change applied.
        newest: Seq,
    },
    /// The changes behind its position are not in the log any more.
    Gone {
        /// The earliest position that can be followed from.
        earliest: Seq,
    },
}

impl Reach {
    /// The earliest position that can be followed from.
    pub fn earliest(self) -> Seq {
        Seq(self.oldest.0.saturating_sub(1))
    }

    /// How a reader that has everything up to `after` goes on.
    pub fn plan(self, after: Seq) -> Plan {
        if after > self.newest {
            Plan::Ahead { newest: self.newest }
        } else if after == self.newest {
            Plan::UpToDate
        } else if after < self.earliest() {
            Plan::Gone { earliest: self.earliest() }
        } else {
            Plan::Log
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(oldest: u64, newest: u64, after: std::ops::Range<u64>) -> Vec<Plan> {
        let reach = Reach { oldest: Seq(oldest), newest: Seq(newest) };
        after.map(|after| reach.plan(Seq(after))).collect()
    }

    #[test]
    fn every_position_has_exactly_one_way_on() {
        let gone = Plan::Gone { earliest: Seq(2) };
        let ahead = Plan::Ahead { newest: Seq(4) };
        let expected = [gone, gone, Plan::Log, Plan::Log, Plan::UpToDate, ahead, ahead];
        assert_eq!(plans(3, 4, 0..7), expected);
    }

    #[test]
    fn a_shard_that_never_changed_is_followed_from_its_beginning() {
        assert_eq!(plans(1, 0, 0..2), [Plan::UpToDate, Plan::Ahead { newest: Seq(0) }]);
        assert_eq!(plans(1, 1, 0..1), [Plan::Log]);
    }

    #[test]
    fn a_replica_without_a_log_serves_only_who_has_everything() {
        let gone = Plan::Gone { earliest: Seq(4) };
        assert_eq!(plans(5, 4, 2..5), [gone, gone, Plan::UpToDate]);
    }

    #[test]
    fn the_earliest_position_is_never_gone_itself() {
        for (oldest, newest) in [(1, 0), (1, 9), (7, 9), (10, 9)] {
            let reach = Reach { oldest: Seq(oldest), newest: Seq(newest) };
            let plan = reach.plan(reach.earliest());
            assert!(matches!(plan, Plan::Log | Plan::UpToDate), "{reach:?}: {plan:?}");
        }
    }
}
