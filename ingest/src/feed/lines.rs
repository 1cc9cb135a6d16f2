//! Messages from files: NDJSON, packed or not, gathered into batches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use crate::error::SendError;
use crate::queue::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Messages for one request.
pub(super) struct Batch {
    pub(super) bodies: Vec<String>,
}

/// Bytes of all files; `None` with standard input.
pub(super) fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    let size = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| meta.len());
    files.iter().map(size).sum()
}

/// Reads all files, one after the other, until nobody takes batches any more.
pub(super) fn read_all(
    files: &[PathBuf],
    bytes_read: &Arc<AtomicU64>,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), SendError> {
    let mut bodies = Vec::new();
    let mut bytes = 0;
    for path in files {
        let mut lines = open(path, bytes_read)?;
        let mut number = 0;
        while let Some(line) = next_line(&mut lines, path, number)? {
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            if bodies.len() == BATCH_ENTRIES_MAX || bytes + line.len() > BATCH_BYTES_MAX {
                let batch = Batch { bodies: std::mem::take(&mut bodies) };
                if !batch.bodies.is_empty() && batches.blocking_send(batch).is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
            bytes += line.len();
            bodies.push(line);
        }
    }
    if !bodies.is_empty() {
        // Nobody takes it where the sending has ended early.
        let _ = batches.blocking_send(Batch { bodies });
    }
    Ok(())
}

fn next_line(
    lines: &mut impl BufRead,
    path: &Path,
    number: u64,
) -> Result<Option<String>, SendError> {
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let read = read.map_err(|source| SendError::Read { path: path.to_owned(), source })?;
    if read == 0 {
        return Ok(None);
    }
    let bad = |reason: &str| SendError::BadLine {
        path: path.to_owned(),
        line: number + 1,
        reason: reason.to_string(),
    };
    if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(bad("longer than 16 MiB"));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| bad("not UTF-8"))
}

fn open(path: &Path, bytes_read: &Arc<AtomicU64>) -> Result<Box<dyn BufRead>, SendError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let fail = |source| SendError::Read { path: path.to_owned(), source };
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
