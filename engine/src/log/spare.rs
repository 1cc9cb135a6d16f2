//! The next segment, made before it is needed, so that changing segments does not stall.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::config::WriterKind;
use super::error::LogError;
use super::files::{File, Files};
use super::segment;

type Made = Result<Arc<dyn File>, LogError>;

/// A segment file that holds nothing yet.
#[derive(Default)]
pub(crate) struct Spare {
    making: Option<(u32, Making)>,
}

enum Making {
    Thread(JoinHandle<Made>),
    Done(Made),
}

impl Making {
    /// Waits until it is done; `None` if it never will be.
    fn join(self) -> Option<Made> {
        match self {
            Making::Thread(thread) => thread.join().ok(),
            Making::Done(made) => Some(made),
        }
    }
}

impl Spare {
    /// Begins to make the file of segment `number`, unless one is being made.
    pub(crate) fn start(
        &mut self,
        files: &Arc<dyn Files>,
        number: u32,
        bytes: u64,
        on: WriterKind,
    ) {
        if self.making.is_some() {
            return;
        }
        let making = match on {
            WriterKind::Task => Making::Done(make(files.as_ref(), number, bytes)),
            WriterKind::Thread => {
                let files = files.clone();
                let thread = std::thread::Builder::new().name("log-spare".to_owned());
                match thread.spawn(move || make(files.as_ref(), number, bytes)) {
                    Ok(thread) => Making::Thread(thread),
                    // Then it is made when it is needed.
                    Err(error) => Making::Done(Err(LogError::io("start the spare of", ".", error))),
                }
            }
        };
        self.making = Some((number, making));
    }

    /// The file of segment `number`. A spare that could not be made is tried again, once: nothing
    /// was written to it, and space may have become free.
    pub(crate) fn take(&mut self, files: &Arc<dyn Files>, number: u32, bytes: u64) -> Made {
        let made = self.making.take().filter(|(made, _)| *made == number);
        match made.and_then(|(_, making)| making.join()) {
            Some(Ok(file)) => Ok(file),
            Some(Err(error)) => {
                tracing::warn!(segment = number, error = %error.reason(), "spare segment failed");
                make(files.as_ref(), number, bytes)
            }
            None => make(files.as_ref(), number, bytes),
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Whoever opens the log next must not find a file that is still being made.
        if let Some((_, making)) = self.making.take() {
            drop(making.join());
        }
    }
}

/// Creates and reserves a segment's file, durably.
pub(crate) fn make(files: &dyn Files, number: u32, bytes: u64) -> Made {
    let name = segment::name(number);
    let file = files.create(&name).map_err(|e| LogError::io("create", &name, e))?;
    file.allocate(bytes).map_err(|e| LogError::io("allocate", &name, e))?;
    file.sync_data().map_err(|e| LogError::io("sync", &name, e))?;
    files.sync_dir().map_err(|e| LogError::io("sync the directory of", &name, e))?;
    Ok(file)
}
