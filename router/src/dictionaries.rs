//! Dictionaries for frames, fetched once by id and kept: they are few, and ids are never reused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
    /// The newest one is on its way.
    is_fetching: AtomicBool,
}

/// How long one attempt to fetch the newest dictionary lasts.
const FETCH_MS_MAX: u64 = 5_000;

impl Dictionaries {
    /// Fetches by `leaders`.
    pub(crate) fn new(leaders: Leaders) -> Dictionaries {
        Dictionaries { leaders, known: ArcSwap::default(), is_fetching: AtomicBool::new(false) }
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

    /// The dictionary to compress with now. A write neither waits nor fails for want of a better
    /// ratio: while the newest one is being fetched, the newest that is here serves.
    pub(crate) fn newest(self: &Arc<Self>) -> Option<Arc<Dictionary>> {
        let id = self.leaders.directory().dictionary();
        let known = self.known.load();
        if let Some(dictionary) = known.get(&id) {
            return Some(dictionary.clone());
        }
        if id != 0 && !self.is_fetching.swap(true, Ordering::AcqRel) {
            let this = self.clone();
            tokio::spawn(async move {
                let deadline = Instant::now() + Duration::from_millis(FETCH_MS_MAX);
                if let Err(error) = this.get(id, deadline).await {
                    warn!(id, %error, "compressing without the newest dictionary");
                }
                this.is_fetching.store(false, Ordering::Release);
            });
        }
        known.last_key_value().map(|(_, dictionary)| dictionary.clone())
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
