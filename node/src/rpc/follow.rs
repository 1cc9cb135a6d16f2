//! Telling a router the changes of one shard, as fast as it takes them, as soon as there are any.
//!
//! Nothing is kept for a reader but its position: it reads the log by itself, and waits for the
//! next change without asking. One that takes nothing holds one chunk here, and costs nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use platbook_engine::follow::{self, Followed, Plan, Reach, Reading};
use platbook_engine::log::SharedLog;
use platbook_engine::store::{
    PhaseContent, PhasePosition, PhaseRow, PhaseRows, PhaseStart, StatePhase,
};
use platbook_protocol::follow::{
    FOLLOW_ZIPS_MAX, Follow, FollowStart, NewestChange, Told, push_start,
};
use platbook_protocol::op::Body;
use platbook_protocol::rpc::{Consistency, Refusal};
use platbook_protocol::token::Position;
use platbook_protocol::{Seq, TimeMs, Zip, codec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::data::shard_of;
use super::service::{Answer, bad_request, bytes, deadline, note_bad};
use super::trimming::Warning;
use crate::blocking;
use crate::clock::Clock;
use crate::node::Node;
use crate::objections::Caller;
use crate::shard::Shard;

/// Bytes of log or of rows that one chunk is made of; one entry, or one row, may be larger.
const CHUNK_BYTES: usize = 256 << 10;
/// A reader is told at least so often that nothing happened.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Least time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a replica that is behind a reader's position waits until it has caught up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers [`NewestChange`].
pub(super) async fn newest_change(node: &Arc<Node>, body: Bytes) -> Result<Seq, Refusal> {
    let request: NewestChange = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(Consistency::Linearizable, deadline(request.deadline_ms)).await?;
    Ok(shard.store().applied().seq)
}

/// Answers [`Follow`].
pub(super) async fn follow(node: &Arc<Node>, caller: Caller, body: Bytes) -> Answer {
    let opened = open(node, body).await;
    let mut first = Vec::new();
    let reader = match opened {
        Err(refusal) => {
            note_bad(node, caller, &refusal);
            push_start(&Err(refusal), &mut first);
            None
        }
        Ok(Err(start)) => {
            push_start(&Ok(start), &mut first);
            None
        }
        Ok(Ok(reader)) => {
            push_start(&Ok(FollowStart::Serving), &mut first);
            Some(reader)
        }
    };
    let Some(reader) = reader else { return bytes(StatusCode::OK, first.into()) };
    let chunks = futures_util::stream::unfold((first, Some(reader)), |(first, reader)| async {
        if !first.is_empty() {
            return Some((chunk(first), (Vec::new(), reader)));
        }
        let (told, reader) = reader?.next().await?;
        Some((chunk(told), (Vec::new(), reader)))
    });
    Response::new(StreamBody::new(chunks).boxed_unsync())
}

fn chunk(bytes: Vec<u8>) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(bytes.into()))
}

/// Finds out how a reader can be served; `Err` inside where it cannot be.
async fn open(node: &Arc<Node>, body: Bytes) -> Result<Result<Reader, FollowStart>, Refusal> {
    let request: Follow = codec::decode(&body).map_err(bad_request)?;
    if request.zips.len() > FOLLOW_ZIPS_MAX {
        let found = request.zips.len();
        let reason = format!("{found} ZIPs in one request, the limit is {FOLLOW_ZIPS_MAX}");
        return Err(Refusal::BadRequest { reason });
    }
    let shard = shard_of(node, request.shard)?;
    let until = deadline(request.deadline_ms).min(Instant::now() + CATCH_UP_TIMEOUT);
    if let Some(newest) = await_change(&shard, request.from.seq(), until).await? {
        return Ok(Err(FollowStart::Future { newest }));
    }
    let newest = shard.store().newest_change();
    let Follow { from, mut zips, is_live, with_bodies, .. } = request;
    zips.sort_unstable();
    let mut reader = Reader {
        shard: shard.clone(),
        clock: node.clock().clone(),
        newest,
        zips,
        is_live,
        with_bodies,
        at: from.seq(),
        phase: None,
        log: node.disk().log.clone(),
        warned: None,
    };
    let (after, seq, cursor) = match from {
        Position::Follow { seq } => {
            let reach = reach(&shard).await?;
            return Ok(match reach.plan(seq) {
                Plan::Gone { earliest } => {
                    Err(FollowStart::Gone { earliest, newest: reach.newest })
                }
                Plan::Log | Plan::UpToDate | Plan::Ahead { .. } => Ok(reader),
            });
        }
        Position::State { seq, cursor } => (None, seq, cursor),
        Position::CatchUp { after, seq, cursor } => (Some(after), seq, cursor),
    };
    let (store, zip) = (shard.store().clone(), reader.only_zip());
    let begin = move || {
        let left = PhasePosition { after, seq, cursor: &cursor };
        store.state_phase(zip, Some(left))
    };
    match blocking(&shard, begin).await? {
        PhaseStart::Ready(phase) => reader.phase = Some(Box::new(phase)),
        PhaseStart::Behind { .. } => return Err(behind(&shard)),
        PhaseStart::Foreign => return Ok(Err(FollowStart::Foreign)),
        PhaseStart::Forgotten => {
            let reach = reach(&shard).await?;
            let (earliest, newest) = (reach.earliest(), reach.newest);
            return Ok(Err(FollowStart::Gone { earliest, newest }));
        }
    }
    Ok(Ok(reader))
}

async fn reach(shard: &Shard) -> Result<Reach, Refusal> {
    let (store, log) = (shard.store().clone(), shard.group().log().clone());
    blocking(shard, move || follow::reach(&store, &log)).await
}

fn behind(shard: &Shard) -> Refusal {
    let reason = "this replica is behind the reader".to_string();
    Refusal::Unavailable { shard: shard.id(), reason }
}

/// Waits until change `seq` is applied here. `Some` where there is no such change: only a leader
/// that has made sure that it leads may say so.
async fn await_change(shard: &Shard, seq: Seq, until: Instant) -> Result<Option<Seq>, Refusal> {
    if shard.store().applied().seq >= seq {
        return Ok(None);
    }
    if shard.group().is_leader() {
        shard.barrier(Consistency::Linearizable, until).await?;
        let newest = shard.store().applied().seq;
        return Ok((newest < seq).then_some(newest));
    }
    let mut applied = shard.store().newest_change();
    let reached = applied.wait_for(|newest| *newest >= seq);
    match tokio::time::timeout_at(until, reached).await {
        Ok(Ok(_)) => Ok(None),
        Ok(Err(_)) | Err(_) => Err(behind(shard)),
    }
}

/// Reads where blocking is allowed.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    shard: &Shard,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    let done = blocking::blocking(read).await;
    let failed = |reason: String| {
        tracing::error!(shard = %shard.id(), %reason, "changes not read");
        Refusal::Unavailable { shard: shard.id(), reason }
    };
    done.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
}

/// One reader of one shard.
struct Reader {
    shard: Shard,
    clock: Clock,
    newest: watch::Receiver<Seq>,
    /// Sorted; empty: all.
    zips: Vec<Zip>,
    is_live: bool,
    with_bodies: bool,
    /// The last change told, or up to which the state reaches.
    at: Seq,
    /// The state, or a catch-up, as long as it is not told.
    phase: Option<Box<StatePhase>>,
    log: SharedLog,
    /// When it was warned last that its changes will be given up.
    warned: Option<Instant>,
}

impl Reader {
    fn only_zip(&self) -> Option<Zip> {
        match self.zips.as_slice() {
            [zip] => Some(*zip),
            _ => None,
        }
    }

    fn wants(&self, zip: &Zip) -> bool {
        self.zips.is_empty() || self.zips.binary_search(zip).is_ok()
    }

    /// The next chunk, and the reader unless it was the last. `None` ends the stream without its
    /// end: the router goes on elsewhere.
    async fn next(mut self) -> Option<(Vec<u8>, Option<Reader>)> {
        let stopped = self.shard.stopped().clone();
        let mut out = Vec::new();
        let goes_on = stopped.run_until_cancelled(self.fill(&mut out)).await?.ok()?;
        Some((out, goes_on.then_some(self)))
    }

    /// Fills a chunk, waiting for something to tell; `false` behind the last.
    async fn fill(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        while out.is_empty() {
            match self.phase.take() {
                Some(phase) => self.tell_state(phase, out).await?,
                None => {
                    if !self.tell_changes(out).await? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn tell_state(
        &mut self,
        mut phase: Box<StatePhase>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let read = move || phase.next_rows(CHUNK_BYTES).map(|rows| (rows, phase));
        let (found, phase) = blocking(&self.shard, read).await?;
        let Some(PhaseRows { rows, passed }) = found else {
            Told::StateEnd { seq: self.at }.push(out);
            return Ok(());
        };
        for row in rows.iter().filter(|row| self.wants(&row.zip)) {
            self.tell_row(row, out);
        }
        // Where the next rows are looked for, also by whoever goes on: little of a long state may
        // be wanted.
        match passed.is_empty() {
            true => Told::Resolved { seq: self.at, at: None }.push(out),
            false => Told::Passed { cursor: &passed }.push(out),
        }
        self.phase = Some(phase);
        Ok(())
    }

    fn tell_row(&self, row: &PhaseRow, out: &mut Vec<u8>) {
        let PhaseRow { key: cursor, id, content, .. } = row;
        let (zip, revision, seq) = (row.zip, row.revision, row.seq);
        match content {
            PhaseContent::Listing { summary, frame } => {
                let frame = if self.with_bodies { frame.as_slice() } else { &[] };
                let body = Body { summary, frame };
                Told::Row { cursor, zip, id, revision, seq, body }.push(out);
            }
            PhaseContent::Gone { moved_to } => {
                let moved_to = *moved_to;
                Told::Erased { cursor, zip, id, revision, seq, moved_to }.push(out);
            }
        }
    }

    /// Tells the next changes, or that there are none; `false` behind the last message.
    async fn tell_changes(&mut self, out: &mut Vec<u8>) -> Result<bool, Refusal> {
        // Seen from here on: what is applied while the log is read wakes the wait below.
        self.newest.borrow_and_update();
        let (store, log, at) =
            (self.shard.store().clone(), self.shard.group().log().clone(), self.at);
        let read = move || follow::read(&store, &log, at, CHUNK_BYTES);
        match blocking(&self.shard, read).await? {
            Reading::Changes(changes) => {
                self.warn_in_time(&changes, out).await?;
                self.tell_all(&changes, out);
                Told::Resolved { seq: self.at, at: None }.push(out);
                Ok(true)
            }
            Reading::Not(Plan::Gone { earliest }) => {
                let newest = self.shard.store().applied().seq;
                Told::Gone { earliest, newest }.push(out);
                Ok(false)
            }
            Reading::Not(Plan::UpToDate | Plan::Log) if self.is_live => {
                self.await_news(out).await?;
                Ok(true)
            }
            Reading::Not(Plan::UpToDate | Plan::Log) => {
                Told::Resolved { seq: self.at, at: None }.push(out);
                Told::End.push(out);
                Ok(false)
            }
            // The state was replaced by an older one: not to be told from.
            Reading::Not(Plan::Ahead { .. }) => Err(behind(&self.shard)),
        }
    }

    /// Tells, now and then, that what is about to be told will soon be given up.
    async fn warn_in_time(&mut self, next: &[Followed], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(first) = next.first() else { return Ok(()) };
        let is_due = self.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        let age = self.clock.now().0.saturating_sub(first.clock.0);
        let (log_bytes_max, retention) = self.log.limits();
        let (warning, log_bytes) = (Warning { retention, log_bytes_max }, self.log.disk_bytes());
        if !is_due || !warning.may_be_due(age, log_bytes) {
            return Ok(());
        }
        let reach = reach(&self.shard).await?;
        if warning.is_due(reach, first.change.seq, age, log_bytes) {
            self.warned = Some(Instant::now());
            Told::TrimmingSoon { oldest: reach.oldest }.push(out);
        }
        Ok(())
    }

    fn tell_all(&mut self, changes: &[Followed], out: &mut Vec<u8>) {
        let mut skipped: Option<(Seq, Seq)> = None;
        for followed in changes {
            let seq = followed.change.seq;
            self.at = seq;
            if !self.wants(&followed.change.zip) {
                skipped = Some((skipped.map_or(seq, |(first, _)| first), seq));
                continue;
            }
            tell_skip(skipped.take(), out);
            tell_change(followed, self.with_bodies, out);
        }
        tell_skip(skipped, out);
    }

    /// Waits for a change; tells that there was none when that takes long.
    async fn await_news(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match tokio::time::timeout(HEARTBEAT, self.newest.changed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(behind(&self.shard)),
            Err(_) => {
                let at = self.confirmed().await;
                Told::Resolved { seq: self.at, at }.push(out);
                Ok(())
            }
        }
    }

    /// A moment up to which everything acknowledged is told, if this replica knows one.
    async fn confirmed(&self) -> Option<TimeMs> {
        let soon = Instant::now() + HEARTBEAT;
        let moment = self.shard.moment(&self.clock, HEARTBEAT, soon).await?;
        (moment.seq <= self.at).then_some(moment.at)
    }
}

fn tell_skip(skipped: Option<(Seq, Seq)>, out: &mut Vec<u8>) {
    if let Some((first, last)) = skipped {
        Told::Skip { first, last }.push(out);
    }
}

fn tell_change(followed: &Followed, with_bodies: bool, out: &mut Vec<u8>) {
    let change = &followed.change;
    let after = followed.body.as_ref().map(|body| Body {
        summary: &body.summary,
        frame: if with_bodies { &body.frame } else { &[] },
    });
    Told::Change {
        seq: change.seq,
        prev: change.prev,
        kind: change.kind,
        zip: change.zip,
        id: &change.id,
        revision: change.revision,
        at: followed.clock,
        before: change.before.as_deref(),
        after,
    }
    .push(out);
}
