//! From the sweeper of one shard to the rows of another, wherever that one is led.

use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use platbook_protocol::op::{Op, OpList, OpOutcome};
use platbook_protocol::row::Row;
use platbook_protocol::rpc::{Consistency, Propose, Proposed, ReadRows, Refusal, RowView};
use platbook_protocol::{ShardId, Slot, Zip};

use crate::directory::Directory;
use crate::rpc::client;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Finds leaders by asking the replicas that the map names.
#[derive(Clone)]
pub(crate) struct Reach {
    directory: Directory,
}

impl Reach {
    pub(crate) fn new(directory: Directory) -> Reach {
        Reach { directory }
    }

    /// Proposes one operation at the shard of `zip`.
    pub(super) async fn propose(&self, zip: Zip, op: &Op<'_>) -> Result<OpOutcome, Refusal> {
        let shard = self.shard_of(zip)?;
        let mut ops = OpList::default();
        ops.push(op);
        let bytes = Bytes::from(ops.into_bytes());
        let deadline_ms = TIMEOUT.as_millis() as u32;
        let request = Propose { shard, deadline_ms, count: 1, ops: &bytes };
        let answer: Proposed = self.ask(shard, "/rpc/propose", &request).await?;
        answer
            .outcomes
            .into_iter()
            .next()
            .ok_or(Refusal::Unknown { shard, reason: "no outcome".into() })
    }

    /// Reads one row, linearizably, without its body.
    pub(super) async fn read_row(&self, zip: Zip, id: &str) -> Result<Option<Row>, Refusal> {
        let shard = self.shard_of(zip)?;
        let request = ReadRows {
            shard,
            deadline_ms: TIMEOUT.as_millis() as u32,
            consistency: Consistency::Linearizable,
            with_bodies: false,
            rows: vec![(zip, id)],
        };
        let answer: Vec<Option<RowView>> = self.ask(shard, "/rpc/rows", &request).await?;
        Ok(answer.into_iter().next().flatten().map(|view| view.row))
    }

    fn shard_of(&self, zip: Zip) -> Result<ShardId, Refusal> {
        let map = self.directory.map();
        let shard = map.as_ref().and_then(|map| map.shard_of(Slot::of_zip(&zip)).map(|s| s.id));
        shard.ok_or(Refusal::Unavailable { shard: ShardId::SYSTEM, reason: "no map yet".into() })
    }

    async fn ask<Q: Encode, A: Decode<()>>(
        &self,
        shard: ShardId,
        path: &str,
        request: &Q,
    ) -> Result<A, Refusal> {
        let lost = |reason: String| Refusal::Unavailable { shard, reason };
        let map = self.directory.map().ok_or_else(|| lost("no map yet".into()))?;
        let mut last = lost("no replica answers".into());
        for replica in map.shard(shard).into_iter().flat_map(|shard| &shard.replicas) {
            let Some(address) = self.directory.address(replica.node) else { continue };
            match client::call(&self.directory, &address, path, request, TIMEOUT).await {
                Ok(answer) => return Ok(answer),
                Err(client::CallError::Refused(refusal)) => last = refusal,
                Err(error) => last = lost(error.to_string()),
            }
        }
        Err(last)
    }
}
