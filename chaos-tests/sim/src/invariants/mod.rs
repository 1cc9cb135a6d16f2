//! What must hold at every step, one file each.

mod durable_first;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod state_machine_safety;

use crate::board::Event;

/// A promise that is checked with every event.
pub(crate) trait Invariant: Send {
    /// Its name in the literature or the docs.
    fn name(&self) -> &'static str;
    /// Takes what happened; an error says what contradicts what.
    fn see(&mut self, event: &Event) -> Result<(), String>;
}

/// All of them, for a cluster of so many nodes.
pub(crate) fn all(nodes: u64) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<election_safety::ElectionSafety>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<state_machine_safety::StateMachineSafety>::default(),
        Box::<leader_completeness::LeaderCompleteness>::default(),
        Box::new(durable_first::DurableFirst::new(nodes)),
    ]
}
