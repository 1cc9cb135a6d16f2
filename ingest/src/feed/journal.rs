//! The journal: what was accepted, one NDJSON line each, for whoever computes the right answer
//! independently. After a restart it holds exactly what the log accepted, also after a crash
//! between the two.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::Record;
use super::store::StoreError;

/// Longest line looked for at the end of an old journal, in bytes: a body of 1 MiB of which every
/// character is escaped, and its frame.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    last_id: Option<u128>,
    lines: Vec<u8>,
}

impl Journal {
    /// Opens or makes the journal at `path`; a last line without an end is cut off.
    pub(super) fn try_open(path: &Path) -> Result<Journal, StoreError> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        let last_id = cut_and_find_last(&mut file).map_err(StoreError::io("read", path))?;
        Ok(Journal { path: path.to_owned(), file, last_id, lines: Vec::new() })
    }

    /// Id of the last message in it when it was opened.
    pub(super) fn last_id(&self) -> Option<u128> {
        self.last_id
    }

    /// Adds a line to the next write, if the record is a message.
    pub(super) fn push(&mut self, record: &Record) {
        let Record::Message(message) = record else { return };
        let head = format!(
            "{{\"message_id\":\"{}\",\"sent\":{},\"body\":",
            uuid(message.id),
            message.sent
        );
        self.lines.extend_from_slice(head.as_bytes());
        self.lines.extend_from_slice(&message.body);
        self.lines.extend_from_slice(b"}\n");
    }

    /// Hands the lines to the system. They survive the end of the process; after a power cut the
    /// log adds again what is missing here.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        self.file.write_all(&self.lines).map_err(StoreError::io("write", &self.path))?;
        self.lines.clear();
        Ok(())
    }
}

fn cut_and_find_last(file: &mut File) -> std::io::Result<Option<u128>> {
    let end = file.seek(SeekFrom::End(0))?;
    // Room for a whole line and a torn one behind it.
    let start = end.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    tail.truncate(whole);
    file.set_len(start + whole as u64)?;
    file.seek(SeekFrom::End(0))?;
    let line = tail.strip_suffix(b"\n").unwrap_or_default();
    let line = &line[line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)..];
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        message_id: &'a str,
    }
    let id = serde_json::from_slice::<Line<'_>>(line).ok();
    Ok(id.and_then(|line| u128::from_str_radix(&line.message_id.replace('-', ""), 16).ok()))
}

/// A message id as SQS writes it.
pub(super) fn uuid(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
