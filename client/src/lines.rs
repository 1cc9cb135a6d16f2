//! A body as lines, or as records behind their lengths, while it arrives: cut by cut, with flat
//! memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use platbook_protocol::records;

use crate::config::LINE_BYTES_MAX;
use crate::error::{Error, Source, source};

/// Cuts bytes into lines, wherever the network cut them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
    /// Records instead of lines.
    is_binary: bool,
}

impl Lines {
    /// Cuts bytes into records instead, wherever the network cut them.
    pub(crate) fn records() -> Lines {
        Lines { is_binary: true, ..Lines::default() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its end; an error where there cannot be one.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Source> {
        if self.is_binary {
            return self.next_record();
        }
        if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            return Ok(Some(line.slice(..line.len() - 1)));
        }
        self.searched = self.buffer.len();
        match self.searched > LINE_BYTES_MAX {
            true => Err(source(format!("a line is longer than {LINE_BYTES_MAX} bytes"))),
            false => Ok(None),
        }
    }

    fn next_record(&mut self) -> Result<Option<Bytes>, Source> {
        let Some(bytes) = records::length(&self.buffer).map_err(source)? else { return Ok(None) };
        let whole = records::LENGTH_BYTES + bytes;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(whole).freeze().slice(records::LENGTH_BYTES..)))
    }

    /// An error if the text ended inside a line.
    pub(crate) fn end(&self) -> Result<(), Source> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => Err(source("the last line has no end")),
        }
    }
}

/// The lines of an answer. An answer that breaks off, or falls silent, is an error, never an end.
#[derive(Debug)]
pub(crate) struct LineBody {
    body: Incoming,
    lines: Lines,
    /// How long it may be silent.
    idle_max: Duration,
    silence: Pin<Box<Sleep>>,
    is_over: bool,
}

impl LineBody {
    pub(crate) fn new(body: Incoming, idle_max: Duration) -> LineBody {
        LineBody::cut(body, Lines::default(), idle_max)
    }

    /// The same, cut as `lines` says.
    pub(crate) fn cut(body: Incoming, lines: Lines, idle_max: Duration) -> LineBody {
        let silence = Box::pin(sleep(idle_max));
        LineBody { body, lines, idle_max, silence, is_over: false }
    }

    /// The next line; nothing more after an end or an error.
    pub(crate) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let line = ready!(self.poll_whole(cx));
        self.is_over = !matches!(line, Ok(Some(_)));
        Poll::Ready(line.map_err(|source| Error::BrokenStream { source }).transpose())
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Source>> {
        loop {
            if let Some(line) = self.lines.next()? {
                return Poll::Ready(Ok(Some(line)));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                    self.silence.as_mut().reset(Instant::now() + self.idle_max);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(source(error))),
                Poll::Ready(None) => return Poll::Ready(self.lines.end().map(|()| None)),
                Poll::Pending => {
                    ready!(self.silence.as_mut().poll(cx));
                    let reason = format!("nothing came for {:?}", self.idle_max);
                    return Poll::Ready(Err(source(reason)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_network_cuts() {
        let text = b"one\n\nthree\nfour\n";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(part);
                while let Some(line) = lines.next().expect("short lines") {
                    found.push(line);
                }
            }
            assert_eq!(found, ["one", "", "three", "four"], "cut at {cut}");
            assert!(lines.end().is_ok());
        }
    }

    #[test]
    fn records_are_whole_wherever_the_network_cuts() {
        let bytes = b"\x03\0\0\0one\x05\0\0\0t\nree";
        for cut in 0..=bytes.len() {
            let mut lines = Lines::records();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                lines.push(part);
                while let Some(record) = lines.next().expect("short records") {
                    found.push(record);
                }
            }
            assert_eq!(found, ["one", "t\nree"], "cut at {cut}");
            assert!(lines.end().is_ok());
        }
        let mut lines = Lines::records();
        lines.push(&[0xff; 4]);
        assert!(lines.next().is_err(), "no record is that long");
    }

    #[test]
    fn half_a_line_is_no_end_and_an_endless_one_no_line() {
        let mut lines = Lines::default();
        lines.push(b"{\"a\":");
        assert!(lines.next().is_ok_and(|line| line.is_none()));
        assert!(lines.end().is_err());
        lines.push(&vec![b'x'; LINE_BYTES_MAX + 1]);
        assert!(lines.next().is_err());
    }
}
