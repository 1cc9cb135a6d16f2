//! Where messages live: on disk in a log, or in memory. One thread writes, in rounds.
//!
//! A round takes everything that was asked for meanwhile, writes it, syncs once, adds the lines to
//! the journal, and only then answers: an accepted message is durable, and the journal holds it.
//! Deletes ride along without waiting for the sync: a delete that a crash loses is one redelivery
//! more, which every consumer of an at-least-once queue must stand anyway.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, SEGMENT_BYTES, Segments};
use super::journal::Journal;
use super::memory::{Bodies, Memory};
use super::record::{Key, Location, Message, Record};

/// Requests that wait for the writer; a further one waits in its caller.
const REQUESTS_MAX: usize = 4_096;
/// Payload after which a round is closed, in bytes.
const ROUND_BYTES_MAX: usize = 8 << 20;

/// Why the store cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed; after a failed write or sync the store takes nothing any more.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Bytes that were synced are not what was written.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Messages in memory have reached their limit.
    #[error("the feed holds {bytes} bytes in memory, the limit is {bytes_max}")]
    Full {
        /// Held.
        bytes: usize,
        /// Allowed.
        bytes_max: usize,
    },
    /// The writer has stopped, for a reason that was reported when it did.
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    /// Puts an action and a file to a system error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| StoreError::Io { action, path: path.to_owned(), source }
    }

    /// Whether asking again later may help.
    pub fn retryable(&self) -> bool {
        match self {
            StoreError::Full { .. } => true,
            StoreError::Io { .. }
            | StoreError::InUse { .. }
            | StoreError::Damaged { .. }
            | StoreError::Stopped => false,
        }
    }
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) queues: Vec<RecoveredQueue>,
}

/// One queue with the copies that are still to be delivered.
#[derive(Debug)]
pub(super) struct RecoveredQueue {
    pub(super) queue: u32,
    pub(super) name: String,
    pub(super) attributes: String,
    /// With the time from which each may be delivered, zero for at once.
    pub(super) keys: Vec<(Key, platbook_protocol::TimeMs)>,
}

/// How to store.
#[derive(Clone, Debug)]
pub(super) struct StoreConfig {
    /// Directory of the log; memory where absent.
    pub(super) data: Option<PathBuf>,
    pub(super) journal: Option<PathBuf>,
    /// Limit of messages held in memory, where there is no directory.
    pub(super) memory_bytes_max: usize,
}

/// A handle on the store.
#[derive(Debug)]
pub(super) struct Store {
    requests: mpsc::Sender<Request>,
    reader: Reader,
}

struct Request {
    records: Vec<Record>,
    /// Answered when the records are durable; without it nobody waits.
    done: Option<oneshot::Sender<Result<Vec<Location>, StoreError>>>,
}

#[derive(Debug)]
enum Reader {
    Disk(Arc<Segments>),
    Memory(Arc<Bodies>),
}

enum Medium {
    Disk(Disk),
    Memory(Memory),
}

impl Store {
    /// Opens or makes the store and starts its writer. The receiver tells why the writer stopped,
    /// if it fails; it is dropped without a word when all handles are gone.
    pub(super) fn try_open(
        config: &StoreConfig,
    ) -> Result<(Store, Recovered, oneshot::Receiver<StoreError>), StoreError> {
        let journal = config.journal.as_deref().map(Journal::try_open).transpose()?;
        let (medium, reader, recovered) = match &config.data {
            Some(dir) => {
                let last = journal.as_ref().and_then(Journal::last_id);
                let (disk, scan) = Disk::try_open(dir, last, SEGMENT_BYTES)?;
                let segments = disk.segments();
                (Medium::Disk(disk), Reader::Disk(segments), scan)
            }
            None => {
                let memory = Memory::new(config.memory_bytes_max);
                let bodies = memory.bodies();
                (Medium::Memory(memory), Reader::Memory(bodies), Default::default())
            }
        };
        let mut writer = Writer { medium, journal };
        let (recovered, unjournaled) = recovered;
        writer.catch_up_journal(&unjournaled)?;
        let (requests, incoming) = mpsc::channel(REQUESTS_MAX);
        let (failed, failure) = oneshot::channel();
        std::thread::Builder::new()
            .name("feed-store".to_string())
            .spawn(move || {
                if let Err(error) = writer.run(incoming) {
                    // Nobody listens any more where the server is already gone.
                    let _ = failed.send(error);
                }
            })
            .map_err(StoreError::io("start a thread for", Path::new("the store")))?;
        Ok((Store { requests, reader }, recovered, failure))
    }

    /// Writes records; they are durable when this returns, all or, on an error, possibly some.
    pub(super) async fn append(&self, records: Vec<Record>) -> Result<Vec<Location>, StoreError> {
        let (done, answer) = oneshot::channel();
        let request = Request { records, done: Some(done) };
        self.requests.send(request).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Writes records some time soon; a crash may lose them.
    pub(super) async fn append_lazily(&self, records: Vec<Record>) -> Result<(), StoreError> {
        let request = Request { records, done: None };
        self.requests.send(request).await.map_err(|_| StoreError::Stopped)
    }

    /// The messages at these places; `None` for what is gone meanwhile.
    pub(super) async fn read(
        &self,
        locations: Vec<Location>,
    ) -> Result<Vec<Option<Message>>, StoreError> {
        match &self.reader {
            Reader::Memory(bodies) => Ok(bodies.read(&locations)),
            Reader::Disk(segments) => {
                let segments = Arc::clone(segments);
                let read = move || locations.iter().map(|at| segments.read(*at)).collect();
                tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Stopped)?
            }
        }
    }
}

struct Writer {
    medium: Medium,
    journal: Option<Journal>,
}

impl Writer {
    fn run(mut self, mut incoming: mpsc::Receiver<Request>) -> Result<(), StoreError> {
        while let Some(first) = incoming.blocking_recv() {
            let mut bytes = first.bytes();
            let mut round = vec![first];
            while bytes < ROUND_BYTES_MAX
                && let Ok(next) = incoming.try_recv()
            {
                bytes += next.bytes();
                round.push(next);
            }
            self.commit(round)?;
        }
        Ok(())
    }

    fn commit(&mut self, round: Vec<Request>) -> Result<(), StoreError> {
        let mut answers = Vec::with_capacity(round.len());
        let mut must_sync = false;
        for request in &round {
            must_sync |= request.done.is_some();
            answers.push(match self.medium.append(&request.records) {
                // Of a file that failed once nothing is known: stop, never try again.
                Err(error) if !error.retryable() => return Err(error),
                answer => answer,
            });
        }
        self.medium.finish_round(must_sync)?;
        if let Some(journal) = &mut self.journal {
            for (request, answer) in round.iter().zip(&answers) {
                if answer.is_ok() {
                    request.records.iter().for_each(|record| journal.push(record));
                }
            }
            journal.write()?;
        }
        for (request, answer) in round.into_iter().zip(answers) {
            match (request.done, answer) {
                // Who asked may have gone meanwhile; that takes nothing from what was written.
                (Some(done), answer) => drop(done.send(answer)),
                (None, Ok(_)) => {}
                (None, Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds to the journal what a crash between the log and the journal left out.
    fn catch_up_journal(&mut self, unjournaled: &[Location]) -> Result<(), StoreError> {
        let (Some(journal), Medium::Disk(disk)) = (&mut self.journal, &self.medium) else {
            return Ok(());
        };
        for location in unjournaled {
            if let Some(message) = disk.segments().read(*location)? {
                journal.push(&Record::Message(message));
            }
            journal.write()?;
        }
        Ok(())
    }
}

impl Request {
    fn bytes(&self) -> usize {
        let of = |record: &Record| match record {
            Record::Message(message) => message.body.len(),
            Record::Delete { .. } | Record::Queue { .. } | Record::QueueGone { .. } => 0,
        };
        self.records.iter().map(of).sum()
    }
}

impl Medium {
    fn append(&mut self, records: &[Record]) -> Result<Vec<Location>, StoreError> {
        match self {
            Medium::Disk(disk) => records.iter().map(|record| disk.append(record)).collect(),
            Medium::Memory(memory) => memory.append(records),
        }
    }

    fn finish_round(&mut self, must_sync: bool) -> Result<(), StoreError> {
        match self {
            Medium::Disk(disk) => disk.finish_round(must_sync),
            Medium::Memory(_) => Ok(()),
        }
    }
}
