//! Readers to whom nothing happens wait together: one lookout a shard follows its changes, without
//! the listings, for all of them.
//!
//! A reader who is up to date and hears nothing gives its own stream up, and opens it again where
//! it stands once the lookout has seen a later change. It misses nothing whatever the lookout does,
//! and many who wait cost the nodes one stream a shard instead of one each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use platbook_protocol::codec;
use platbook_protocol::follow::Told;
use platbook_protocol::token::Position;
use platbook_protocol::{Seq, ShardId};
use tokio::sync::watch;
use tracing::debug;

use super::source::{Source, Wish};
use crate::metrics::Metrics;
use crate::nodes::Directory;

/// What a lookout has seen of its shard.
#[derive(Clone, Debug)]
struct Seen {
    /// There are changes up to this one.
    newest: Seq,
    /// The last sign of life that came with a moment, encoded.
    sign: Option<Bytes>,
}

/// The lookouts of one router.
pub(crate) struct Lookouts {
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    by_shard: Mutex<BTreeMap<ShardId, watch::Sender<Seen>>>,
}

impl Lookouts {
    pub(crate) fn new(directory: Arc<Directory>, metrics: Arc<Metrics>) -> Arc<Lookouts> {
        Arc::new(Lookouts { directory, metrics, by_shard: Mutex::default() })
    }

    /// A place to wait for changes of the shard behind `at`.
    pub(crate) fn join(self: &Arc<Lookouts>, shard: ShardId, at: Seq) -> Rest {
        let seen = match self.by_shard().entry(shard) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => {
                let (seen, first) = watch::channel(Seen { newest: at, sign: None });
                entry.insert(seen.clone());
                tokio::spawn(self.clone().look(shard, at, seen));
                first
            }
        };
        self.metrics.followers_resting.add(1);
        Rest { seen, metrics: self.metrics.clone() }
    }

    /// Follows until nobody waits any more, or until the changes are gone: whoever waits then finds
    /// that out by asking.
    async fn look(self: Arc<Lookouts>, shard: ShardId, at: Seq, seen: watch::Sender<Seen>) {
        let wish = Wish { shard, zips: Vec::new(), is_live: true, with_bodies: false };
        let position = Position::Follow { seq: at };
        let mut source = Source::new(self.directory.clone(), wish, position);
        loop {
            tokio::select! {
                () = seen.closed() => {
                    if self.is_left(shard, &seen) {
                        return;
                    }
                }
                told = source.next() => match told {
                    Ok(Some(message)) => note(&seen, source.from(), message),
                    ended => {
                        debug!(%shard, ?ended, "lookout ended");
                        self.by_shard().remove(&shard);
                        return;
                    }
                }
            }
        }
    }

    /// Whether nobody waits; nobody can join any more then.
    fn is_left(&self, shard: ShardId, seen: &watch::Sender<Seen>) -> bool {
        let mut by_shard = self.by_shard();
        let is_left = seen.is_closed();
        if is_left {
            by_shard.remove(&shard);
        }
        is_left
    }

    fn by_shard(&self) -> MutexGuard<'_, BTreeMap<ShardId, watch::Sender<Seen>>> {
        self.by_shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(seen: &watch::Sender<Seen>, newest: Seq, message: Bytes) {
    let is_sign = codec::decode_borrowed(&message).is_ok_and(|told| is_quiet(&told));
    seen.send_if_modified(|seen| {
        let is_later = newest > seen.newest;
        seen.newest = newest;
        if is_sign {
            seen.sign = Some(message);
        }
        is_later || is_sign
    });
}

/// Whether a node says by this that nothing has happened for a while: it has made sure of a moment.
pub(crate) fn is_quiet(told: &Told<'_>) -> bool {
    matches!(told, Told::Resolved { at: Some(_), .. })
}

/// A reader's place beside a lookout.
pub(crate) struct Rest {
    seen: watch::Receiver<Seen>,
    metrics: Arc<Metrics>,
}

impl Rest {
    /// The next sign of life of the shard; `None` once there may be something to read behind `at`.
    pub(crate) async fn sign(&mut self, at: Seq) -> Option<Bytes> {
        loop {
            if self.seen.borrow().newest > at {
                return None;
            }
            // An error: the lookout has ended.
            self.seen.changed().await.ok()?;
            let seen = self.seen.borrow_and_update().clone();
            if seen.newest <= at && seen.sign.is_some() {
                return seen.sign;
            }
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.metrics.followers_resting.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use platbook_protocol::TimeMs;

    use super::*;

    fn quiet(seq: u64) -> Bytes {
        let mut out = Vec::new();
        Told::Resolved { seq: Seq(seq), at: Some(TimeMs(7)) }.push(&mut out);
        Bytes::from(out).slice(4..)
    }

    fn rest(newest: u64) -> (watch::Sender<Seen>, Rest) {
        let (tx, seen) = watch::channel(Seen { newest: Seq(newest), sign: None });
        let metrics = Arc::new(Metrics::default());
        metrics.followers_resting.add(1);
        (tx, Rest { seen, metrics })
    }

    #[test]
    fn signs_are_passed_on_and_a_later_change_wakes() {
        let (seen, mut rest) = rest(5);
        assert_eq!(rest.sign(Seq(5)).now_or_never(), None, "nothing has happened");
        note(&seen, Seq(5), quiet(5));
        assert_eq!(rest.sign(Seq(5)).now_or_never(), Some(Some(quiet(5))));
        assert_eq!(rest.sign(Seq(5)).now_or_never(), None, "a sign is told once");
        note(&seen, Seq(6), Bytes::new());
        assert_eq!(rest.sign(Seq(5)).now_or_never(), Some(None));
    }

    #[test]
    fn a_reader_ahead_of_the_lookout_waits_until_it_is_overtaken() {
        let (seen, mut rest) = rest(5);
        note(&seen, Seq(8), Bytes::new());
        assert_eq!(rest.sign(Seq(8)).now_or_never(), None);
        note(&seen, Seq(9), Bytes::new());
        assert_eq!(rest.sign(Seq(8)).now_or_never(), Some(None));
    }

    #[test]
    fn a_reader_that_is_behind_or_alone_does_not_wait() {
        let (seen, mut rest) = rest(5);
        assert_eq!(rest.sign(Seq(4)).now_or_never(), Some(None));
        drop(seen);
        assert_eq!(rest.sign(Seq(5)).now_or_never(), Some(None), "its lookout has ended");
        let metrics = rest.metrics.clone();
        drop(rest);
        assert_eq!(metrics.followers_resting.get(), 0);
    }
}
