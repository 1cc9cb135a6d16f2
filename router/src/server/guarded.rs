//! A connection that nobody can hold for nothing: limits on the first bytes, on silence, and on a
//! client that does not take what it asked for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The version of HTTP is told from so many bytes; no complete request has fewer.
const FIRST_BYTES: usize = 24;

/// How long each wait may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until the version of HTTP can be told.
    pub(super) first_bytes: Duration,
    /// Without a byte in either direction.
    pub(super) idle: Duration,
    /// For the client to take what is written.
    pub(super) stalled_write: Duration,
}

/// `S` with limits. Only time that is spent waiting for the client counts.
pub(super) struct Guarded<S> {
    stream: S,
    patience: Patience,
    read_bytes: usize,
    silence: Pin<Box<Sleep>>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// Starts to watch over `stream`.
    pub(super) fn new(stream: S, patience: Patience) -> Guarded<S> {
        let silence = Box::pin(tokio::time::sleep(patience.first_bytes));
        Guarded { stream, patience, read_bytes: 0, silence, stall: None }
    }

    /// Something moved.
    fn on_progress(&mut self) {
        if self.read_bytes >= FIRST_BYTES {
            self.silence.as_mut().reset(Instant::now() + self.patience.idle);
        }
    }

    fn after_write<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stall = None;
            self.on_progress();
            return polled;
        }
        let patience = self.patience.stalled_write;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(timed_out("the client takes nothing")))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.read_bytes = this.read_bytes.saturating_add(buf.filled().len() - before);
                this.on_progress();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(this.silence.as_mut().poll(cx));
                Poll::Ready(Err(timed_out("the client is silent")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush moves no bytes of its own on a socket, so it is no progress.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Patience = Patience {
        first_bytes: Duration::from_secs(1),
        idle: Duration::from_secs(60),
        stalled_write: Duration::from_secs(5),
    };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_its_first_bytes_is_cut() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut server = Guarded::new(server, PATIENCE);
        client.write_all(b"PRI *").await.unwrap();
        let started = Instant::now();
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), PATIENCE.first_bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asked_may_wait_for_its_answer() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let mut server = Guarded::new(server, PATIENCE);
        client.write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        let started = Instant::now();
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), PATIENCE.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut() {
        let (_client, server) = tokio::io::duplex(16);
        let mut server = Guarded::new(server, PATIENCE);
        let started = Instant::now();
        let error = server.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), PATIENCE.stalled_write);
    }
}
