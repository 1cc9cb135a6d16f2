//! How far a load is, on disk.
//!
//! All listings of one load are *sent* at its start, so that changes of the feed which came later
//! win, and a line that is loaded twice is a duplicate. So the start has to outlive the process:
//! it is on disk before the first listing leaves. The count of finished lines follows later; a
//! crash between the two only loads some lines once more.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use platbook_protocol::TimeMs;
use serde::{Deserialize, Serialize};

/// Version of the file.
const VERSION: u32 = 1;

/// One load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// Names and sizes of the files: another set is another load.
    files: Vec<(PathBuf, u64)>,
    /// Start of the load, milliseconds since 1970.
    sent_ms: u64,
    /// Lines from the beginning that are finished.
    pub(crate) lines: u64,
    /// Of these, rejected.
    pub(crate) rejected: u64,
}

impl State {
    /// Continues the load that `path` tells of, or begins one and makes that durable.
    pub(crate) fn open(path: &Path, files: &[PathBuf], now: TimeMs) -> anyhow::Result<State> {
        let files = files
            .iter()
            .map(|file| {
                let meta = std::fs::metadata(file);
                let meta = meta.with_context(|| format!("cannot read {}", file.display()))?;
                Ok((file.clone(), meta.len()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let kept = match std::fs::read(path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let state = State { files, ..State::begin(now) };
                state.save(path)?;
                return Ok(state);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let shown = path.display();
        let state: State = serde_json::from_slice(&kept)
            .with_context(|| format!("{shown} is no state of a load"))?;
        ensure!(state.version == VERSION, "{shown} is of version {}", state.version);
        ensure!(
            state.files == files,
            "{shown} tells of a load of other files, or these have changed; give --restart to \
             forget it"
        );
        Ok(state)
    }

    /// A load that begins now, and that nothing on disk tells of.
    pub(crate) fn begin(now: TimeMs) -> State {
        State { version: VERSION, files: Vec::new(), sent_ms: now.0, lines: 0, rejected: 0 }
    }

    /// When all listings of this load were sent.
    pub(crate) fn sent(&self) -> TimeMs {
        TimeMs(self.sent_ms)
    }

    /// Replaces the file: a crash leaves the old state or the new one.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let fresh = beside(path);
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)?;
            sync_dir(path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The load is over: the same files again are another load.
    pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_continued_at_its_own_start_and_only_with_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("state"), dir.path().join("a.ndjson"));
        std::fs::write(&file, "{}\n").unwrap();
        let files = [file.clone()];
        let mut state = State::open(&path, &files, TimeMs(5)).unwrap();
        state.lines = 7;
        state.save(&path).unwrap();
        let again = State::open(&path, &files, TimeMs(9)).unwrap();
        assert_eq!((again.sent(), again.lines), (TimeMs(5), 7));

        std::fs::write(&file, "{}\n{}\n").unwrap();
        let error = State::open(&path, &files, TimeMs(9)).expect_err("the file has grown");
        assert!(error.to_string().contains("--restart"), "{error}");
        State::remove(&path).unwrap();
        State::remove(&path).unwrap();
        assert_eq!(State::open(&path, &files, TimeMs(9)).unwrap().sent(), TimeMs(9));
    }

    #[test]
    fn a_file_that_is_no_state_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        State::open(&path, &[], TimeMs(1)).expect_err("no state");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
