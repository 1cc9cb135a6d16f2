//! What a seed draws: a cluster, its settings, the work, and the faults that may happen. Pure.

use platbook_chaos_tests::operator::Chance;

use crate::faults::Fault;

/// Everything about one run that is not chance in its course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) shards: u32,
    pub(crate) routers: u64,
    /// Clients that share listings, and the listings.
    pub(crate) clients: u64,
    pub(crate) listings: u64,
    /// Longest pause between two calls of a client.
    pub(crate) pause_ms: u64,
    /// Messages in the feed, and listings that they are about.
    pub(crate) messages: u64,
    pub(crate) feed_listings: u64,
    /// Most messages in one request of the ingester.
    pub(crate) batch_max: u64,
    pub(crate) heartbeat_ms: u64,
    pub(crate) election_ms: u64,
    /// Greatest time that a packet takes.
    pub(crate) latency_ms: u64,
    pub(crate) segment_bytes: u32,
    pub(crate) log_bytes_max: u64,
    pub(crate) flush_every: u64,
    /// How long a sync takes.
    pub(crate) sync_ms: u64,
    /// How long faults are done.
    pub(crate) unsafe_ms: u64,
    /// Greatest pause between two faults.
    pub(crate) fault_pause_ms: u64,
    /// Faults that are drawn from; none in a quarter of the runs.
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed, "plan");
        let mut from = |choices: &[u64]| choices[chance.below(choices.len() as u64) as usize];
        let nodes = from(&[1, 3, 3, 3, 3, 5]);
        let heartbeat_ms = from(&[50, 75, 100]);
        let mut plan = Plan {
            seed,
            nodes,
            shards: from(&[1, 2, 3, 4]) as u32,
            routers: from(&[1, 2, 2]),
            clients: from(&[2, 3, 4, 5]),
            listings: from(&[1, 2, 4, 8]),
            pause_ms: from(&[40, 100, 300]),
            messages: from(&[60, 200, 400]),
            feed_listings: from(&[5, 20, 60]),
            batch_max: from(&[1, 10, 40]),
            heartbeat_ms,
            election_ms: heartbeat_ms * from(&[6, 8, 12]),
            latency_ms: from(&[2, 5, 15]),
            segment_bytes: from(&[256 << 10, 1 << 20]) as u32,
            log_bytes_max: from(&[512 << 10, 1 << 20, 8 << 20]),
            flush_every: from(&[20, 100, 500]),
            sync_ms: from(&[0, 1, 2, 8]),
            unsafe_ms: from(&[6_000, 10_000, 15_000]),
            fault_pause_ms: from(&[400, 1_500, 4_000]),
            faults: Vec::new(),
        };
        plan.log_bytes_max = plan.log_bytes_max.max(2 * u64::from(plan.segment_bytes));
        plan.faults = faults(&mut chance, nodes);
        plan
    }
}

/// A quarter of the runs have none; the others some of them, so that one that happens often does
/// not hide what another one would have shown.
fn faults(chance: &mut Chance, nodes: u64) -> Vec<Fault> {
    if chance.below(4) == 0 {
        return Vec::new();
    }
    let share = 200 + chance.below(600);
    let able: Vec<Fault> =
        Fault::ALL.into_iter().filter(|f| nodes > 1 || !f.needs_peers()).collect();
    let mut drawn: Vec<Fault> = able.iter().copied().filter(|_| chance.happens(share)).collect();
    if drawn.is_empty() {
        drawn.push(able[chance.below(able.len() as u64) as usize]);
    }
    // The simulated network cannot both hold packets and lose those of one direction.
    if drawn.contains(&Fault::Hold) {
        drawn.retain(|fault| *fault != Fault::OneWay);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_seeds_differ() {
        let plans: Vec<Plan> = (0..400).map(Plan::of).collect();
        assert_eq!(plans, (0..400).map(Plan::of).collect::<Vec<_>>());
        let calm = plans.iter().filter(|plan| plan.faults.is_empty()).count();
        assert!((60..140).contains(&calm), "a quarter has no faults: {calm}");
        let drawn: BTreeSet<Fault> = plans.iter().flat_map(|plan| plan.faults.clone()).collect();
        assert_eq!(drawn.len(), Fault::ALL.len());
        let shapes: BTreeSet<u64> = plans.iter().map(|plan| plan.nodes).collect();
        assert_eq!(shapes, BTreeSet::from([1, 3, 5]));
    }

    #[test]
    fn a_node_is_configured_as_it_may_be() {
        for plan in (0..400).map(Plan::of) {
            assert!(plan.heartbeat_ms * 5 <= plan.election_ms);
            assert!(plan.log_bytes_max >= 2 * u64::from(plan.segment_bytes));
        }
    }
}
