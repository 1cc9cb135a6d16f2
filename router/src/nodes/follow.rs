//! Keeps the directory up to date: asks one node after the other for a newer map.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::codec;
use platbook_protocol::rpc::{GetMap, MapAnswer};
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::call::call;
use super::directory::Directory;
use super::link::Link;

/// How long a node holds the question while it has no newer map. Also how late the router may
/// learn of a new dictionary or, while nobody writes, of a new leader.
const WAIT_MS: u32 = 5_000;
/// What the network may add to that.
const GRACE_MS: u64 = 2_000;
/// Pause after a node that did not answer, with jitter; also the least time between two questions.
const PAUSE_MS: u64 = 100;

/// Follows the map until `stop`.
pub(crate) async fn follow(directory: Arc<Directory>, stop: CancellationToken) {
    let mut turn = rand::rng().random_range(0..1024_usize);
    let mut wait_ms = 0;
    loop {
        let links = directory.links();
        let link = &links[turn % links.len()];
        let asked = tokio::select! {
            learned = ask(&directory, link, wait_ms) => Some(learned),
            () = directory.outdated() => None,
            () = stop.cancelled() => return,
        };
        wait_ms = match asked {
            Some(true) => WAIT_MS,
            // Somebody met a node with a newer map: ask the next one, and at once.
            Some(false) | None => {
                turn = turn.wrapping_add(1);
                0
            }
        };
        let pause = rand::rng().random_range(PAUSE_MS / 2..=PAUSE_MS);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Asks one node; true if it answered for our cluster and has formed it.
async fn ask(directory: &Directory, link: &Link, wait_ms: u32) -> bool {
    let map = directory.map();
    let known_epoch = map.as_ref().map_or(0, |map| map.epoch);
    let request = codec::encode(&GetMap { known_epoch, wait_ms });
    let deadline = Instant::now() + Duration::from_millis(u64::from(wait_ms) + GRACE_MS);
    let cluster = map.map(|map| map.cluster);
    match call::<MapAnswer>(link, "map", cluster, request.into(), deadline).await {
        Ok(answer) => {
            let formed = answer.map.is_some();
            directory.learn(answer) && formed
        }
        Err(error) => {
            debug!(node = link.address(), %error, "map not learned");
            false
        }
    }
}
