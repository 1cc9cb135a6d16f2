//! As much of PostgreSQL's protocol (version 3) as the measurements need, over one connection that
//! nobody has to prove an identity on: prepared statements, simple queries, `COPY ... FROM STDIN`.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Protocol 3.0.
const PROTOCOL: i32 = 3 << 16;
/// Longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Free room in the buffer before every read.
const READ_BYTES: usize = 64 << 10;

/// One connection, in autocommit.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects to `address` (`host:port`) as the user `postgres`.
    pub(super) async fn open(address: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, buffer: BytesMut::new() };
        let mut body = BytesMut::new();
        body.put_i32(PROTOCOL);
        for word in ["user", "postgres", "database", "postgres"] {
            put_text(&mut body, word);
        }
        body.put_u8(0);
        let mut startup = BytesMut::new();
        startup.put_i32(4 + body.len() as i32);
        startup.put_slice(&body);
        connection.exchange(&startup, &mut |_| ()).await?;
        Ok(connection)
    }

    /// Runs one statement without parameters and gives its rows as text.
    pub(super) async fn query(&mut self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        let mut keep = |mut row: &[u8]| rows.push(values(&mut row));
        self.exchange(&query(sql), &mut keep).await.with_context(|| sql.to_string())?;
        rows.into_iter().map(|row| row.context("a row that is cut off")).collect()
    }

    /// Prepares a statement under a name.
    pub(super) async fn prepare(&mut self, name: &str, sql: &str) -> anyhow::Result<()> {
        let mut request = BytesMut::new();
        put_parse(&mut request, name, sql);
        put_sync(&mut request);
        self.exchange(&request, &mut |_| ()).await.with_context(|| sql.to_string())
    }

    /// Sends a whole request and reads until the server is ready for the next; every row that
    /// comes is shown to `on_row`.
    pub(super) async fn exchange(
        &mut self,
        request: &[u8],
        on_row: &mut impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let mut failed = None;
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                b'D' => on_row(&body),
                b'E' => failed = failed.or_else(|| Some(error_text(&body))),
                b'R' => ensure!(body.starts_with(&[0; 4]), "the server wants a password"),
                b'Z' => break,
                // Parameters, notices, completions: nothing that is needed.
                _ => {}
            }
        }
        match failed {
            Some(text) => bail!("postgresql: {text}"),
            None => Ok(()),
        }
    }

    /// The next message: its kind, and its body.
    async fn message(&mut self) -> anyhow::Result<(u8, Bytes)> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                return Ok(message);
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
        }
    }
}

fn take(buffer: &mut BytesMut) -> anyhow::Result<Option<(u8, Bytes)>> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    ensure!((4..MESSAGE_BYTES_MAX).contains(&length), "a message of {length} bytes");
    if buffer.len() <= length {
        return Ok(None);
    }
    let mut message = buffer.split_to(1 + length).freeze();
    message.advance(5);
    Ok(Some((kind, message)))
}

/// What an error message says: severity, code and text stand in fields of their own.
fn error_text(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
    let wanted = fields.filter(|(kind, _)| matches!(kind, b'C' | b'M'));
    let texts: Vec<_> = wanted.map(|(_, text)| String::from_utf8_lossy(text)).collect();
    texts.join(" ")
}

/// The values of a row as text.
fn values(row: &mut &[u8]) -> Option<Vec<String>> {
    let count = row.try_get_u16().ok()?;
    let value = |row: &mut &[u8]| {
        // A length of -1 is NULL.
        let length = usize::try_from(row.try_get_i32().ok()?).unwrap_or(0);
        let (value, rest) = row.split_at_checked(length)?;
        *row = rest;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    (0..count).map(|_| value(row)).collect()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

/// Appends a message whose body `fill` writes.
fn put_message(out: &mut BytesMut, kind: u8, fill: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_i32(0);
    fill(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// A simple query.
pub(super) fn query(sql: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_message(&mut out, b'Q', |out| put_text(out, sql));
    out.freeze()
}

/// Appends: prepare `sql` under `name`, the types as the server finds them.
pub(super) fn put_parse(out: &mut BytesMut, name: &str, sql: &str) {
    put_message(out, b'P', |out| {
        put_text(out, name);
        put_text(out, sql);
        out.put_u16(0);
    });
}

/// Appends: run the prepared statement `name` with these values (as text) and send every row.
pub(super) fn put_execute(out: &mut BytesMut, name: &str, values: &[&[u8]]) {
    put_message(out, b'B', |out| {
        out.put_u8(0); // the portal without a name
        put_text(out, name);
        out.put_u16(0); // every value is text
        out.put_u16(values.len() as u16);
        for value in values {
            out.put_i32(value.len() as i32);
            out.put_slice(value);
        }
        out.put_u16(0); // every column comes as text
    });
    put_message(out, b'E', |out| {
        out.put_u8(0);
        out.put_i32(0); // all rows
    });
}

/// Appends: the end of a request; the server commits and answers that it is ready.
pub(super) fn put_sync(out: &mut BytesMut) {
    put_message(out, b'S', |_| ());
}

/// A whole `COPY ... FROM STDIN` with its rows, which stand in the text format.
pub(super) fn copy(sql: &str, rows: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(rows.len() + sql.len() + 64);
    out.put_slice(&query(sql));
    put_message(&mut out, b'd', |out| out.put_slice(rows));
    put_message(&mut out, b'c', |_| ());
    out.freeze()
}

/// Appends a value of a row of `COPY` in the text format.
pub(super) fn put_copied(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_protocol_says() {
        assert_eq!(query("x")[..], *b"Q\0\0\0\x06x\0");
        let mut out = BytesMut::new();
        put_execute(&mut out, "n", &[b"ab"]);
        put_sync(&mut out);
        let bind = b"B\0\0\0\x13\0n\0\0\0\0\x01\0\0\0\x02ab\0\0";
        assert_eq!(out[..bind.len()], bind[..]);
        assert_eq!(out[bind.len()..], *b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    }

    #[test]
    fn what_a_server_sends_is_read_whole_or_not_at_all() {
        let mut row = BytesMut::new();
        put_message(&mut row, b'D', |out| {
            out.put_u16(2);
            out.put_i32(2);
            out.put_slice(b"ab");
            out.put_i32(-1);
        });
        let whole = row.clone();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(take(&mut part).unwrap().is_none());
            assert_eq!(part.len(), cut);
        }
        let (kind, body) = take(&mut row).unwrap().unwrap();
        assert_eq!((kind, values(&mut &body[..])), (b'D', Some(vec!["ab".into(), String::new()])));
        assert_eq!(values(&mut &b"\0\x02\0\0\0\x09a"[..]), None);
        assert!(take(&mut BytesMut::from(&b"D\xff\xff\xff\xff"[..])).is_err());
        assert_eq!(error_text(b"SERROR\0C23505\0Mduplicate key\0\0"), "23505 duplicate key");
    }

    #[test]
    fn copied_values_keep_their_tabs_and_backslashes() {
        let mut out = Vec::new();
        put_copied(&mut out, b"a\tb\\c\nd\re");
        assert_eq!(out, br"a\tb\\c\nd\re");
    }
}
