//! The directory of a demonstration or of a run that breaks things on purpose.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Where data and logs live; a temporary one is removed in the end unless it is kept.
pub(crate) struct Scratch {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Scratch {
    /// The empty directory that was asked for, or a temporary one.
    pub(crate) fn make(prefix: &str, wanted: Option<&Path>) -> anyhow::Result<Scratch> {
        match wanted {
            Some(path) => {
                let empty = path.read_dir().map_or(true, |mut entries| entries.next().is_none());
                ensure!(empty, "{} is not empty, and the cluster starts fresh", path.display());
                std::fs::create_dir_all(path)
                    .with_context(|| format!("making {}", path.display()))?;
                Ok(Scratch { path: path.to_owned(), temporary: None })
            }
            None => {
                let made = tempfile::Builder::new().prefix(prefix).tempdir();
                let made = made.context("making a temporary directory")?;
                Ok(Scratch { path: made.path().to_owned(), temporary: Some(made) })
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is and what becomes of it, for people.
    pub(crate) fn told(&self) -> String {
        let kept = if self.temporary.is_some() { "removed at the end" } else { "kept" };
        format!("{} ({kept})", self.path.display())
    }

    /// Leaves it where it is, to be looked into.
    pub(crate) fn keep(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}
