//! Trains the cluster's first dictionary from the first listings that pass through.
//!
//! Several routers may do so at a time: the system shard keeps the first one, and all use that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platbook_protocol::frame::{is_enough_to_train, train_dictionary};
use platbook_protocol::rpc::PutDictionary;
use platbook_protocol::{ShardId, codec};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cpu;
use crate::nodes::Leaders;

/// Listings above this size are no samples: a few of them would speak for all.
const SAMPLE_BYTES_MAX: usize = 32 << 10;
/// How long to try to hand the dictionary in.
const PUT_MS_MAX: u64 = 30_000;

/// Gathers samples until there are enough, once.
pub(crate) struct Trainer {
    leaders: Leaders,
    samples: Mutex<Samples>,
    is_gathering: AtomicBool,
}

#[derive(Default)]
struct Samples {
    listings: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Trainer {
    /// Hands what it trains in to the leader of the system shard.
    pub(crate) fn new(leaders: Leaders) -> Arc<Trainer> {
        let (samples, is_gathering) = (Mutex::default(), AtomicBool::new(true));
        Arc::new(Trainer { leaders, samples, is_gathering })
    }

    /// Takes a minified listing as a sample, where samples are still wanted. To be called within
    /// the runtime: the listing that makes them enough starts the training.
    pub(crate) fn offer(self: &Arc<Self>, listing: &[u8]) {
        if !self.is_gathering.load(Ordering::Relaxed) || listing.len() > SAMPLE_BYTES_MAX {
            return;
        }
        let is_trained = self.leaders.directory().dictionary() != 0;
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if is_trained {
            self.is_gathering.store(false, Ordering::Relaxed);
            *samples = Samples::default();
            return;
        }
        samples.listings.push(listing.into());
        samples.bytes += listing.len();
        // Checked under the lock, so that one training starts for one set of samples.
        if is_enough_to_train(samples.listings.len(), samples.bytes)
            && self.is_gathering.swap(false, Ordering::Relaxed)
        {
            let enough = std::mem::take(&mut *samples);
            let this = self.clone();
            tokio::spawn(async move { this.train(enough).await });
        }
    }

    async fn train(self: Arc<Self>, samples: Samples) {
        let Samples { listings, bytes } = samples;
        info!(listings = listings.len(), bytes, "training a dictionary");
        let trained = cpu::blocking(move || train_dictionary(&listings)).await;
        let bytes = match trained {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return self.gather_again(&error),
            Err(error) => return self.gather_again(&error),
        };
        let request = codec::encode(&PutDictionary { latest: 0, bytes });
        let deadline = Instant::now() + Duration::from_millis(PUT_MS_MAX);
        let encode = || request.clone().into();
        match self.leaders.once::<u32>(ShardId::SYSTEM, "put-dictionary", deadline, encode).await {
            Ok(id) => {
                info!(id, "dictionary");
                self.leaders.directory().learn_dictionary(id);
            }
            Err(error) => self.gather_again(&error),
        }
    }

    /// Starts anew: the next samples may do better, or the system shard be there.
    fn gather_again(&self, error: &dyn std::error::Error) {
        warn!(%error, "no dictionary yet");
        self.is_gathering.store(true, Ordering::Relaxed);
    }
}
