//! Finds the leader of a shard and asks it. The one place that retries.
//!
//! Every request of the router is idempotent: reads by nature, the steps of a write by their rules.
//! So whatever is not a final answer is asked again, here or elsewhere, until the deadline. What is
//! kept apart is only what the caller may conclude if no attempt brings an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bincode::Decode;
use bytes::Bytes;
use platbook_protocol::map::ClusterId;
use platbook_protocol::rpc::Refusal;
use platbook_protocol::{NodeId, ShardId};
use rand::RngExt;
use tokio::time::Instant;
use tracing::debug;

use super::call::{CallError, call};
use super::directory::Directory;
use super::link::Link;
use crate::error::Failure;

/// Pause after the first fruitless attempt; doubled up to [`PAUSE_MS_MAX`], with jitter.
const PAUSE_MS_MIN: u64 = 5;
/// Longest pause between two attempts.
const PAUSE_MS_MAX: u64 = 100;
/// How often in a row another node is asked without a pause: the one that a node's word names, or
/// the next one where a node is away.
const HOPS_MAX: u32 = 2;
/// What a client is told to wait when a deadline ended in overload.
const RETRY_AFTER_MS: u32 = 1_000;

/// Whether a write may have reached a node that has not answered that it had no effect. Shared
/// with those who wait for it, because their deadlines may end before the attempts do.
#[derive(Debug, Default)]
pub(crate) struct OnTheWire(AtomicBool);

impl OnTheWire {
    /// Whether it may have, or get, an effect.
    pub(crate) fn maybe(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Notes that a write leaves, or that it certainly had no effect.
    pub(crate) fn set(&self, maybe: bool) {
        self.0.store(maybe, Ordering::Release);
    }
}

/// One attempt: the node to ask, and what to say.
pub(crate) struct Attempt {
    /// The node.
    pub(crate) link: Link,
    /// The cluster that it must belong to.
    pub(crate) cluster: ClusterId,
    /// When the caller gives up.
    pub(crate) deadline: Instant,
}

impl Attempt {
    /// Milliseconds that are left, as requests carry them.
    pub(crate) fn deadline_ms(&self) -> u32 {
        let left = self.deadline.saturating_duration_since(Instant::now());
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Asks leaders of shards.
#[derive(Clone)]
pub(crate) struct Leaders {
    directory: Arc<Directory>,
}

impl Leaders {
    /// Asks by what `directory` knows, and teaches it.
    pub(crate) fn new(directory: Arc<Directory>) -> Leaders {
        Leaders { directory }
    }

    /// What is known of the cluster.
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Reads from the leader of `shard`: `encode` gets the milliseconds left.
    pub(crate) async fn read<A: Decode<()>>(
        &self,
        shard: ShardId,
        name: &str,
        deadline: Instant,
        encode: impl Fn(u32) -> Bytes,
    ) -> Result<A, Failure> {
        self.ask(shard, deadline, None, |attempt| {
            let request = encode(attempt.deadline_ms());
            async move {
                let Attempt { link, cluster, deadline } = attempt;
                call(&link, name, Some(cluster), request, deadline).await
            }
        })
        .await
    }

    /// Proposes to the leader of `shard`; `wire` tells at any time what may be concluded.
    pub(crate) async fn propose<A: Decode<()>>(
        &self,
        shard: ShardId,
        deadline: Instant,
        wire: &OnTheWire,
        encode: impl Fn(u32) -> Bytes,
    ) -> Result<A, Failure> {
        self.ask(shard, deadline, Some(wire), |attempt| {
            let request = encode(attempt.deadline_ms());
            async move {
                let Attempt { link, cluster, deadline } = attempt;
                call(&link, "propose", Some(cluster), request, deadline).await
            }
        })
        .await
    }

    /// Asks the leader of `shard` for something that must not happen twice: it is asked again only
    /// while it certainly did not happen.
    pub(crate) async fn once<A: Decode<()>>(
        &self,
        shard: ShardId,
        name: &str,
        deadline: Instant,
        encode: impl Fn() -> Bytes,
    ) -> Result<A, Failure> {
        let attempt = |attempt: Attempt| {
            let request = encode();
            async move {
                let Attempt { link, cluster, deadline } = attempt;
                match call(&link, name, Some(cluster), request, deadline).await {
                    Ok(answer) => Ok(Ok(answer)),
                    Err(CallError::Broken(reason)) => Ok(Err(reason)),
                    Err(CallError::Refused(Refusal::Unknown { reason, .. })) => {
                        Ok(Err(reason.into()))
                    }
                    Err(error @ (CallError::NotSent(_) | CallError::Refused(_))) => Err(error),
                }
            }
        };
        let answer = self.ask(shard, deadline, None, attempt).await?;
        answer.map_err(|reason| Failure::Unknown { shard, reason })
    }

    /// Runs `attempt` against the leader of `shard` until it is answered or the deadline is over.
    pub(crate) async fn ask<T, F, Fut>(
        &self,
        shard: ShardId,
        deadline: Instant,
        wire: Option<&OnTheWire>,
        attempt: F,
    ) -> Result<T, Failure>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<T, CallError>>,
    {
        let mut search = Search::new(shard);
        loop {
            if let Some((node, link, cluster)) = search.target(&self.directory) {
                // What an earlier attempt left open stays open whatever this one answers.
                wire.inspect(|wire| wire.set(true));
                match attempt(Attempt { link, cluster, deadline }).await {
                    Ok(answer) => {
                        self.directory.set_leader(shard, Some(node));
                        return Ok(answer);
                    }
                    Err(error) => {
                        debug!(%shard, %node, %error, "attempt failed");
                        search.on_error(&self.directory, node, error)?;
                    }
                }
                wire.inspect(|wire| wire.set(search.uncertain));
            }
            let pause = search.pause();
            if Instant::now() + pause >= deadline {
                return Err(search.give_up(wire.is_some()));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Where to ask next, and what the attempts so far allow to conclude.
struct Search {
    shard: ShardId,
    turn: usize,
    follow: Option<NodeId>,
    /// The node that was asked is away: another one may know.
    is_away: bool,
    hops: u32,
    pause_ms: u64,
    wait_ms: u32,
    /// An attempt may have had an effect.
    uncertain: bool,
    overloaded: bool,
    reason: Arc<str>,
}

impl Search {
    fn new(shard: ShardId) -> Search {
        Search {
            shard,
            turn: rand::rng().random_range(0..1024_usize),
            follow: None,
            is_away: false,
            hops: 0,
            pause_ms: PAUSE_MS_MIN,
            wait_ms: 0,
            uncertain: false,
            overloaded: false,
            reason: "no map yet".into(),
        }
    }

    fn target(&mut self, directory: &Directory) -> Option<(NodeId, Link, ClusterId)> {
        let map = directory.map()?;
        let Some(shard) = map.shard(self.shard) else {
            self.reason = "not in the map".into();
            return None;
        };
        let known = self.follow.take().or_else(|| directory.leader(self.shard));
        let node = match known {
            Some(node) => node,
            None => {
                self.turn = self.turn.wrapping_add(1);
                shard.replicas.get(self.turn % shard.replicas.len().max(1))?.node
            }
        };
        match directory.link(node) {
            Some(link) => Some((node, link, map.cluster)),
            None => {
                directory.set_leader(self.shard, None);
                self.reason = format!("node {node} is not in the map").into();
                None
            }
        }
    }

    /// Notes what an error means; answers only where asking again is of no use.
    fn on_error(
        &mut self,
        directory: &Directory,
        node: NodeId,
        error: CallError,
    ) -> Result<(), Failure> {
        let shard = self.shard;
        self.overloaded = false;
        self.is_away = matches!(error, CallError::NotSent(_));
        self.wait_ms = 0;
        self.reason = error.to_string().into();
        let reason = self.reason.clone();
        match error {
            CallError::NotSent(_) => directory.set_leader(shard, None),
            CallError::Broken(_) => {
                self.uncertain = true;
                directory.set_leader(shard, None);
            }
            CallError::Refused(refusal) => match refusal {
                Refusal::NotLeader { leader: Some(leader), .. } if leader != node => {
                    directory.set_leader(shard, Some(leader));
                    self.follow = Some(leader);
                }
                Refusal::NotLeader { .. } | Refusal::Unavailable { .. } => {
                    directory.set_leader(shard, None);
                }
                Refusal::WrongShard { .. } => {
                    directory.set_leader(shard, None);
                    directory.mark_outdated();
                }
                Refusal::Overloaded { retry_after_ms } => {
                    self.overloaded = true;
                    self.wait_ms = retry_after_ms;
                }
                Refusal::Unknown { .. } => self.uncertain = true,
                // With an attempt still open, "no effect" would be a lie about that one.
                Refusal::DiskFull { .. } if self.uncertain => {
                    return Err(Failure::Unknown { shard, reason });
                }
                Refusal::DiskFull { .. } => return Err(Failure::DiskFull { shard }),
                Refusal::BadRequest { .. } if self.uncertain => {
                    return Err(Failure::Unknown { shard, reason });
                }
                Refusal::BadRequest { .. } => return Err(Failure::Refused { shard, reason }),
            },
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        if (self.follow.is_some() || self.is_away) && self.hops < HOPS_MAX {
            self.hops += 1;
            return Duration::ZERO;
        }
        self.hops = 0;
        let jittered = rand::rng().random_range(self.pause_ms / 2..=self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
        Duration::from_millis(jittered.max(u64::from(self.wait_ms)))
    }

    fn give_up(&self, is_write: bool) -> Failure {
        let (shard, reason) = (self.shard, self.reason.clone());
        if self.uncertain && is_write {
            Failure::Unknown { shard, reason }
        } else if self.overloaded {
            Failure::Overloaded { shard, retry_after_ms: self.wait_ms.max(RETRY_AFTER_MS) }
        } else {
            Failure::Unavailable { shard, reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn after(errors: Vec<CallError>) -> (Search, Result<(), Failure>) {
        let directory = Directory::new(&[]);
        let mut search = Search::new(SHARD);
        let mut last = Ok(());
        for error in errors {
            last = search.on_error(&directory, NodeId(1), error);
        }
        (search, last)
    }

    fn broken() -> CallError {
        CallError::Broken("connection reset".into())
    }

    #[test]
    fn a_broken_propose_stays_unknown_whatever_later_attempts_are_told() {
        let elsewhere = CallError::Refused(Refusal::NotLeader { shard: SHARD, leader: None });
        let (search, _) = after(vec![broken(), elsewhere]);
        assert!(search.give_up(true).is_unknown());
        let full = CallError::Refused(Refusal::DiskFull { shard: SHARD });
        let (_, last) = after(vec![broken(), full.clone()]);
        assert!(last.expect_err("final").is_unknown());
        let (_, last) = after(vec![full]);
        assert_eq!(last, Err(Failure::DiskFull { shard: SHARD }));
    }

    #[test]
    fn a_broken_read_is_unavailable_and_never_unknown() {
        let (search, _) = after(vec![broken()]);
        assert!(matches!(search.give_up(false), Failure::Unavailable { .. }));
    }

    #[test]
    fn refusals_without_effect_end_as_unavailable_or_overloaded() {
        let (search, _) = after(vec![CallError::NotSent("refused".into())]);
        assert!(matches!(search.give_up(true), Failure::Unavailable { .. }));
        let overloaded = CallError::Refused(Refusal::Overloaded { retry_after_ms: 1_500 });
        let (search, _) = after(vec![overloaded]);
        let expected = Failure::Overloaded { shard: SHARD, retry_after_ms: 1_500 };
        assert_eq!(search.give_up(true), expected);
    }

    #[test]
    fn a_node_that_is_away_is_no_reason_to_wait_before_the_next_is_asked() {
        let away = || CallError::NotSent("connection refused".into());
        let (mut search, _) = after(vec![away()]);
        assert!(search.pause().is_zero());
        let (mut search, _) = after(vec![away(), broken()]);
        assert!(!search.pause().is_zero());
        let (mut search, _) = after(vec![away()]);
        let pauses: Vec<Duration> = (0..=HOPS_MAX).map(|_| search.pause()).collect();
        assert!(!pauses[HOPS_MAX as usize].is_zero(), "all may be away");
    }

    #[test]
    fn two_nodes_that_name_each_other_are_not_asked_without_a_pause() {
        let (mut search, _) = after(Vec::new());
        let mut pauses = Vec::new();
        for _ in 0..=HOPS_MAX {
            search.follow = Some(NodeId(2));
            pauses.push(search.pause());
        }
        assert!(pauses[..HOPS_MAX as usize].iter().all(|pause| pause.is_zero()));
        assert!(!pauses[HOPS_MAX as usize].is_zero());
    }
}
