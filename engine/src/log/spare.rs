//! The next segment, made before it is needed, so that changing segments does not stall.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::config::WriterKind;
use super::error::LogError;
use super::files::{File, Files};
use super::segment;

type Made = Result<Arc<dyn File>, LogError>;

/// A segment file that holds nothing yet.
#[derive(Default)]
pub(crate) struct Spare {
    making: Option<(u32, Receiver<Made>)>,
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
        let (sender, receiver) = sync_channel(1);
        let files = files.clone();
        let make = move || {
            // The writer that asked may have stopped; the file is found again at the next start.
            let _ = sender.send(make(files.as_ref(), number, bytes));
        };
        match on {
            WriterKind::Thread => {
                let thread = std::thread::Builder::new().name("log-spare".to_owned());
                // Without a thread the channel is cut, and the file is made when it is needed.
                drop(thread.spawn(make));
            }
            WriterKind::Task => make(),
        }
        self.making = Some((number, receiver));
    }

    /// The file of segment `number`. A spare that could not be made is tried again, once: nothing
    /// was written to it, and space may have become free.
    pub(crate) fn take(&mut self, files: &Arc<dyn Files>, number: u32, bytes: u64) -> Made {
        let made = self.making.take().filter(|(made, _)| *made == number);
        match made.and_then(|(_, receiver)| receiver.recv().ok()) {
            Some(Ok(file)) => Ok(file),
            Some(Err(error)) => {
                tracing::warn!(segment = number, error = %error.reason(), "spare segment failed");
                make(files.as_ref(), number, bytes)
            }
            None => make(files.as_ref(), number, bytes),
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
