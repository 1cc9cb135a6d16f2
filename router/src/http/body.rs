//! Request bodies: size limits, room for what is in flight, and patience with slow senders.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use platbook_protocol::problem::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::params;
use super::problem::ApiError;
use crate::app::App;

/// How long a sender may pause in the middle of a body.
const PAUSE_MS_MAX: u64 = 30_000;
/// What a client is told to wait when there is no room.
const RETRY_AFTER_MS: u32 = 1_000;

/// A body that is read piece by piece, no longer than the request's deadline: what comes later
/// could not be carried out anyway.
pub(crate) struct BodyReader {
    body: Body,
    deadline: Instant,
    room: Arc<Semaphore>,
    room_wait: Duration,
    read_bytes: usize,
    bytes_max: usize,
}

/// A piece with the room that it takes.
pub(crate) type Piece = (Bytes, OwnedSemaphorePermit);

impl BodyReader {
    /// Reads `body`, refusing at once what announces more than `bytes_max`.
    pub(crate) fn try_new(
        app: &App,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<BodyReader, ApiError> {
        match params::text(headers, header::CONTENT_ENCODING.as_str())? {
            None | Some("identity") => {}
            Some(other) => {
                let detail = format!("content-encoding `{other}` is not read");
                return Err(ApiError::new(Code::UnsupportedMediaType, detail));
            }
        }
        let announced = params::number(headers, header::CONTENT_LENGTH.as_str())?;
        if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let room = app.body_bytes.clone();
        let room_wait = Duration::from_millis(app.limits.queue_wait_ms_max);
        Ok(BodyReader { body, deadline, room, room_wait, read_bytes: 0, bytes_max })
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        loop {
            let pause = Instant::now() + Duration::from_millis(PAUSE_MS_MAX);
            let patience = pause.min(self.deadline);
            let frame = match tokio::time::timeout_at(patience, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    let detail = format!("the body broke off: {error}");
                    return Err(ApiError::new(Code::RequestTimeout, detail));
                }
                Err(_) => {
                    let detail =
                        "the body paused for too long, or the deadline passed before its end";
                    return Err(ApiError::new(Code::RequestTimeout, detail));
                }
            };
            // Trailers say nothing to us.
            let Ok(bytes) = frame.into_data() else { continue };
            if bytes.is_empty() {
                continue;
            }
            self.read_bytes += bytes.len();
            if self.read_bytes > self.bytes_max {
                return Err(too_large(self.bytes_max));
            }
            let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            // Others give room back as they are answered; whoever waits is not read meanwhile.
            let room = self.room.clone().acquire_many_owned(weight);
            let Ok(Ok(room)) = tokio::time::timeout(self.room_wait, room).await else {
                return Err(ApiError::new(Code::Overloaded, "too many bytes are in flight")
                    .with_retry_after_ms(RETRY_AFTER_MS));
            };
            return Ok(Some((bytes, room)));
        }
    }

    /// All of it in one piece.
    pub(crate) async fn whole(mut self) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let Some((first, mut room)) = self.next().await? else { return Ok((Bytes::new(), None)) };
        let mut all = BytesMut::new();
        let mut whole = first;
        while let Some((bytes, more)) = self.next().await? {
            if all.is_empty() {
                all.extend_from_slice(&whole);
            }
            all.extend_from_slice(&bytes);
            room.merge(more);
        }
        if !all.is_empty() {
            whole = all.freeze();
        }
        Ok((whole, Some(room)))
    }
}

fn too_large(bytes_max: usize) -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("the body has more than {bytes_max} bytes"))
}
