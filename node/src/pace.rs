//! Whether the disk under the log keeps up: a leader on a slow one slows its shards down, and one
//! whose disk has stopped answering acknowledges nothing at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::Node;
use crate::replicas;

/// How often the round under way is looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A round that takes longer is late: a sound disk takes a fraction of a millisecond.
const LATE_US: u64 = 250_000;
/// A late look counts twice as much as a good one, so that a disk that takes half a second for
/// every round is found, which is late in half of all looks.
const LATE_COUNTS: u32 = 2;
const SLOW_FROM: u32 = 20;
const COUNTED_MAX: u32 = 40;
/// How long leaderships may take to leave before they are asked to leave again.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// What the looks have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pace {
    late: u32,
    is_slow: bool,
}

impl Pace {
    /// Takes a look: how long the round under way has taken so far, 0 where there is none.
    fn on_look(&mut self, round_us: u64) {
        self.late = match round_us > LATE_US {
            true => (self.late + LATE_COUNTS).min(COUNTED_MAX),
            false => self.late.saturating_sub(1),
        };
        self.is_slow = self.late >= SLOW_FROM || (self.is_slow && self.late > 0);
    }
}

/// Runs until the node stops: gives leaderships up while the disk is slow.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pace = Pace::default();
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        let was = pace.is_slow;
        pace.on_look(node.disk().log.counters().round_us_now);
        node.health().set_disk_slow(pace.is_slow);
        match (was, pace.is_slow) {
            (false, true) => warn!("this node's disk is slow: giving leaderships up"),
            (true, false) => info!("this node's disk keeps up again"),
            (true, true) | (false, false) => {}
        }
        if pace.is_slow && node.shards().all().iter().any(|shard| shard.group().is_leader()) {
            replicas::hand_all_over(&node, Instant::now() + LEAVE_WITHIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until the pace is as wanted.
    fn looks_until(pace: &mut Pace, wanted: bool, mut round_us: impl FnMut(u32) -> u64) -> u32 {
        for look in 0..200 {
            pace.on_look(round_us(look));
            if pace.is_slow == wanted {
                return look + 1;
            }
        }
        200
    }

    #[test]
    fn a_disk_that_does_not_answer_is_found_in_a_second_and_a_slow_one_in_some() {
        let mut hangs = Pace::default();
        assert_eq!(looks_until(&mut hangs, true, |look| u64::from(look) * 100_000 + 300_000), 10);
        let mut slow = Pace::default();
        // Half a second each: two looks in five are late.
        let half_a_second = |look: u32| u64::from(look % 5) * 100_000;
        let looks = looks_until(&mut slow, true, half_a_second);
        assert!((20..100).contains(&looks), "{looks} looks");
        let looks = looks_until(&mut slow, false, |_| 300);
        assert!(looks <= COUNTED_MAX, "{looks} looks");
    }

    #[test]
    fn single_late_rounds_are_no_slow_disk() {
        let mut pace = Pace::default();
        let now_and_then = |look: u32| if look.is_multiple_of(10) { 400_000 } else { 200 };
        assert_eq!(looks_until(&mut pace, true, now_and_then), 200);
    }
}
