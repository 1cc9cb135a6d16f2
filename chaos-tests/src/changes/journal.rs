//! What a consumer was told, one event a line: the token behind it, a tab, the event.
//!
//! A line counts when its line feed is there: a consumer that dies while it writes goes on behind
//! the last whole line, and is told the rest again.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::Error;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: std::path::PathBuf,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The token behind the event.
    pub token: &'a str,
    /// The event's object.
    pub event: &'a str,
}

impl Journal {
    /// Opens or creates it, cuts off a line without its end, and gives the last token.
    pub fn open(path: &Path) -> Result<(Journal, Option<String>), Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let file = File::options().create(true).append(true).open(path).map_err(failed)?;
        let bytes = std::fs::read(path).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(failed)?;
        let last = entries(&bytes[..whole]).last().map(|entry| entry.token.to_string());
        Ok((Journal { file, path: path.to_owned() }, last))
    }

    /// Appends one event.
    pub fn append(&mut self, token: &str, event: &str) -> Result<(), Error> {
        let line = format!("{token}\t{event}\n");
        let failed = |source| Error::File { path: self.path.clone(), source };
        self.file.write_all(line.as_bytes()).map_err(failed)
    }
}

/// The whole lines of a journal.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let (token, event) = std::str::from_utf8(line).ok()?.split_once('\t')?;
        Some(Entry { token, event })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        let (mut journal, last) = Journal::open(&path).expect("opens");
        assert_eq!(last, None);
        journal.append("t1", "{}").expect("written");
        journal.append("t2", "{\"a\":1}").expect("written");
        drop(journal);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(entries(&bytes).count(), 1);
        let (mut journal, last) = Journal::open(&path).expect("opens");
        assert_eq!(last.as_deref(), Some("t1"));
        journal.append("t2", "{}").expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let tokens: Vec<&str> = entries(&bytes).map(|entry| entry.token).collect();
        assert_eq!(tokens, ["t1", "t2"]);
    }
}
