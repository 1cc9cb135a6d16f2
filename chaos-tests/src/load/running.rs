//! All clients together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::client::Client;
use super::place::Place;
use super::record::{Outcome, Tally};
use crate::{Error, wait};

/// Longest wait until every client has written once.
const FIRST_WRITES_WITHIN: Duration = Duration::from_secs(30);

/// Running clients. Dropping it ends them.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    shard: u32,
    tally: Arc<Mutex<Tally>>,
    /// `None` only while the load ends.
    task: Option<JoinHandle<Client>>,
}

impl Load {
    /// Starts a client for each place, and waits until each of them has written.
    pub async fn start(router: &str, places: Vec<Place>, pause: Duration) -> Result<Load, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = places.into_iter().map(|place| {
            let (shard, tally) = (place.shard, Arc::new(Mutex::default()));
            let client = Client::new(router, place, Arc::clone(&tally));
            let task = Some(tokio::spawn(client.run(pause, Arc::clone(&stop))));
            Running { shard, tally, task }
        });
        let load = Load { clients: clients.collect(), stop };
        let wrote = |client: &Running| client.look(|t| t.writes_that(Outcome::Done) > 0);
        wait::until("every client has written", FIRST_WRITES_WITHIN, async || {
            match load.clients.iter().filter(|client| !wrote(client)).count() {
                0 => Ok(()),
                left => Err(format!("{left} have not")),
            }
        })
        .await?;
        Ok(load)
    }

    /// How long after `from` the shard acknowledged a write that was sent after it.
    pub fn acknowledged_after(&self, shard: u32, from: Instant) -> Option<Duration> {
        let clients = self.clients.iter().filter(|client| client.shard == shard);
        clients.filter_map(|client| client.look(|tally| tally.acknowledged_after(from))).min()
    }

    /// Acknowledged writes so far.
    pub fn acknowledged(&self) -> usize {
        self.clients.iter().map(|c| c.look(|tally| tally.writes_that(Outcome::Done))).sum()
    }

    /// Whether a read went back so far; no use to go on then.
    pub fn went_back(&self) -> bool {
        self.clients.iter().any(|client| client.look(|tally| tally.reads_back.count > 0))
    }

    /// Lets the clients finish what they are at, then looks for every listing once more.
    pub async fn end(mut self) -> Result<Tally, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for running in &mut self.clients {
            let task = running.task.take().expect("a load ends once");
            let ended = task.await;
            let mut client = ended.map_err(|panic| Error::Malformed {
                what: "a client of the load".to_string(),
                reason: panic.to_string(),
            })?;
            client.look_for_lost().await;
            running.look(|tally| all.add(tally));
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.iter().filter_map(|client| client.task.as_ref()).for_each(JoinHandle::abort);
    }
}

impl Running {
    fn look<T>(&self, with: impl FnOnce(&Tally) -> T) -> T {
        with(&self.tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
