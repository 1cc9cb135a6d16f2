//! Lines of a bulk request, as they arrive.

use bytes::{Bytes, BytesMut};

/// One line, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line with something on it.
    Text {
        /// Counted from 1, empty ones too.
        number: u64,
        /// Without the line feed.
        bytes: Bytes,
    },
    /// A line that is longer than allowed; its bytes were dropped.
    TooLong {
        /// Counted from 1.
        number: u64,
    },
}

/// Cuts a stream of chunks into lines, holding at most one line.
#[derive(Debug)]
pub(crate) struct Lines {
    held: BytesMut,
    /// Bytes of `held` that are known to hold no line feed.
    searched: usize,
    number: u64,
    is_skipping: bool,
    line_bytes_max: usize,
}

impl Lines {
    /// Nothing yet; lines longer than `line_bytes_max` are dropped.
    pub(crate) fn new(line_bytes_max: usize) -> Lines {
        Lines { held: BytesMut::new(), searched: 0, number: 1, is_skipping: false, line_bytes_max }
    }

    /// Takes the next bytes of the stream; to be followed by [`Lines::next`] until `None`.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    /// The next whole line.
    pub(crate) fn next(&mut self) -> Option<Line> {
        loop {
            let found = self.held[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(at) = found else {
                self.searched = self.held.len();
                if self.held.len() > self.line_bytes_max {
                    self.is_skipping = true;
                }
                if self.is_skipping {
                    self.held.clear();
                    self.searched = 0;
                }
                return None;
            };
            let mut line = self.held.split_to(self.searched + at + 1);
            line.truncate(line.len() - 1);
            self.searched = 0;
            if let Some(line) = self.finish(line.freeze()) {
                return Some(line);
            }
        }
    }

    /// The last line, where the stream does not end in a line feed.
    pub(crate) fn end(&mut self) -> Option<Line> {
        let rest = self.held.split().freeze();
        self.searched = 0;
        self.finish(rest)
    }

    fn finish(&mut self, bytes: Bytes) -> Option<Line> {
        let number = self.number;
        self.number += 1;
        if std::mem::take(&mut self.is_skipping) || bytes.len() > self.line_bytes_max {
            return Some(Line::TooLong { number });
        }
        (!bytes.trim_ascii().is_empty()).then_some(Line::Text { number, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, chunk_bytes: usize, line_bytes_max: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(line_bytes_max);
        let mut found = Vec::new();
        let mut note = |line: Line| match line {
            Line::Text { number, bytes } => {
                found.push((number, Some(String::from_utf8(bytes.to_vec()).unwrap())));
            }
            Line::TooLong { number } => found.push((number, None)),
        };
        for chunk in text.as_bytes().chunks(chunk_bytes) {
            lines.push(chunk);
            while let Some(line) = lines.next() {
                note(line);
            }
        }
        if let Some(line) = lines.end() {
            note(line);
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let text = "one\r\n\n  \nfour\nfive is too long\nsix";
        let expected = vec![
            (1, Some("one\r".to_string())),
            (4, Some("four".to_string())),
            (5, None),
            (6, Some("six".to_string())),
        ];
        for chunk_bytes in 1..=text.len() {
            assert_eq!(cut(text, chunk_bytes, 8), expected, "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn a_line_feed_at_the_end_begins_no_line() {
        assert_eq!(cut("one\n", 10, 8), [(1, Some("one".to_string()))]);
        assert!(cut("", 10, 8).is_empty());
    }

    #[test]
    fn a_line_without_end_holds_no_memory() {
        let mut lines = Lines::new(8);
        for _ in 0..1_000 {
            lines.push(b"0123456789");
            assert_eq!(lines.next(), None);
            assert!(lines.held.len() <= 18);
        }
        assert_eq!(lines.end(), Some(Line::TooLong { number: 1 }));
    }
}
