//! Bulk writes: `POST /v1/listings`, NDJSON of queue messages.
//!
//! The body is never held as a whole: lines are gathered into waves, and a few waves are under way
//! while the next one is read. A client that sends faster than the shards take is slowed down by
//! not being read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use platbook_protocol::listing::MESSAGE_BYTES_MAX;
use platbook_protocol::problem::Code;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body::BodyReader;
use super::params;
use super::problem::ApiError;
use super::writes::{carry, times};
use crate::app::App;
use crate::write::edge::Times;
use crate::write::lines::{Line, Lines};
use crate::write::tally::Tally;
use crate::write::{Delivery, Ending};

/// With the value `promised`, the client will send again whatever was not answered, so that the
/// registers need not hold the bodies.
const RESEND: &str = "platbook-resend";
/// Bytes of lines after which a wave leaves.
const WAVE_BYTES: usize = 4 << 20;
/// Waves of one request under way at a time.
const WAVES_MAX: usize = 3;

/// `POST /v1/listings`.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let hold = match params::text(&headers, RESEND)? {
        None => true,
        Some("promised") => false,
        Some(other) => {
            let detail = format!("{RESEND}: `{other}` is not `promised`");
            return Err(ApiError::new(Code::BadHeader, detail));
        }
    };
    let times = times(&app, &headers)?;
    app.edge.check_sent(times)?;
    let mut reader =
        BodyReader::try_new(&app, &headers, body, app.limits.body_bytes_max, deadline)?;
    let mut request = Request::new(app, Plan { hold, times, deadline });
    let read = request.read(&mut reader).await;
    let tally = request.finish().await;
    match read {
        Ok(()) => tally.into_answer().map(|answer| axum::Json(answer).into_response()),
        // What was read before may have been carried out: the counts say so.
        Err(error) => Err(error.with_members(tally.into_members())),
    }
}

#[derive(Clone, Copy)]
struct Plan {
    hold: bool,
    times: Times,
    deadline: Instant,
}

/// A bulk request under way.
struct Request {
    app: Arc<App>,
    plan: Plan,
    lines: Lines,
    line_count: usize,
    wave: Vec<Line>,
    wave_bytes: usize,
    room: Option<OwnedSemaphorePermit>,
    waves: JoinSet<Vec<Settled>>,
    tally: Tally,
}

/// A line with its ending, or why there was nothing to carry through.
type Settled = (u64, Result<Ending, ApiError>);

impl Request {
    fn new(app: Arc<App>, plan: Plan) -> Request {
        Request {
            app,
            plan,
            lines: Lines::new(MESSAGE_BYTES_MAX),
            line_count: 0,
            wave: Vec::new(),
            wave_bytes: 0,
            room: None,
            waves: JoinSet::new(),
            tally: Tally::default(),
        }
    }

    async fn read(&mut self, reader: &mut BodyReader) -> Result<(), ApiError> {
        while let Some((bytes, room)) = reader.next().await? {
            match &mut self.room {
                Some(held) => held.merge(room),
                None => self.room = Some(room),
            }
            self.lines.push(&bytes);
            while let Some(line) = self.lines.next() {
                self.on_line(line).await?;
            }
        }
        if let Some(line) = self.lines.end() {
            self.on_line(line).await?;
        }
        self.launch().await;
        Ok(())
    }

    async fn on_line(&mut self, line: Line) -> Result<(), ApiError> {
        let limits = &self.app.limits;
        self.line_count += 1;
        if self.line_count > limits.bulk_lines_max {
            let detail = format!("the body has more than {} messages", limits.bulk_lines_max);
            return Err(ApiError::new(Code::BodyTooLarge, detail));
        }
        if let Line::Text { bytes, .. } = &line {
            self.wave_bytes += bytes.len();
        }
        self.wave.push(line);
        if self.wave.len() >= limits.wave_messages_max || self.wave_bytes >= WAVE_BYTES {
            self.launch().await;
        }
        Ok(())
    }

    /// Sends the gathered lines on their way, once there is a place for another wave.
    async fn launch(&mut self) {
        if self.wave.is_empty() {
            return;
        }
        while self.waves.len() >= WAVES_MAX {
            self.land().await;
        }
        let wave = std::mem::take(&mut self.wave);
        self.wave_bytes = 0;
        let room = self.room.take();
        let (app, plan) = (self.app.clone(), self.plan);
        self.waves.spawn(async move {
            let settled = carry_lines(&app, plan, wave).await;
            drop(room);
            settled
        });
    }

    /// Waits for one wave.
    async fn land(&mut self) {
        let Some(settled) = self.waves.join_next().await else { return };
        let Ok(settled) = settled else {
            // It panicked. Which lines were in it is lost with it, so nothing can be said of any.
            self.tally.on_lost_wave();
            return;
        };
        for (line, result) in settled {
            match result {
                Ok(ending) => self.tally.on_ending(line, ending),
                Err(error) => self.tally.reject(line, error),
            }
        }
    }

    async fn finish(mut self) -> Tally {
        while !self.waves.is_empty() {
            self.land().await;
        }
        self.tally
    }
}

async fn carry_lines(app: &Arc<App>, plan: Plan, lines: Vec<Line>) -> Vec<Settled> {
    let number = |line: &Line| match line {
        Line::Text { number, .. } | Line::TooLong { number } => *number,
    };
    let numbers: Vec<u64> = lines.iter().map(number).collect();
    let all = |numbers: Vec<u64>, error: ApiError| {
        let failed = |line| (line, Err(ApiError::new(error.code(), error.detail())));
        numbers.into_iter().map(failed).collect()
    };
    let outcomes = match app.edge.lines(lines, plan.times).await {
        Ok(outcomes) => outcomes,
        Err(error) => return all(numbers, error),
    };
    let mut settled = Vec::with_capacity(outcomes.len());
    let mut carried = Vec::with_capacity(outcomes.len());
    let mut deliveries = Vec::with_capacity(outcomes.len());
    for (line, outcome) in outcomes {
        match outcome {
            Ok(prepared) => {
                carried.push(line);
                deliveries.push(Delivery { prepared, if_match: None, hold: plan.hold });
            }
            Err(error) => settled.push((line, Err(error))),
        }
    }
    match carry(app, deliveries, plan.deadline).await {
        Ok(endings) => settled.extend(carried.into_iter().zip(endings.into_iter().map(Ok))),
        Err(error) => settled.extend(all(carried, error)),
    }
    settled
}
