//! Listings by their ids: the protocol's loop, driven over the shards.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::read_by_id::{ReadById, ReadStep, Reading};
use platbook_protocol::rpc::Consistency;
use platbook_protocol::{ListingId, Revision, ShardId, Slot, Zip};
use tokio::time::Instant;

use crate::batch::{Shards, Source};
use crate::error::Failure;

/// Pause before the register is read once more because a row told that it is outdated.
const PAUSE_MS: u64 = 2;

/// A listing as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it stands.
    pub(crate) zip: Zip,
    /// Its revision.
    pub(crate) revision: Revision,
    /// Compressed listing.
    pub(crate) frame: Vec<u8>,
}

/// Reads one listing; past `deadline` it is unavailable, never missing.
pub(crate) async fn read(
    shards: Arc<Shards>,
    source: Source,
    consistency: Consistency,
    id: ListingId,
    deadline: Instant,
) -> Result<Option<Found>, Failure> {
    let shard_of =
        |slot| shards.leaders().directory().shard_of(slot).ok_or_else(|| unavailable("no map yet"));
    let mut reading = ReadById::new();
    let mut kept = Vec::new();
    let mut registers_read = 0;
    loop {
        if Instant::now() >= deadline {
            return Err(unavailable("the deadline passed"));
        }
        match reading.next() {
            ReadStep::ReadRegister => {
                if registers_read > 0 {
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
                registers_read += 1;
                let shard = shard_of(Slot::of_id(id.as_str()))?;
                let ids = vec![id.clone()];
                let views = shards.registers(shard, source, consistency, ids, deadline).await;
                reading.on_register(only(shard, views)?);
            }
            ReadStep::ReadRow { zip } => {
                let shard = shard_of(Slot::of_zip(&zip))?;
                let rows = vec![(zip, id.clone())];
                let views = shards.bodies(shard, source, consistency, rows, deadline).await;
                let view = only(shard, views)?;
                if reading.on_row(view.as_ref().map(|view| view.row)) {
                    kept = view.map(|view| view.frame).unwrap_or_default();
                }
            }
            ReadStep::Finished(Reading::NotFound) => return Ok(None),
            ReadStep::Finished(Reading::Found { zip, revision }) => {
                return Ok(Some(Found { zip, revision, frame: kept }));
            }
        }
    }
}

fn only<T>(shard: ShardId, mut results: Vec<Result<T, Failure>>) -> Result<T, Failure> {
    let none = || Failure::Refused { shard, reason: "no answer to a question".into() };
    results.pop().unwrap_or_else(|| Err(none()))
}

fn unavailable(reason: &str) -> Failure {
    Failure::Unavailable { shard: ShardId::SYSTEM, reason: reason.into() }
}
