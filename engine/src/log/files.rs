//! The seam between the log and its disk.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::TimeMs;

/// The files of one log, all in one directory, named without a path.
pub trait Files: Send + Sync + 'static {
    /// Creates a file, or empties it if it is there.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file; handles that are open go on working.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file.
pub trait File: Send + Sync + 'static {
    /// Writes all bytes at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Fills `buffer` as far as the file reaches and tells how far.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes written bytes, and the length that is needed to read them, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves space up to `bytes`; what was not written reads as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// When it was last written, as the disk's clock has it.
    fn written(&self) -> io::Result<TimeMs>;
    /// How long the writer has to wait before the next sync: simulated disks only.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// Files of the operating system. The directory stays locked for as long as this value lives.
pub struct OsFiles {
    directory: PathBuf,
    handle: fs::File,
    _lock: fs::File,
}

const LOCK_NAME: &str = "LOCK";

impl OsFiles {
    /// Creates the directory if need be, and locks it against a second process.
    pub fn try_new(directory: &Path) -> io::Result<OsFiles> {
        fs::create_dir_all(directory)?;
        if let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) {
            // The directory itself has to survive a power loss, too.
            fs::File::open(parent)?.sync_all()?;
        }
        let lock = fs::File::create(directory.join(LOCK_NAME))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "log directory is in use")
            }
            fs::TryLockError::Error(e) => e,
        })?;
        let handle = fs::File::open(directory)?;
        Ok(OsFiles { directory: directory.to_owned(), handle, _lock: lock })
    }
}

impl Files for OsFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.directory.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options().read(true).write(true).open(self.directory.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

struct OsFile(fs::File);

impl File for OsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // Reserved space lets an append find its blocks and the file's length in place, so that
        // fdatasync has less metadata to write.
        match reserve(&self.0, bytes) {
            // Not every file system can: then a sparse file has to do.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => self.0.set_len(bytes),
            other => other,
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn written(&self) -> io::Result<TimeMs> {
        let since = self.0.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH);
        Ok(TimeMs(since.map_or(0, |since| since.as_millis() as u64)))
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, length)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &fs::File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
