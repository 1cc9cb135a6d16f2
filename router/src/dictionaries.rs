//! Dictionaries for frames, fetched once by id and kept: they are few, and ids are never reused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use platbook_protocol::ShardId;
use platbook_protocol::codec;
use platbook_protocol::frame::{Dictionary, FrameError};
use platbook_protocol::rpc::{GetDictionary, Refusal};
use tokio::time::Instant;
use tracing::warn;

use crate::error::Failure;
use crate::nodes::Leaders;
use crate::nodes::call::{CallError, call};
use crate::nodes::leader::Attempt;

/// All dictionaries met so far.
pub(crate) struct Dictionaries {
    leaders: Leaders,
    known: ArcSwap<BTreeMap<u32, Arc<Dictionary>>>,
}

impl Dictionaries {
    /// Fetches by `leaders`.
    pub(crate) fn new(leaders: Leaders) -> Dictionaries {
        Dictionaries { leaders, known: ArcSwap::default() }
    }

    /// What is known so far.
    pub(crate) fn known(&self) -> Arc<BTreeMap<u32, Arc<Dictionary>>> {
        self.known.load_full()
    }

    /// The dictionary with this id, fetched if need be; `None` for 0.
    pub(crate) async fn get(
        &self,
        id: u32,
        deadline: Instant,
    ) -> Result<Option<Arc<Dictionary>>, Failure> {
        if id == 0 {
            return Ok(None);
        }
        if let Some(known) = self.known.load().get(&id) {
            return Ok(Some(known.clone()));
        }
        let shard = ShardId::SYSTEM;
        let fetch = |attempt| fetch(attempt, id);
        let bytes = self.leaders.ask(shard, deadline, None, fetch).await?;
        let unusable = |error: FrameError| {
            let reason = format!("dictionary {id}: {error}").into();
            Failure::Refused { shard, reason }
        };
        let dictionary = Dictionary::try_new(id, bytes).map_err(unusable)?;
        self.known.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.insert(id, dictionary.clone());
            known
        });
        Ok(Some(dictionary))
    }

    /// The dictionary to compress with now: the newest, or none while it cannot be had, because
    /// a write does not fail for want of a better ratio.
    pub(crate) async fn newest(&self, deadline: Instant) -> Option<Arc<Dictionary>> {
        let id = self.leaders.directory().dictionary();
        match self.get(id, deadline).await {
            Ok(dictionary) => dictionary,
            Err(error) => {
                warn!(id, %error, "compressing without the dictionary");
                None
            }
        }
    }
}

async fn fetch(attempt: Attempt, id: u32) -> Result<Vec<u8>, CallError> {
    let Attempt { link, cluster, deadline } = attempt;
    let request = codec::encode(&GetDictionary { id }).into();
    match call::<Option<Vec<u8>>>(&link, "dictionary", Some(cluster), request, deadline).await? {
        Some(bytes) => Ok(bytes),
        // A follower that has not applied it yet: somebody else has, since its id is known.
        None => Err(CallError::Refused(Refusal::Unavailable {
            shard: ShardId::SYSTEM,
            reason: format!("dictionary {id} is not known there"),
        })),
    }
}
