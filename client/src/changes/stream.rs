//! The stream: connects, reads, and goes on where it was whenever the connection ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use platbook_protocol::records::MEDIA_TYPE;
use tokio::time::Instant;

use super::binary::Records;
use super::builder::Start;
use super::event::Event;
use super::follower::{Follower, Proof};
use super::wire::{self, Control, Line};
use crate::config::{BACKOFF_MIN, CHANGES_GAPS_MAX, CHANGES_IDLE, CHANGES_PATIENCE};
use crate::error::{AttemptError, Error, Source, source};
use crate::lines::{LineBody, Lines};
use crate::token::Token;
use crate::transport::{Call, Failure, Retry, Stopped, Transport, escape};

/// Changes while they happen; [`crate::Client::changes`] gives it. A [`Stream`], and usable without
/// one.
///
/// It reconnects by itself, to another router if need be, and goes on at exactly the next change.
/// It ends only with an error that trying again cannot mend, or where
/// [`super::ChangesBuilder::until_now`] asks for an end. Reading slowly costs the store a
/// bounded buffer and nothing else; a stream has a connection of its own, so it holds up no other
/// call.
#[must_use = "nothing is followed before it is polled"]
pub struct Changes {
    settings: Settings,
    follower: Follower,
    link: Link,
    /// Connections in a row that ended in a gap.
    gaps: u32,
    /// Connections in a row that brought no event.
    fruitless: u32,
}

/// What every connection of a stream has in common.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) transport: Transport,
    /// All but the position.
    pub(super) call: Call,
    pub(super) start: Start,
    pub(super) proof: Proof,
    pub(super) is_history: bool,
    /// How long no router may be found.
    pub(super) patience: Option<Duration>,
}

type Opening = BoxFuture<'static, Result<Response<Incoming>, Stopped>>;

enum Link {
    /// To be opened, behind a pause where something has failed.
    Closed(Option<Failure>),
    Opening(Opening),
    Open(Body),
    /// It has ended with an error.
    Over,
}

/// What a connection brings.
struct Body {
    lines: LineBody,
    /// Where it brings records instead of lines.
    records: Option<Records>,
}

impl Body {
    fn try_new(response: Response<Incoming>) -> Result<Body, Source> {
        let media_type = response.headers().get(CONTENT_TYPE);
        let is_binary = media_type.is_some_and(|found| found == MEDIA_TYPE);
        let (cut, records) = match is_binary {
            true => (Lines::records(), Some(Records::try_new()?)),
            false => (Lines::default(), None),
        };
        Ok(Body { lines: LineBody::cut(response.into_body(), cut, CHANGES_IDLE), records })
    }

    fn read(&mut self, line: &[u8]) -> Result<Option<Line>, Source> {
        match &mut self.records {
            Some(records) => records.read(line),
            None => wire::read(line),
        }
    }
}

impl Changes {
    pub(super) fn new(settings: Settings) -> Changes {
        let token = match &settings.start {
            Start::Token(token) => Some(token.clone()),
            Start::Beginning | Start::Now => None,
        };
        let follower = Follower::at(token, settings.proof);
        Changes { settings, follower, link: Link::Closed(None), gaps: 0, fruitless: 0 }
    }

    /// The position behind every event that was given: kept together with what those events have
    /// caused, it makes a restart exact. `None` before the store has given one.
    pub fn token(&self) -> Option<Token> {
        self.follower.token()
    }

    /// The next event; `None` only behind an error, or behind the end that was asked for.
    pub async fn try_next(&mut self) -> Result<Option<Event>, Error> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.transpose()
    }

    /// Begins a connection at the present position.
    fn open(&self, failure: Option<Failure>) -> Opening {
        let Settings { transport, call, start, patience, .. } = &self.settings;
        let from = match (self.follower.token(), start) {
            (Some(token), _) => token.to_string(),
            (None, Start::Now) => "now".to_string(),
            (None, Start::Beginning | Start::Token(_)) => "beginning".to_string(),
        };
        let mut call = call.clone();
        call.path.push_str(&format!("&from={}", escape(&from)));
        let retry = Retry::new(patience.unwrap_or(CHANGES_PATIENCE));
        Box::pin(connect(transport.clone(), call, retry, failure))
    }

    /// What became of a connection that was refused.
    fn on_stopped(&mut self, stopped: Stopped) -> Result<Event, Error> {
        let error = stopped.of_read();
        let resync = error.problem().filter(|problem| problem.status == StatusCode::GONE.as_u16());
        match resync.and_then(|problem| problem.resync.clone()) {
            Some(token) if !self.settings.is_history => {
                tracing::warn!("the changes behind the position are gone: the state is told again");
                self.link = Link::Closed(None);
                Ok(self.follower.on_gone(token))
            }
            Some(_) | None => Err(error),
        }
    }

    /// Reads what the connection brings, up to the next event.
    fn poll_open(
        body: &mut Body,
        follower: &mut Follower,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Event, Ended>> {
        loop {
            let line = match ready!(body.lines.poll_line(cx)) {
                Some(Ok(line)) => line,
                Some(Err(error)) => return Poll::Ready(Err(Ended::Broken(source(error)))),
                None => return Poll::Ready(Err(Ended::Broken(source("the router ended it")))),
            };
            let Some(line) = body.read(&line).map_err(Ended::Unreadable)? else { continue };
            let is_end = matches!(line, Line::Control(Control::End { .. }));
            if let Some(event) = follower.on_line(line).map_err(|gap| Ended::Gap(source(gap)))? {
                return Poll::Ready(Ok(event));
            }
            if is_end {
                return Poll::Ready(Err(Ended::Told));
            }
        }
    }

    /// What becomes of the stream when a connection ends.
    fn on_ended(&mut self, ended: Ended) -> Result<Link, Error> {
        // A router that takes every connection and brings nothing is not asked without pause.
        let after = Some(BACKOFF_MIN * 2_u32.saturating_pow(self.fruitless.min(16)));
        self.fruitless += 1;
        let endpoint = self.settings.transport.attempts().endpoint().to_string();
        let broken = |source| {
            let last = AttemptError::Broken { endpoint, source };
            Link::Closed(Some(Failure::Again { last, maybe_done: false, after }))
        };
        match ended {
            Ended::Told => Ok(Link::Over),
            Ended::Broken(source) => Ok(broken(source)),
            Ended::Unreadable(source) => Err(Error::BadAnswer { source }),
            Ended::Gap(source) if self.gaps >= CHANGES_GAPS_MAX => Err(Error::BadAnswer { source }),
            Ended::Gap(source) => {
                tracing::warn!(gap = %source, "the stream is opened again");
                self.gaps += 1;
                Ok(broken(source))
            }
        }
    }
}

/// Why a connection brings no more.
enum Ended {
    /// Everything is told.
    Told,
    Broken(Source),
    Unreadable(Source),
    Gap(Source),
}

async fn connect(
    transport: Transport,
    call: Call,
    mut retry: Retry,
    mut failure: Option<Failure>,
) -> Result<Response<Incoming>, Stopped> {
    loop {
        if let Some(failure) = failure.take() {
            retry.pause(failure).await?;
        }
        match transport.attempts().open(&call, Instant::now() + transport.deadline()).await {
            Ok(response) => return Ok(response),
            Err(failed) => failure = Some(failed),
        }
    }
}

impl Stream for Changes {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let failed = match &mut this.link {
                Link::Over => return Poll::Ready(None),
                Link::Closed(failure) => {
                    let failure = failure.take();
                    this.link = Link::Opening(this.open(failure));
                    continue;
                }
                Link::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(response) => match Body::try_new(response) {
                        Ok(body) => {
                            this.link = Link::Open(body);
                            continue;
                        }
                        Err(source) => Some(Error::BadAnswer { source }),
                    },
                    Err(stopped) => match this.on_stopped(stopped) {
                        Ok(event) => return Poll::Ready(Some(Ok(event))),
                        Err(error) => Some(error),
                    },
                },
                Link::Open(body) => {
                    match ready!(Changes::poll_open(body, &mut this.follower, cx)) {
                        Ok(event) => {
                            (this.gaps, this.fruitless) = (0, 0);
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Err(ended) => match this.on_ended(ended) {
                            Ok(link) => {
                                this.link = link;
                                None
                            }
                            Err(error) => Some(error),
                        },
                    }
                }
            };
            if let Some(error) = failed {
                this.link = Link::Over;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("settings", &self.settings).finish_non_exhaustive()
    }
}
