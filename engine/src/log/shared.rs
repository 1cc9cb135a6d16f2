//! The log as a whole: opening, groups, closing, and what its parts share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use platbook_protocol::{ReplicaId, ShardId};
use tokio::sync::watch;

use super::config::{LogConfig, WriterKind};
use super::error::LogError;
use super::files::Files;
use super::group::{Group, GroupLog};
use super::index::GroupIndex;
use super::mark;
use super::metrics::{LogCounters, Metrics};
use super::queue::Queue;
use super::recover::{self, Recovery};
use super::segment::{self, Segments};
use super::writer::Writer;

type Groups = BTreeMap<ReplicaId, Arc<Group>>;

/// What handles and the writer share.
pub(crate) struct Core {
    pub(crate) config: LogConfig,
    pub(crate) queue: Queue,
    pub(crate) segments: Segments,
    pub(crate) metrics: Metrics,
    pub(crate) tail_bytes: Arc<AtomicUsize>,
    /// Held while old segments are removed.
    pub(crate) collecting: Mutex<()>,
    stamps: AtomicU64,
    /// Groups that are handed out.
    groups: Mutex<Groups>,
    /// Groups with a synced record: those that a checkpoint must hold.
    synced: Mutex<Groups>,
    pub(crate) fault: watch::Sender<Option<String>>,
    /// How the writer ended.
    finished: watch::Sender<Option<Result<(), LogError>>>,
}

impl Core {
    fn new(config: LogConfig, files: Arc<dyn Files>) -> Core {
        Core {
            queue: Queue::new(config.queue_bytes_max),
            segments: Segments::new(files),
            metrics: Metrics::new(),
            tail_bytes: Arc::new(AtomicUsize::new(0)),
            collecting: Mutex::new(()),
            stamps: AtomicU64::new(0),
            groups: Mutex::new(BTreeMap::new()),
            synced: Mutex::new(BTreeMap::new()),
            fault: watch::Sender::new(None),
            finished: watch::Sender::new(None),
            config,
        }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().expect("no holder of the groups panics")
    }

    pub(crate) fn synced(&self) -> MutexGuard<'_, Groups> {
        self.synced.lock().expect("no holder of the groups panics")
    }

    pub(crate) fn next_stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    /// After a failure on disk nobody knows what is there: everything fails from now on.
    pub(crate) fn poison(&self, error: &LogError) -> LogError {
        let reason = error.reason();
        self.fault.send_if_modified(|fault| {
            if fault.is_some() {
                return false;
            }
            tracing::error!(error = %reason, "log is poisoned");
            *fault = Some(reason.clone());
            true
        });
        let reason = self.fault.borrow().clone().unwrap_or(reason);
        let poisoned = LogError::Poisoned { reason: reason.into() };
        for op in self.queue.fail(poisoned.clone()) {
            op.finish(Err(poisoned.clone()));
        }
        poisoned
    }

    pub(crate) fn on_finished(&self, result: Result<(), LogError>) {
        self.finished.send_if_modified(|finished| {
            let is_first = finished.is_none();
            if is_first {
                *finished = Some(result);
            }
            is_first
        });
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.borrow().is_some()
    }
}

/// Keeps the writer going: when the last handle goes, the writer ends.
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
    recovery: Recovery,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Not a clean shutdown: what is queued is written, but no mark.
        self.core.queue.close(false);
    }
}

/// The one log of a node. Clones share it.
#[derive(Clone)]
pub struct SharedLog {
    handle: Arc<Handle>,
}

impl SharedLog {
    /// Whether the directory holds nothing of a log: then it is a new one, or was lost.
    pub fn is_empty_dir(files: &dyn Files) -> Result<bool, LogError> {
        let names = files.list().map_err(|e| LogError::io("list", ".", e))?;
        Ok(!names.iter().any(|name| name == mark::NAME || segment::parse_name(name).is_some()))
    }

    /// Recovers what is there and starts the writer. Blocks; as a task ([`WriterKind::Task`]) it
    /// needs a runtime.
    pub fn open(config: LogConfig, files: Arc<dyn Files>) -> Result<SharedLog, LogError> {
        config.check()?;
        let kind = config.writer;
        let recovered = recover::recover(&config, files.as_ref())?;
        let recovery = recovered.report.clone();
        let core = Arc::new(Core::new(config, files));
        for (replica, (shard, index)) in &recovered.groups {
            let group = Arc::new(core.group(*replica, *shard, index.clone()));
            core.synced().insert(*replica, group.clone());
            core.groups().insert(*replica, group);
        }
        let writer = Writer::try_new(core.clone(), recovered)?;
        let thread = match kind {
            WriterKind::Thread => Some(spawn_thread(writer)?),
            WriterKind::Task => {
                tokio::spawn(writer.run());
                None
            }
        };
        Ok(SharedLog { handle: Arc::new(Handle { core, thread: Mutex::new(thread), recovery }) })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.handle.recovery
    }

    /// The log of one replica, new if it was not there.
    pub fn group(&self, replica: ReplicaId, shard: ShardId) -> GroupLog {
        let core = &self.handle.core;
        let mut groups = core.groups();
        let group = groups
            .entry(replica)
            .or_insert_with(|| Arc::new(core.group(replica, shard, GroupIndex::default())));
        GroupLog { group: group.clone(), handle: self.handle.clone() }
    }

    /// All groups that are there or were handed out.
    pub fn groups(&self) -> Vec<(ReplicaId, ShardId)> {
        self.handle.core.groups().values().map(|group| (group.replica, group.shard)).collect()
    }

    /// Removes a group behind all its earlier work; its handles fail from now on.
    pub fn remove_group(&self, replica: ReplicaId) -> Result<(), LogError> {
        let Some(group) = self.handle.core.groups().remove(&replica) else { return Ok(()) };
        GroupLog { group, handle: self.handle.clone() }.remove()
    }

    /// Why the log is poisoned, once it is. Then the node has to stop.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.handle.core.fault.subscribe()
    }

    /// Bytes of all segments on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.handle.core.segments.sizes().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes above which, and the age behind which, log is given up that nobody needs to start.
    pub fn limits(&self) -> (u64, Duration) {
        let config = &self.handle.core.config;
        (config.log_bytes_max, config.retention)
    }

    /// Numbers to watch.
    pub fn counters(&self) -> LogCounters {
        let core = &self.handle.core;
        let sizes = core.segments.sizes();
        LogCounters {
            segments: sizes.len() as u64,
            disk_bytes: sizes.iter().map(|(_, bytes)| bytes).sum(),
            tail_bytes: core.tail_bytes.load(Ordering::Relaxed) as u64,
            ..core.metrics.counters()
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    pub(crate) fn handle_of(&self, group: Arc<Group>) -> GroupLog {
        GroupLog { group, handle: self.handle.clone() }
    }

    /// Writes what is queued, marks the shutdown as clean and ends the writer, for all clones.
    pub async fn close(self) -> Result<(), LogError> {
        let core = &self.handle.core;
        core.queue.close(true);
        let mut finished = core.finished.subscribe();
        let result = match finished.wait_for(Option::is_some).await {
            Ok(finished) => finished.clone().unwrap_or(Err(LogError::Closed)),
            Err(_) => Err(LogError::Closed),
        };
        let thread = self.handle.thread.lock().expect("no holder of the thread panics").take();
        if let Some(thread) = thread {
            // It has just said that it is finished, so this does not wait. A panic would have
            // been reported as the result.
            let _ = thread.join();
        }
        result
    }
}

impl Core {
    fn group(&self, replica: ReplicaId, shard: ShardId, index: GroupIndex) -> Group {
        Group::new(replica, shard, index, self.tail_bytes.clone())
    }
}

fn spawn_thread(writer: Writer) -> Result<JoinHandle<()>, LogError> {
    let io = |e| LogError::io("start the writer of", ".", e);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
    let thread = std::thread::Builder::new().name("log-writer".to_owned());
    thread.spawn(move || runtime.block_on(writer.run())).map_err(io)
}
