//! A node's disk: it forgets, fails and is slow as told, and everything asked of it is an event.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use platbook_engine::log::faults::FaultyFiles;
use platbook_engine::log::{File, Files};
use platbook_protocol::{NodeId, TimeMs};

use crate::board::{Board, Event};

/// The directory of a log.
pub(crate) struct Disk {
    node: NodeId,
    files: FaultyFiles,
    board: Board,
}

impl Disk {
    pub(crate) fn new(node: NodeId, files: FaultyFiles, board: Board) -> Disk {
        Disk { node, files, board }
    }

    fn note<T>(&self, what: &'static str, file: &str, done: io::Result<T>) -> io::Result<T> {
        note(&self.board, self.node, what, file, (0, 0), done)
    }

    fn handle(&self, name: &str, inner: Arc<dyn File>) -> Arc<dyn File> {
        let (node, name, board) = (self.node, name.to_string(), self.board.clone());
        Arc::new(Handle { node, name, inner, board })
    }
}

fn note<T>(
    board: &Board,
    node: NodeId,
    what: &'static str,
    file: &str,
    (offset, bytes): (u64, u64),
    done: io::Result<T>,
) -> io::Result<T> {
    let (file, ok) = (file.to_string(), done.is_ok());
    board.take(&Event::Disk { node, what, file, offset, bytes, ok });
    done
}

impl Files for Disk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let made = self.note("create", name, self.files.create(name))?;
        Ok(self.handle(name, made))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let opened = self.note("open", name, self.files.open(name))?;
        Ok(self.handle(name, opened))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.note("remove", name, self.files.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.note("sync", ".", self.files.sync_dir())
    }
}

struct Handle {
    node: NodeId,
    name: String,
    inner: Arc<dyn File>,
    board: Board,
}

impl Handle {
    fn note<T>(&self, what: &'static str, at: (u64, u64), done: io::Result<T>) -> io::Result<T> {
        note(&self.board, self.node, what, &self.name, at, done)
    }
}

impl File for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self.inner.write_at(offset, bytes);
        self.note("write", (offset, bytes.len() as u64), written)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buffer);
        self.note("read", (offset, buffer.len() as u64), read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note("sync", (0, 0), self.inner.sync_data())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.note("allocate", (0, bytes), self.inner.allocate(bytes))
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn written(&self) -> io::Result<TimeMs> {
        self.inner.written()
    }

    fn sync_delay(&self) -> Duration {
        self.inner.sync_delay()
    }
}
