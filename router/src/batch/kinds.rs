//! What is gathered: proposals, registers, rows.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use platbook_protocol::codec;
use platbook_protocol::op::{BATCH_BYTES_MAX, BATCH_OPS_MAX, OpOutcome};
use platbook_protocol::rpc::{
    Consistency, Propose, Proposed, ReadRegisters, ReadRows, RegisterView, RowView,
};
use platbook_protocol::{ListingId, Zip};

use super::fair_queue::BatchLimits;
use super::gatherer::{Call, Kind};
use crate::error::Failure;
use crate::metrics::{BatchMetrics, Metrics};
use crate::nodes::Leaders;

/// Items of one source before the next one has its turn.
const TURN_ITEMS_MAX: usize = 32;
/// Bytes after which a source's turn ends.
const TURN_BYTES: usize = 64 << 10;
/// Rows asked with their bodies in one call: with bodies of 1 MiB they fit an answer.
const BODIES_MAX: usize = 32;

/// Operations to be applied. An item is one operation as it stands in an
/// [`OpList`](platbook_protocol::op::OpList): length and bytes.
pub(crate) struct Proposals {
    /// Who is asked.
    pub(crate) leaders: Leaders,
}

impl Kind for Proposals {
    type Item = Bytes;
    type Answer = OpOutcome;
    const LIMITS: BatchLimits = BatchLimits {
        items_max: BATCH_OPS_MAX,
        bytes_max: BATCH_BYTES_MAX,
        turn_items_max: TURN_ITEMS_MAX,
        turn_bytes: TURN_BYTES,
    };
    const IN_FLIGHT_MAX: usize = 2;

    fn bytes(item: &Bytes) -> usize {
        item.len()
    }

    async fn ask(&self, items: Vec<Bytes>, call: Call<'_>) -> Result<Vec<OpOutcome>, Failure> {
        let Call { shard, deadline, wire, is_waiting } = call;
        // What the last attempt carried.
        let carried = Mutex::new(Vec::new());
        let encode = |deadline_ms| {
            let places: Vec<usize> = (0..items.len()).filter(|at| is_waiting(*at)).collect();
            let ops = places.iter().map(|at| items[*at].as_ref()).collect::<Vec<_>>().concat();
            let count = places.len() as u32;
            *carried.lock().unwrap_or_else(PoisonError::into_inner) = places;
            codec::encode(&Propose { shard, deadline_ms, count, ops: &ops }).into()
        };
        let proposed: Proposed = self.leaders.propose(shard, deadline, wire, encode).await?;
        let carried = carried.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(in_places(carried, proposed.outcomes, items.len()))
    }

    fn metrics(metrics: &Metrics) -> &BatchMetrics {
        &metrics.proposals
    }
}

/// Outcomes at the places of the items that an attempt carried. Nobody looks at the other places.
fn in_places(carried: Vec<usize>, outcomes: Vec<OpOutcome>, count: usize) -> Vec<OpOutcome> {
    if carried.len() == count || carried.len() != outcomes.len() {
        // All of them; or a wrong number, which whoever asked finds out.
        return outcomes;
    }
    let mut placed = vec![OpOutcome::Noted; count];
    for (place, outcome) in carried.into_iter().zip(outcomes) {
        placed[place] = outcome;
    }
    placed
}

/// Registers to be read.
pub(crate) struct Registers {
    /// Who is asked.
    pub(crate) leaders: Leaders,
    /// How fresh.
    pub(crate) consistency: Consistency,
}

impl Kind for Registers {
    type Item = ListingId;
    type Answer = Option<RegisterView>;
    const LIMITS: BatchLimits = BatchLimits {
        items_max: BATCH_OPS_MAX,
        bytes_max: BATCH_BYTES_MAX,
        turn_items_max: TURN_ITEMS_MAX,
        turn_bytes: TURN_BYTES,
    };
    const IN_FLIGHT_MAX: usize = 4;

    fn bytes(item: &ListingId) -> usize {
        item.as_str().len()
    }

    async fn ask(
        &self,
        items: Vec<ListingId>,
        Call { shard, deadline, .. }: Call<'_>,
    ) -> Result<Vec<Option<RegisterView>>, Failure> {
        let encode = |deadline_ms| {
            let ids = items.iter().map(ListingId::as_str).collect();
            let consistency = self.consistency;
            codec::encode(&ReadRegisters { shard, deadline_ms, consistency, ids }).into()
        };
        self.leaders.read(shard, "registers", deadline, encode).await
    }

    fn metrics(metrics: &Metrics) -> &BatchMetrics {
        &metrics.registers
    }
}

/// Rows to be read; `WITH_BODIES` says whether their frames are wanted.
pub(crate) struct Rows<const WITH_BODIES: bool> {
    /// Who is asked.
    pub(crate) leaders: Leaders,
    /// How fresh.
    pub(crate) consistency: Consistency,
}

impl<const WITH_BODIES: bool> Kind for Rows<WITH_BODIES> {
    type Item = (Zip, ListingId);
    type Answer = Option<RowView>;
    const LIMITS: BatchLimits = BatchLimits {
        items_max: if WITH_BODIES { BODIES_MAX } else { BATCH_OPS_MAX },
        bytes_max: BATCH_BYTES_MAX,
        turn_items_max: TURN_ITEMS_MAX,
        turn_bytes: TURN_BYTES,
    };
    const IN_FLIGHT_MAX: usize = 4;

    fn bytes(item: &(Zip, ListingId)) -> usize {
        item.1.as_str().len()
    }

    async fn ask(
        &self,
        items: Vec<(Zip, ListingId)>,
        Call { shard, deadline, .. }: Call<'_>,
    ) -> Result<Vec<Option<RowView>>, Failure> {
        let encode = |deadline_ms| {
            let rows = items.iter().map(|(zip, id)| (*zip, id.as_str())).collect();
            let consistency = self.consistency;
            let with_bodies = WITH_BODIES;
            codec::encode(&ReadRows { shard, deadline_ms, consistency, with_bodies, rows }).into()
        };
        self.leaders.read(shard, "rows", deadline, encode).await
    }

    fn metrics(metrics: &Metrics) -> &BatchMetrics {
        &metrics.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_go_to_the_places_of_what_was_carried() {
        let (erased, noted) = (OpOutcome::Erased, OpOutcome::Noted);
        let placed = in_places(vec![2], vec![erased.clone()], 3);
        assert_eq!(placed, [noted.clone(), noted, erased.clone()]);
        assert_eq!(in_places(vec![0], vec![erased.clone()], 1).len(), 1);
        assert_eq!(in_places(vec![0, 1], vec![erased], 3).len(), 1, "a wrong number stays wrong");
    }
}
