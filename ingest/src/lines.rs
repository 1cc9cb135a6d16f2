//! Lines of files, packed or not, with flat memory: what `feed send` sends and `load` loads.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// Longest line that is read, in bytes.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A line is no text.
    #[error("{path}, line {line}: {reason}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// One line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file, by position.
    pub file: usize,
    /// Its number in the file, from 1.
    pub number: u64,
    /// Without its end.
    pub text: String,
}

/// The lines of files, one after the other. A file whose name ends in `.gz` or `.zst` is unpacked;
/// `-` is standard input.
pub struct Lines {
    files: Vec<PathBuf>,
    /// The file that is open, and the lines read of it.
    at: usize,
    number: u64,
    open: Option<Box<dyn BufRead + Send>>,
    bytes_read: Arc<AtomicU64>,
}

impl Lines {
    /// Reads `files`; `bytes_read` follows how many of their bytes were read, packed as they are.
    pub fn new(files: Vec<PathBuf>, bytes_read: Arc<AtomicU64>) -> Lines {
        Lines { files, at: 0, number: 0, open: None, bytes_read }
    }

    /// Bytes of all files; `None` with standard input.
    pub fn total_bytes(files: &[PathBuf]) -> Option<u64> {
        let size = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| meta.len());
        files.iter().map(size).sum()
    }

    /// The next line; `None` behind the last one of the last file. Blocks.
    pub fn try_next(&mut self) -> Result<Option<Line>, LineError> {
        while let Some(path) = self.files.get(self.at) {
            let lines = match &mut self.open {
                Some(lines) => lines,
                None => self.open.insert(open(path, &self.bytes_read)?),
            };
            match next_line(lines, path, self.number)? {
                Some(text) => {
                    self.number += 1;
                    if !text.trim().is_empty() {
                        return Ok(Some(Line { file: self.at, number: self.number, text }));
                    }
                }
                None => {
                    self.at += 1;
                    self.number = 0;
                    self.open = None;
                }
            }
        }
        Ok(None)
    }
}

fn next_line(
    lines: &mut impl BufRead,
    path: &Path,
    number: u64,
) -> Result<Option<String>, LineError> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let read = read.map_err(|source| LineError::Read { path: path.to_owned(), source })?;
    if read == 0 {
        return Ok(None);
    }
    let bad = |reason| LineError::Bad { path: path.to_owned(), line: number + 1, reason };
    if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(bad("longer than 16 MiB"));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| bad("not UTF-8"))
}

fn open(path: &Path, bytes_read: &Arc<AtomicU64>) -> Result<Box<dyn BufRead + Send>, LineError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let fail = |source| LineError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let file = BufReader::new(Counted { inner: file, bytes: Arc::clone(bytes_read) });
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        Some("zst") => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(fail)?;
            Box::new(BufReader::new(decoder))
        }
        _ => Box::new(file),
    })
}

/// Counts the bytes that pass.
struct Counted {
    inner: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_plain_and_packed_files_are_numbered_in_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a\n\nb\r\nlast";
        let plain = dir.path().join("plain.ndjson");
        std::fs::write(&plain, text).unwrap();
        let packed = dir.path().join("packed.ndjson.zst");
        std::fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        let files = vec![plain, packed];
        let total = Lines::total_bytes(&files).unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let mut lines = Lines::new(files, read.clone());
        let mut found = Vec::new();
        while let Some(line) = lines.try_next().unwrap() {
            found.push((line.file, line.number, line.text));
        }
        let expected =
            |file| [(1, "a"), (3, "b"), (4, "last")].map(|(n, text)| (file, n, text.to_string()));
        assert_eq!(found, [expected(0), expected(1)].concat());
        assert_eq!(read.load(Ordering::Relaxed), total);
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.ndjson");
        std::fs::write(&path, b"{}\n\xff\n").unwrap();
        let mut lines = Lines::new(vec![path], Arc::default());
        lines.try_next().unwrap();
        let error = lines.try_next().expect_err("not UTF-8").to_string();
        assert!(error.ends_with("bad.ndjson, line 2: not UTF-8"), "{error}");
    }
}
