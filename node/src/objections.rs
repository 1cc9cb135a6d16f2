//! What callers are refused for: counted always, logged once and not once per try.
//!
//! The port can be reached by anything: a port scanner, a router of another version, a node of
//! another cluster that retries ten times a second. Each of them deserves one line that names it,
//! and none may fill the log.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use platbook_protocol::NodeId;
use tokio::time::Instant;
use tracing::warn;

/// How long nothing is said about what was said before.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// Callers and kinds that are remembered; beyond, refusals are only counted.
const KNOWN_MAX: usize = 1024;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Bytes that are no HTTP.
    Transport,
    /// Another version of the protocol.
    Protocol,
    /// Another cluster, or a node that has this one's number.
    Cluster,
    /// A link whose bytes are no messages.
    Link,
    /// A call that cannot be decoded, or asks for what cannot be.
    Request,
}

/// Who was refused, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    /// As it says.
    pub(crate) node: Option<NodeId>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{} (node {node})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// The refusals of one node. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Objections {
    count: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
}

impl Objections {
    /// Counts a refusal; says so if it was not said lately.
    pub(crate) fn note(&self, caller: Caller, kind: Kind, objection: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let news = self.known.lock().expect("never poisoned").on((caller, kind), Instant::now());
        if let Some(unsaid) = news {
            warn!(%caller, ?kind, objection, unsaid, "caller refused");
        }
    }

    /// Refusals since the start.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

type Key = (Caller, Kind);

/// When something was said last, and how often it was not said since.
#[derive(Default)]
struct Known(HashMap<Key, (Instant, u64)>);

impl Known {
    /// How many refusals went unsaid before this one, if this one should be said.
    fn on(&mut self, key: Key, now: Instant) -> Option<u64> {
        let is_quiet = |said: Instant| now.saturating_duration_since(said) < QUIET;
        if let Some((said, unsaid)) = self.0.get_mut(&key) {
            if is_quiet(*said) {
                *unsaid += 1;
                return None;
            }
            *said = now;
            return Some(std::mem::take(unsaid));
        }
        if self.0.len() >= KNOWN_MAX {
            self.0.retain(|_, (said, _)| is_quiet(*said));
        }
        if self.0.len() >= KNOWN_MAX {
            return None;
        }
        self.0.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(last: u32) -> Caller {
        let address = std::net::Ipv4Addr::from(0x7f00_0000 + last);
        Caller { address: address.into(), node: None }
    }

    #[test]
    fn a_refusal_is_said_once_and_again_with_a_count_when_it_goes_on() {
        let (mut known, start) = (Known::default(), Instant::now());
        let key = (caller(1), Kind::Cluster);
        assert_eq!(known.on(key, start), Some(0));
        assert_eq!(known.on(key, start + QUIET / 2), None);
        assert_eq!(known.on(key, start + QUIET / 2), None);
        assert_eq!(known.on((caller(1), Kind::Protocol), start + QUIET / 2), Some(0));
        assert_eq!(known.on((caller(2), Kind::Cluster), start + QUIET / 2), Some(0));
        assert_eq!(known.on(key, start + QUIET), Some(2));
        assert_eq!(known.on(key, start + QUIET), None);
    }

    #[test]
    fn any_number_of_callers_takes_bounded_memory() {
        let (mut known, start) = (Known::default(), Instant::now());
        let said = |known: &mut Known, now| {
            (0..5_000).filter(|i| known.on((caller(*i), Kind::Link), now).is_some()).count()
        };
        assert_eq!(said(&mut known, start), KNOWN_MAX);
        assert_eq!(known.0.len(), KNOWN_MAX);
        assert_eq!(said(&mut known, start + QUIET), KNOWN_MAX);
    }
}
