//! One reader of changes, from its first line to its last.
//!
//! Before anything is told every position is tried, so that a bad one is an error and not the end
//! of a stream. Then the shards are merged as they come: a shard's own order is kept, there is none
//! between shards. At most [`STATES_MAX`] shards tell their state at a time, so that the cursors of
//! a token stay short.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use platbook_protocol::codec::{self, CodecError};
use platbook_protocol::follow::{NewestChange, Told};
use platbook_protocol::frame::FrameError;
use platbook_protocol::map::Map;
use platbook_protocol::token::{Position, TokenError};
use platbook_protocol::{Seq, ShardId, Slot, Zip};
use tokio::time::{Instant, MissedTickBehavior};

use super::encode::{Control, Encoder, Format};
use super::position::Standing;
use super::query::{ChangesQuery, From, Live};
use super::select::{Choice, Selection};
use super::source::{Source, SourceEnd, Wish};
use crate::app::App;
use crate::error::Failure;
use crate::read::stream::{Pump, StreamError};

/// Shards whose state is told at the same time.
const STATES_MAX: usize = 8;
/// A chunk is sent when it has so many bytes, or when nothing more is at hand.
const CHUNK_BYTES: usize = 64 << 10;
/// Events behind which the token is told.
const EVENTS_PER_TOKEN: usize = 1_000;
/// Time after which the token is told if there were events.
const TOKEN_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for a dictionary that a frame needs.
const DICTIONARY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a response ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Dictionary(#[from] Failure),
}

type Message = (ShardId, Result<Bytes, SourceEnd>);

/// One reader.
pub(crate) struct Session {
    app: Arc<App>,
    query: ChangesQuery,
    selection: Selection,
    encoder: Encoder,
    standing: Standing,
    sources: SelectAll<BoxStream<'static, Message>>,
    /// Shards whose state has to wait for its turn.
    waiting: VecDeque<Source>,
    out: Vec<u8>,
    /// Events since a token was told.
    untold: usize,
    /// Events told.
    events: usize,
    is_over: bool,
    /// Nothing is left, and the reader knows it.
    is_told: bool,
}

/// The last change of each shard, made sure of by its leader.
pub(crate) async fn newest(
    app: &App,
    shards: &[ShardId],
    deadline: Instant,
) -> Result<BTreeMap<ShardId, Seq>, Failure> {
    let ask = |shard: ShardId| async move {
        let encode = |deadline_ms| codec::encode(&NewestChange { shard, deadline_ms }).into();
        let leaders = app.shards.leaders();
        let seq: Seq = leaders.read(shard, "newest-change", deadline, encode).await?;
        Ok::<_, Failure>((shard, seq))
    };
    let asked = futures_util::future::try_join_all(shards.iter().map(|shard| ask(*shard)));
    Ok(asked.await?.into_iter().collect())
}

impl Session {
    /// Tries every position; nothing is told yet.
    pub(crate) async fn open(
        app: Arc<App>,
        query: ChangesQuery,
        map: &Map,
        positions: BTreeMap<ShardId, Position>,
        deadline: Instant,
    ) -> Result<Session, Result<SourceEnd, FrameError>> {
        let encoder = Encoder::try_new(query.format, query.fields.clone()).map_err(Err)?;
        let selection = Selection::new(&query.filter, query.upserts, query.deletes);
        let standing = Standing::new(map, positions);
        let mut zips: BTreeMap<ShardId, Vec<Zip>> = BTreeMap::new();
        for zip in &query.zips {
            if let Some(shard) = map.shard_of(Slot::of_zip(zip)) {
                zips.entry(shard.id).or_default().push(*zip);
            }
        }
        let (mut now, mut waiting) = (Vec::new(), VecDeque::new());
        let mut states = 0;
        for (shard, position) in standing.positions() {
            let wish = Wish {
                shard: *shard,
                zips: zips.remove(shard).unwrap_or_default(),
                is_live: query.live != Live::No,
                with_bodies: query.with_bodies,
            };
            let source = Source::new(app.directory.clone(), wish, position.clone())
                .with_lookouts(app.lookouts.clone());
            let source = match query.from {
                // The leader has just said that there is nothing behind it.
                From::Now => source.at_newest(),
                From::Beginning | From::Token(_) => source,
            };
            let is_state = position.cursor().is_some();
            states += usize::from(is_state);
            match is_state && states > STATES_MAX {
                true => waiting.push_back(source),
                false => now.push(source),
            }
        }
        let opened = now.iter_mut().map(|source| source.open(deadline));
        futures_util::future::try_join_all(opened).await.map_err(Ok)?;
        let sources = now.into_iter().map(messages).collect();
        let (out, untold, events) = (Vec::new(), 0, 0);
        Ok(Session {
            app,
            query,
            selection,
            encoder,
            standing,
            sources,
            waiting,
            out,
            untold,
            events,
            is_over: false,
            is_told: false,
        })
    }

    /// Tells until the reader leaves, or until there is nothing more to tell.
    pub(crate) async fn run(mut self, pump: Pump) -> Result<(), SessionError> {
        // By a token, the reader may have more than is still there.
        let is_resync = matches!(self.query.from, From::Token(_)) && self.standing.is_beginning();
        let begin = match is_resync {
            true => Control::ResyncBegin,
            false => Control::Heartbeat,
        };
        self.encoder.start(&mut self.out);
        self.control(begin)?;
        for (shard, first, last) in self.standing.catch_ups() {
            self.control(Control::CatchUp { shard, first, last })?;
        }
        self.flush(&pump).await?;
        let first = Instant::now() + TOKEN_INTERVAL;
        let mut ticks = tokio::time::interval_at(first, TOKEN_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = match self.query.live {
            Live::Poll(wait) => Some(Instant::now() + wait),
            Live::Yes | Live::No => None,
        };
        let mut last_sign = Instant::now();
        while !self.is_over {
            let app = self.app.clone();
            tokio::select! {
                biased;
                () = app.draining() => self.is_over = true,
                () = pump.gone() => return Err(StreamError::Gone.into()),
                message = self.sources.next() => self.take(message).await?,
                _ = ticks.tick() => self.on_tick(&mut last_sign)?,
                () = until(patience) => self.is_over = true,
            }
            if patience.is_some() && self.events > 0 {
                self.is_over = true;
            }
            self.flush(&pump).await?;
        }
        if !self.is_told {
            self.sign()?;
        }
        self.flush(&pump).await?;
        Ok(pump.end().await?)
    }

    /// Takes a message, and what else is at hand, up to a chunk.
    async fn take(&mut self, first: Option<Message>) -> Result<(), SessionError> {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Some((shard, Ok(message))) => self.on_message(shard, &message).await?,
                Some((_, Err(end))) => {
                    // Told at the next request, where it can be an error.
                    tracing::debug!(%end, "a reader's changes are gone");
                    self.encoder.control(&mut self.out, Control::Gone, None);
                    self.is_over = true;
                }
                // Every shard is told.
                None => {
                    self.control(Control::End)?;
                    (self.is_over, self.is_told) = (true, true);
                }
            }
            if self.is_over || self.out.len() >= CHUNK_BYTES {
                return Ok(());
            }
            next = self.sources.next().now_or_never();
        }
        Ok(())
    }

    async fn on_message(&mut self, shard: ShardId, message: &[u8]) -> Result<(), SessionError> {
        let told: Told<'_> = codec::decode_borrowed(message)?;
        let is_catch_up = self.standing.is_catching_up(shard);
        match (&told, self.selection.choose(&told, is_catch_up)) {
            (
                Told::Row { .. } | Told::Erased { .. } | Told::Change { .. },
                Choice::Tell(passage),
            ) => {
                self.tell_skipped(shard);
                self.add_dictionary(&told).await?;
                self.standing.on_told(shard, &told);
                let token = match self.query.format {
                    Format::Sse => Some(self.standing.token()?),
                    Format::Ndjson | Format::Binary => None,
                };
                let token = token.as_deref();
                self.encoder.event(&mut self.out, shard, &told, passage, token)?;
                (self.untold, self.events) = (self.untold + 1, self.events + 1);
            }
            (Told::Change { seq, .. }, Choice::Skip) => {
                self.standing.on_skipped(shard, *seq, *seq);
                self.standing.on_told(shard, &told);
                self.untold += 1;
            }
            (Told::Skip { first, last }, _) => {
                self.standing.on_skipped(shard, *first, *last);
                self.standing.on_told(shard, &told);
                self.untold += 1;
            }
            (Told::StateEnd { .. }, _) => self.on_state_end(shard, &told)?,
            (Told::TrimmingSoon { oldest }, _) => {
                self.control(Control::TrimmingSoon { shard, oldest: *oldest })?;
            }
            _ => drop(self.standing.on_told(shard, &told)),
        }
        if self.untold >= EVENTS_PER_TOKEN {
            self.control(Control::Heartbeat)?;
        }
        Ok(())
    }

    fn on_state_end(&mut self, shard: ShardId, told: &Told<'_>) -> Result<(), SessionError> {
        let is_last = self.standing.on_told(shard, told);
        if let Some(source) = self.waiting.pop_front() {
            self.sources.push(messages(source));
        }
        match is_last {
            true => self.control(Control::StateEnd),
            false => Ok(()),
        }
    }

    async fn add_dictionary(&mut self, told: &Told<'_>) -> Result<(), SessionError> {
        if let Some(id) = self.encoder.missing(told) {
            let deadline = Instant::now() + DICTIONARY_TIMEOUT;
            if let Some(dictionary) = self.app.dictionaries.get(id, deadline).await? {
                self.encoder.add(&mut self.out, dictionary);
            }
        }
        Ok(())
    }

    fn tell_skipped(&mut self, shard: ShardId) {
        if let Some((first, last)) = self.standing.take_skipped(shard) {
            self.encoder.control(&mut self.out, Control::Skip { shard, first, last }, None);
        }
    }

    /// Tells a control line with the token of now.
    fn control(&mut self, control: Control) -> Result<(), SessionError> {
        for (shard, (first, last)) in self.standing.take_all_skipped() {
            self.encoder.control(&mut self.out, Control::Skip { shard, first, last }, None);
        }
        let token = self.standing.token()?;
        self.encoder.control(&mut self.out, control, Some(&token));
        self.untold = 0;
        Ok(())
    }

    fn on_tick(&mut self, last_sign: &mut Instant) -> Result<(), SessionError> {
        if self.untold == 0 && last_sign.elapsed() < self.query.heartbeat {
            return Ok(());
        }
        *last_sign = Instant::now();
        self.sign()
    }

    /// A token, with the moment that it stands for where that is known.
    fn sign(&mut self) -> Result<(), SessionError> {
        for (shard, at) in self.standing.take_newly_resolved() {
            let shard = Some(shard);
            self.encoder.control(&mut self.out, Control::Resolved { shard, at }, None);
        }
        match self.standing.resolved() {
            Some(at) if self.standing.is_following() => {
                self.control(Control::Resolved { shard: None, at })
            }
            Some(_) | None => self.control(Control::Heartbeat),
        }
    }

    async fn flush(&mut self, pump: &Pump) -> Result<(), SessionError> {
        let chunk = std::mem::take(&mut self.out);
        Ok(pump.send(chunk.into()).await?)
    }
}

async fn until(patience: Option<Instant>) {
    match patience {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A shard's messages as a stream, which ends behind the last or behind an end that is told.
fn messages(source: Source) -> BoxStream<'static, Message> {
    let shard = source.shard();
    futures_util::stream::unfold(Some(source), move |source| async move {
        let mut source = source?;
        match source.next().await {
            Ok(Some(message)) => Some(((shard, Ok(message)), Some(source))),
            Ok(None) => None,
            Err(end) => Some(((shard, Err(end)), None)),
        }
    })
    .boxed()
}
