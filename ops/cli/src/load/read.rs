//! Batches of lines, read ahead on a thread of their own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use platbook_ingest::lines::{Line, LineError, Lines};
use tokio::sync::{mpsc, oneshot};

/// Batches read ahead; with the limit on their bytes this bounds the memory.
const BATCHES_AHEAD: usize = 4;
/// Bytes after which a batch is full, whatever its lines.
const BATCH_BYTES: usize = 4 << 20;

/// Where a line stands: the file by position, and its number.
pub(crate) type Place = (usize, u64);

/// Lines that are sent together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// One line each, with its end.
    pub(crate) lines: Vec<Bytes>,
    /// Where they stand.
    pub(crate) places: Vec<Place>,
}

/// How the reading ended.
pub(super) type Ended = oneshot::Receiver<Result<(), LineError>>;

/// Reads what comes behind the first `skip` lines, in batches of up to `batch` lines.
pub(super) fn start(
    files: Vec<std::path::PathBuf>,
    skip: u64,
    batch: usize,
    bytes_read: Arc<AtomicU64>,
) -> anyhow::Result<(mpsc::Receiver<Batch>, Ended)> {
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("load-read".to_string())
        .spawn(move || {
            let read = read(Lines::new(files, bytes_read), skip, batch, &sender);
            // Nobody waits for it where the load ended early.
            let _ = done.send(read);
        })
        .context("cannot start a thread")?;
    Ok((batches, ended))
}

fn read(
    mut lines: Lines,
    skip: u64,
    batch: usize,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), LineError> {
    for _ in 0..skip {
        lines.try_next()?;
    }
    let mut gathered = Batch::default();
    let mut bytes = 0;
    loop {
        let line = lines.try_next()?;
        let is_full = gathered.lines.len() >= batch || bytes >= BATCH_BYTES;
        if !gathered.lines.is_empty() && (is_full || line.is_none()) {
            bytes = 0;
            if batches.blocking_send(std::mem::take(&mut gathered)).is_err() {
                return Ok(());
            }
        }
        let Some(Line { file, number, text }) = line else { return Ok(()) };
        let mut text = text;
        text.push('\n');
        bytes += text.len();
        gathered.lines.push(Bytes::from(text));
        gathered.places.push((file, number));
    }
}

impl Batch {
    /// The body of a request.
    pub(super) fn body(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(self.lines.iter().map(Bytes::len).sum());
        self.lines.iter().for_each(|line| body.extend_from_slice(line));
        body.freeze()
    }

    /// Only these lines, numbered from 1.
    pub(super) fn only(&self, numbers: &[u64]) -> Batch {
        let chosen = || numbers.iter().filter_map(|number| usize::try_from(*number).ok());
        let index = |number: usize| number.checked_sub(1);
        let lines = chosen().filter_map(|n| self.lines.get(index(n)?).cloned()).collect();
        let places = chosen().filter_map(|n| self.places.get(index(n)?).copied()).collect();
        Batch { lines, places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_hold_every_line_behind_the_skipped_ones_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let text: String = (1..=10).map(|n| format!("{n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let (mut batches, ended) = start(vec![path], 3, 3, Arc::default()).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = batches.recv().await {
            assert!(batch.lines.len() <= 3);
            found.push(String::from_utf8(batch.body().to_vec()).unwrap());
            assert_eq!(batch.only(&[1]).lines, batch.lines[..1]);
        }
        ended.await.unwrap().unwrap();
        assert_eq!(found, ["4\n5\n6\n", "7\n8\n9\n", "10\n"]);
    }

    #[test]
    fn chosen_lines_keep_their_places() {
        let lines = ["a\n", "b\n", "c\n"].map(|line| Bytes::from_static(line.as_bytes())).to_vec();
        let batch = Batch { lines, places: vec![(0, 4), (0, 6), (1, 1)] };
        let chosen = batch.only(&[3, 1, 9, 0]);
        assert_eq!(chosen.places, [(1, 1), (0, 4)]);
        assert_eq!(chosen.body(), "c\na\n");
    }
}
