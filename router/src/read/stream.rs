//! A response body that is pumped: what the client does not take is not read from the node.
//!
//! The body ends properly only after [`Pump::end`]; a pump that stops for any other reason cuts the
//! response, so that a client never takes a part for the whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

/// Chunks between the pump and the connection.
const CHUNKS_MAX: usize = 2;

/// Why a response was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// The client took nothing for too long.
    #[error("the client takes nothing")]
    Stalled,
    /// The client is gone.
    #[error("the client is gone")]
    Gone,
    /// The pump stopped before the end.
    #[error("the response was cut off")]
    Cut,
}

enum Piece {
    Chunk(Bytes),
    End,
}

/// The end of the stream that is written to.
pub(crate) struct Pump {
    pieces: mpsc::Sender<Piece>,
    patience: Duration,
}

/// The end that is sent to the client.
pub(crate) struct Streamed {
    pieces: mpsc::Receiver<Piece>,
    is_ended: bool,
}

/// Both ends; a client that takes nothing for `patience` is given up.
pub(crate) fn stream(patience: Duration) -> (Pump, Streamed) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    (Pump { pieces: sender, patience }, Streamed { pieces: receiver, is_ended: false })
}

impl Pump {
    /// Sends a chunk, as soon as the client has taken enough of the earlier ones.
    pub(crate) async fn send(&self, chunk: Bytes) -> Result<(), StreamError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.put(Piece::Chunk(chunk)).await
    }

    /// Returns when the client is gone: who has nothing to send would not find it out.
    pub(crate) async fn gone(&self) {
        self.pieces.closed().await;
    }

    /// Ends the response properly.
    pub(crate) async fn end(self) -> Result<(), StreamError> {
        self.put(Piece::End).await
    }

    async fn put(&self, piece: Piece) -> Result<(), StreamError> {
        match self.pieces.send_timeout(piece, self.patience).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(StreamError::Stalled),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(StreamError::Gone),
        }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        Poll::Ready(match piece {
            Some(Piece::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(Piece::End) => {
                self.is_ended = true;
                None
            }
            None => {
                self.is_ended = true;
                Some(Err(StreamError::Cut))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    #[tokio::test]
    async fn a_pump_that_stops_cuts_the_response() {
        let (pump, body) = stream(PATIENCE);
        pump.send(Bytes::from_static(b"a")).await.unwrap();
        drop(pump);
        assert_eq!(body.collect().await.unwrap_err(), StreamError::Cut);
    }

    #[tokio::test]
    async fn a_response_that_was_ended_is_whole() {
        let (pump, body) = stream(PATIENCE);
        pump.send(Bytes::from_static(b"a")).await.unwrap();
        pump.send(Bytes::new()).await.unwrap();
        let (_, collected) = tokio::join!(pump.end(), body.collect());
        assert_eq!(collected.unwrap().to_bytes(), "a");
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_by_a_pump_that_has_nothing_to_send() {
        let (pump, body) = stream(PATIENCE);
        assert_eq!(futures_util::FutureExt::now_or_never(pump.gone()), None);
        drop(body);
        pump.gone().await;
        assert_eq!(pump.end().await, Err(StreamError::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_and_holds_little() {
        let (pump, _body) = stream(PATIENCE);
        let started = tokio::time::Instant::now();
        let mut sent = 0;
        while pump.send(Bytes::from_static(b"a")).await.is_ok() {
            sent += 1;
        }
        assert_eq!(sent, CHUNKS_MAX);
        assert_eq!(started.elapsed(), PATIENCE);
    }
}
