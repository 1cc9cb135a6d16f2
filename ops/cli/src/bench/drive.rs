//! A closed loop: so many clients, each with one request under way, until the work is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use tokio::task::JoinSet;

/// A system that takes listings and answers when they are durable.
pub(super) trait Sink: Clone + Send + Sync + 'static {
    /// One request, ready to be sent.
    type Request: Clone + Send + Sync + 'static;

    /// Puts listings into the form of one request, outside of the time that is measured.
    fn request(&self, listings: &[Listing]) -> Self::Request;

    /// Sends it and waits until all of it is durable.
    fn send(
        &self,
        client: usize,
        request: Self::Request,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One listing to be written.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) id: String,
    pub(super) zip: String,
    pub(super) price: u64,
    pub(super) body: Bytes,
}

/// What one run took.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    pub(super) listings: usize,
    pub(super) took: Duration,
    /// Of each request, ascending.
    pub(super) latencies: Vec<Duration>,
}

impl Measured {
    /// Listings a second.
    pub(super) fn rate(&self) -> f64 {
        self.listings as f64 / self.took.as_secs_f64()
    }

    /// The latency that `per_cent` of the requests do not exceed.
    pub(super) fn latency(&self, per_cent: usize) -> Duration {
        let rank = (self.latencies.len() * per_cent).div_ceil(100).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Writes `listings` in requests of `batch` by `clients` at a time, no longer than `longest`.
pub(super) async fn drive<S: Sink>(
    sink: &S,
    listings: &[Listing],
    batch: usize,
    clients: usize,
    longest: Duration,
) -> anyhow::Result<Measured> {
    let requests: Vec<(usize, S::Request)> =
        listings.chunks(batch).map(|part| (part.len(), sink.request(part))).collect();
    let requests = Arc::new(requests);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (sink, requests, next) = (sink.clone(), requests.clone(), next.clone());
        running.spawn(async move {
            let (mut latencies, mut written) = (Vec::new(), 0);
            while began.elapsed() < longest {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((count, request)) = requests.get(at).cloned() else { break };
                let sent = Instant::now();
                sink.send(client, request).await?;
                latencies.push(sent.elapsed());
                written += count;
            }
            Ok::<_, anyhow::Error>((latencies, written))
        });
    }
    let mut measured = Measured::default();
    while let Some(ended) = running.join_next().await {
        let (latencies, written) = ended??;
        measured.latencies.extend(latencies);
        measured.listings += written;
    }
    measured.took = began.elapsed();
    measured.latencies.sort_unstable();
    ensure!(measured.listings > 0, "nothing was written within {} s", longest.as_secs());
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Sink for Kept {
        type Request = Vec<String>;

        fn request(&self, listings: &[Listing]) -> Vec<String> {
            listings.iter().map(|listing| listing.id.clone()).collect()
        }

        async fn send(&self, _client: usize, request: Vec<String>) -> anyhow::Result<()> {
            tokio::task::yield_now().await;
            self.0.lock().unwrap().extend(request);
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_listing_is_sent_once_whatever_the_batch() {
        let listing = |at: usize| {
            let (id, zip) = (format!("{at:03}"), "98103".to_string());
            Listing { id, zip, price: 1, body: Bytes::new() }
        };
        let listings: Vec<Listing> = (0..101).map(listing).collect();
        for batch in [1, 7, 200] {
            let sink = Kept::default();
            let longest = Duration::from_secs(60);
            let measured = drive(&sink, &listings, batch, 5, longest).await.unwrap();
            let mut sent = sink.0.lock().unwrap().clone();
            sent.sort_unstable();
            assert!(sent.iter().eq(listings.iter().map(|listing| &listing.id)));
            assert_eq!(
                (measured.listings, measured.latencies.len()),
                (101, 101_usize.div_ceil(batch))
            );
        }
    }
}
