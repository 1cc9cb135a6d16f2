//! A wall clock for each node, which can be put forward and back. The monotonic clock, by which
//! leases and deadlines count, is left as it is: no operator can set that one.

use std::path::{Path, PathBuf};

use crate::Error;

/// Where Debian's `libfaketime` is, by architecture.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The clocks of all nodes: a file for each, which its process reads again every second.
#[derive(Debug)]
pub struct Clocks {
    library: &'static str,
    files: Vec<PathBuf>,
}

impl Clocks {
    /// Clocks that are right; `None` where `libfaketime` is not installed.
    pub fn find(dir: &Path, nodes: usize) -> Result<Option<Clocks>, Error> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let Some(library) = library else { return Ok(None) };
        let files = (1..=nodes).map(|node| dir.join(format!("clock-{node}"))).collect();
        let clocks = Clocks { library, files };
        (0..nodes).try_for_each(|at| clocks.set(at, 0))?;
        Ok(Some(clocks))
    }

    /// What a node's process must have in its environment.
    pub fn env(&self, at: usize) -> Vec<(String, String)> {
        let file = self.files[at].display().to_string();
        let set = |name: &str, value: &str| (name.to_string(), value.to_string());
        vec![
            set("LD_PRELOAD", self.library),
            set("FAKETIME_TIMESTAMP_FILE", &file),
            set("FAKETIME_CACHE_DURATION", "1"),
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            set("NO_FAKE_STAT", "1"),
        ]
    }

    /// Puts a clock so many seconds ahead of the right time, or behind it.
    pub fn set(&self, at: usize, seconds: i64) -> Result<(), Error> {
        let (path, new) = (&self.files[at], self.files[at].with_extension("new"));
        let failed = |source| Error::File { path: path.clone(), source };
        // Renamed, so that nobody reads half a time.
        std::fs::write(&new, format!("{seconds:+}\n")).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }
}
