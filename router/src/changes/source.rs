//! One shard's changes, from whichever replica has them.
//!
//! The leader is asked first, then the others. A connection that breaks is replaced, from the
//! position behind the last message: no message is lost or told twice. Where nothing happens, it is
//! given up in favour of a lookout.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use platbook_protocol::codec;
use platbook_protocol::follow::{Follow, FollowStart, TOLD_BYTES_MAX, Told};
use platbook_protocol::map::ClusterId;
use platbook_protocol::rpc::Refusal;
use platbook_protocol::token::Position;
use platbook_protocol::{NodeId, Seq, ShardId, Zip};
use tokio::time::Instant;
use tracing::debug;

use super::lookout::{self, Lookouts, Rest};
use super::position::advance;
use crate::nodes::Directory;
use crate::nodes::call;
use crate::nodes::link::Link;

/// Pauses between two rounds over all replicas.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// How long a replica may take to begin.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A replica that is silent for so long is given up: it owes a sign of life every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why there is nothing more to be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceEnd {
    /// No replica has the changes behind the position any more.
    #[error(
        "the changes of shard {shard} behind {from} are gone, the earliest is behind {earliest}"
    )]
    Gone {
        /// The shard.
        shard: ShardId,
        /// The position.
        from: Seq,
        /// The earliest position that can be followed from.
        earliest: Seq,
        /// The last change.
        newest: Seq,
    },
    /// The leader knows of no such change.
    #[error("shard {shard} has {newest} changes, none of number {from}")]
    Future {
        /// The shard.
        shard: ShardId,
        /// The position.
        from: Seq,
        /// The last change.
        newest: Seq,
    },
    /// The position belongs to another shard.
    #[error("the position does not belong to shard {shard}")]
    Foreign {
        /// The shard.
        shard: ShardId,
    },
    /// Nobody could be asked in time.
    #[error("shard {shard} is unavailable: {reason}")]
    Unavailable {
        /// The shard.
        shard: ShardId,
        /// What the last one said.
        reason: Arc<str>,
    },
}

/// What one shard is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) shard: ShardId,
    pub(crate) zips: Vec<Zip>,
    pub(crate) is_live: bool,
    pub(crate) with_bodies: bool,
}

/// One shard's changes.
pub(crate) struct Source {
    directory: Arc<Directory>,
    wish: Wish,
    position: Position,
    open: Option<Messages>,
    /// Who waits for the changes of readers that are up to date; none waits itself.
    lookouts: Option<Arc<Lookouts>>,
    rest: Option<Rest>,
    turn: usize,
    pause: Duration,
    reason: Arc<str>,
}

/// What an attempt at one replica came to.
enum Attempt {
    Open(Messages),
    Ended(SourceEnd),
    Gone { earliest: Seq, newest: Seq },
    Failed(Arc<str>, Option<NodeId>),
}

impl Source {
    pub(crate) fn new(directory: Arc<Directory>, wish: Wish, position: Position) -> Source {
        let (pause, reason) = (PAUSE_MIN, "no map yet".into());
        let (open, lookouts, rest) = (None, None, None);
        Source { directory, wish, position, open, lookouts, rest, turn: 0, pause, reason }
    }

    /// The same, which waits with others where nothing happens.
    pub(crate) fn with_lookouts(self, lookouts: Arc<Lookouts>) -> Source {
        Source { lookouts: Some(lookouts), ..self }
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.wish.shard
    }

    /// The same for a position behind which the shard has nothing: it begins without a stream.
    pub(crate) fn at_newest(mut self) -> Source {
        self.go_to_rest();
        self
    }

    /// Opens the stream, so that what is wrong with the position is known before anything is told.
    pub(crate) async fn open(&mut self, deadline: Instant) -> Result<(), SourceEnd> {
        while self.open.is_none() && self.rest.is_none() {
            self.round().await?;
            if self.open.is_none() && Instant::now() + self.pause >= deadline {
                let (shard, reason) = (self.shard(), self.reason.clone());
                return Err(SourceEnd::Unavailable { shard, reason });
            }
            if self.open.is_none() {
                self.pause().await;
            }
        }
        Ok(())
    }

    /// The next message, encoded; waits for as long as it takes. `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceEnd> {
        loop {
            if let Some(rest) = &mut self.rest {
                let at = behind(&self.position);
                if let Some(sign) = rest.sign(at).await {
                    return Ok(Some(sign));
                }
                self.rest = None;
            }
            let Some(open) = &mut self.open else {
                self.round().await?;
                if self.open.is_none() {
                    self.pause().await;
                }
                continue;
            };
            let message = match open.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(reason) => {
                    self.fail(reason);
                    continue;
                }
            };
            match codec::decode_borrowed::<Told<'_>>(&message) {
                Ok(Told::End) => return Ok(None),
                // Another replica may have them.
                Ok(Told::Gone { .. }) => {
                    self.open = None;
                    continue;
                }
                Ok(told) => {
                    advance(&mut self.position, &told);
                    if lookout::is_quiet(&told) {
                        self.go_to_rest();
                    }
                }
                Err(error) => {
                    self.fail(error.to_string().into());
                    continue;
                }
            }
            self.pause = PAUSE_MIN;
            return Ok(Some(message));
        }
    }

    fn fail(&mut self, reason: Arc<str>) {
        debug!(shard = %self.shard(), %reason, "changes broke off");
        self.open = None;
        self.reason = reason;
    }

    /// Gives the stream up until there is something to read.
    fn go_to_rest(&mut self) {
        let may_rest = self.wish.is_live && matches!(self.position, Position::Follow { .. });
        if let Some(lookouts) = self.lookouts.as_ref().filter(|_| may_rest) {
            self.rest = Some(lookouts.join(self.shard(), self.from()));
            self.open = None;
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Behind which change it reads.
    pub(crate) fn from(&self) -> Seq {
        behind(&self.position)
    }

    /// Asks the leader, if one is known, then every replica once.
    async fn round(&mut self) -> Result<(), SourceEnd> {
        let shard = self.shard();
        let Some(map) = self.directory.map() else { return Ok(()) };
        let Some(placed) = map.shard(shard) else {
            return Err(SourceEnd::Foreign { shard });
        };
        self.turn = self.turn.wrapping_add(1);
        let mut nodes: Vec<NodeId> = placed.replicas.iter().map(|replica| replica.node).collect();
        let places = nodes.len().max(1);
        nodes.rotate_left(self.turn % places);
        let leader = self.directory.leader(shard);
        nodes.sort_by_key(|node| Some(*node) != leader);
        let (mut gone, mut asked) = (Vec::new(), 0);
        let mut at = 0;
        while at < nodes.len() && asked <= places {
            let node = nodes[at];
            at += 1;
            asked += 1;
            let Some(link) = self.directory.link(node) else { continue };
            match self.attempt(&link, map.cluster).await {
                Attempt::Open(open) => {
                    self.open = Some(open);
                    return Ok(());
                }
                Attempt::Ended(end) => return Err(end),
                Attempt::Gone { earliest, newest } => gone.push((earliest, newest)),
                Attempt::Failed(reason, hint) => {
                    debug!(%shard, %node, %reason, "changes not opened");
                    self.reason = reason;
                    if let Some(leader) = hint {
                        self.directory.set_leader(shard, Some(leader));
                    }
                }
            }
        }
        // Only when all say so: one that is away may still have them.
        let earliest = gone.iter().map(|(earliest, _)| *earliest).min();
        let newest = gone.iter().map(|(_, newest)| *newest).max();
        match earliest.zip(newest) {
            Some((earliest, newest)) if gone.len() == nodes.len() => {
                Err(SourceEnd::Gone { shard, from: self.from(), earliest, newest })
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn attempt(&self, link: &Link, cluster: ClusterId) -> Attempt {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let Wish { shard, zips, is_live, with_bodies } = self.wish.clone();
        let deadline_ms = OPEN_TIMEOUT.as_millis() as u32;
        let from = self.position.clone();
        let follow = Follow { shard, deadline_ms, from, zips, is_live, with_bodies };
        let request = codec::encode(&follow).into();
        let failed = |reason: String| Attempt::Failed(reason.into(), None);
        let response = match call::open(link, "follow", Some(cluster), request, deadline).await {
            Ok(response) => response,
            Err(error) => return failed(error.to_string()),
        };
        let mut messages = Messages { body: response.into_body(), held: BytesMut::new() };
        let first = match messages.next().await {
            Ok(Some(first)) => first,
            Ok(None) => return failed("the answer is empty".into()),
            Err(reason) => return Attempt::Failed(reason, None),
        };
        match codec::decode::<Result<FollowStart, Refusal>>(&first) {
            Ok(Ok(FollowStart::Serving)) => Attempt::Open(messages),
            Ok(Ok(FollowStart::Gone { earliest, newest })) => Attempt::Gone { earliest, newest },
            Ok(Ok(FollowStart::Future { newest })) => {
                Attempt::Ended(SourceEnd::Future { shard, from: self.from(), newest })
            }
            Ok(Ok(FollowStart::Foreign)) => Attempt::Ended(SourceEnd::Foreign { shard }),
            Ok(Err(refusal)) => {
                let hint = match &refusal {
                    Refusal::NotLeader { leader, .. } => *leader,
                    _ => None,
                };
                Attempt::Failed(refusal.to_string().into(), hint)
            }
            Err(error) => failed(error.to_string()),
        }
    }
}

/// The last change that is told at a position.
fn behind(position: &Position) -> Seq {
    match position {
        Position::CatchUp { after, .. } => *after,
        Position::Follow { seq } | Position::State { seq, .. } => *seq,
    }
}

/// Messages behind their lengths, out of a body. Holds at most one message and one chunk.
struct Messages {
    body: Incoming,
    held: BytesMut,
}

impl Messages {
    /// The next message; `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, Arc<str>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame())
                .await
                .map_err(|_| Arc::from("the node is silent"))?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        self.held.extend_from_slice(&chunk);
                    }
                }
                Some(Err(error)) => return Err(error.to_string().into()),
                None => return Err("the node ended it".into()),
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Arc<str>> {
        let Some(bytes) = self.held.first_chunk::<4>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*bytes) as usize;
        if bytes > TOLD_BYTES_MAX {
            return Err(format!("a message of {bytes} bytes, {TOLD_BYTES_MAX} are allowed").into());
        }
        if self.held.len() < 4 + bytes {
            return Ok(None);
        }
        let message = self.held.split_to(4 + bytes).freeze();
        Ok(Some(message.slice(4..)))
    }
}
