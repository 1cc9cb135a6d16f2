//! Listings by their ids: the protocol's loop, driven over the shards. Where a listing was seen
//! before, its row is asked for together with its register: most reads take one turn, not two.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::read_by_id::{ReadById, ReadStep, Reading};
use platbook_protocol::rpc::{Consistency, RegisterView, RowView};
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
    let asked = Asked { shards: &shards, source, consistency, id: &id, deadline };
    let found = asked.read().await?;
    if let Some(found) = &found {
        shards.homes().note(&id, found.zip);
    }
    Ok(found)
}

struct Asked<'a> {
    shards: &'a Shards,
    source: Source,
    consistency: Consistency,
    id: &'a ListingId,
    deadline: Instant,
}

impl Asked<'_> {
    async fn read(&self) -> Result<Option<Found>, Failure> {
        let mut reading = ReadById::new();
        if let Some(found) = self.begin(&mut reading).await? {
            return Ok(Some(found));
        }
        let mut kept = Vec::new();
        loop {
            if Instant::now() >= self.deadline {
                return Err(unavailable("the deadline passed"));
            }
            match reading.next() {
                ReadStep::ReadRegister => {
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                    reading.on_register(self.register().await?);
                }
                ReadStep::ReadRow { zip } => {
                    let view = self.row(zip).await?;
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

    /// Reads the register, and together with it the row where the listing may stand.
    async fn begin(&self, reading: &mut ReadById) -> Result<Option<Found>, Failure> {
        let Some(zip) = self.shards.homes().guess(self.id) else {
            reading.on_register(self.register().await?);
            return Ok(None);
        };
        let mut row = pin!(self.row(zip));
        let mut register = pin!(self.register());
        let mut early = None;
        let view = loop {
            tokio::select! {
                biased;
                view = &mut register => break view?,
                view = &mut row, if early.is_none() => early = Some(view),
            }
        };
        reading.on_register(view);
        if reading.next() != (ReadStep::ReadRow { zip }) {
            return Ok(None);
        }
        let view = match early {
            Some(view) => view?,
            None => row.await?,
        };
        let Some(view) = view.filter(|view| reading.on_guess(zip, Some(view.row))) else {
            return Ok(None);
        };
        Ok(Some(Found { zip, revision: view.row.revision(), frame: view.frame }))
    }

    async fn register(&self) -> Result<Option<RegisterView>, Failure> {
        let shard = self.shard_of(Slot::of_id(self.id.as_str()))?;
        let (ids, consistency) = (vec![self.id.clone()], self.consistency);
        let views = self.shards.registers(shard, self.source, consistency, ids, self.deadline);
        only(shard, views.await)
    }

    async fn row(&self, zip: Zip) -> Result<Option<RowView>, Failure> {
        let shard = self.shard_of(Slot::of_zip(&zip))?;
        let (rows, consistency) = (vec![(zip, self.id.clone())], self.consistency);
        let views = self.shards.bodies(shard, self.source, consistency, rows, self.deadline);
        only(shard, views.await)
    }

    fn shard_of(&self, slot: Slot) -> Result<ShardId, Failure> {
        let found = self.shards.leaders().directory().shard_of(slot);
        found.ok_or_else(|| unavailable("no map yet"))
    }
}

fn only<T>(shard: ShardId, mut results: Vec<Result<T, Failure>>) -> Result<T, Failure> {
    let none = || Failure::Refused { shard, reason: "no answer to a question".into() };
    results.pop().unwrap_or_else(|| Err(none()))
}

fn unavailable(reason: &str) -> Failure {
    Failure::Unavailable { shard: ShardId::SYSTEM, reason: reason.into() }
}
