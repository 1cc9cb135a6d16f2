//! Nodes that lose power: each runs on a machine of its own, a runtime, and has its log on a disk
//! in memory that forgets what was not synced.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use platbook_engine::log::Files;
use platbook_engine::log::faults::{Faults, FaultyFiles};
use platbook_protocol::NodeId;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::Cluster;

/// How long a sync takes, so that there is always something that is not synced.
const SYNC_TAKES: Duration = Duration::from_millis(2);

/// The disks that can lose power; none for ordinary clusters.
#[derive(Default)]
pub(super) struct Power {
    disks: BTreeMap<NodeId, FaultyFiles>,
    /// How often each lost its power.
    losses: BTreeMap<NodeId, u32>,
}

/// A runtime that is gone at once when it is dropped, with all that ran on it.
pub(super) struct Machine(Option<Runtime>);

impl Machine {
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().expect("it runs until it is dropped").spawn(task)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Power {
    pub(super) fn files(&self, id: NodeId) -> Option<Arc<dyn Files>> {
        self.disks.get(&id).map(|disk| Arc::new(disk.clone()) as Arc<dyn Files>)
    }

    /// Gives a node a new disk.
    pub(super) fn wipe(&mut self, id: NodeId) {
        if let Some(disk) = self.disks.get_mut(&id) {
            *disk = slow(FaultyFiles::new());
        }
    }

    pub(super) fn machine(&self) -> Option<Machine> {
        (!self.disks.is_empty()).then(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            Machine(Some(runtime))
        })
    }

    /// Where the data is that the last loss left.
    pub(super) fn dir(&self, root: &Path, id: NodeId) -> PathBuf {
        match self.losses.get(&id) {
            None => root.to_path_buf(),
            Some(losses) => root.join(format!("after-loss-{losses}")),
        }
    }
}

impl Cluster {
    /// As [`Cluster::start`]; every node can lose power.
    pub(crate) async fn start_powered(nodes: u64, shards: u32) -> Cluster {
        let mut cluster = Cluster::lay_out(nodes, shards, serde_json::json!({}));
        for id in (1..=nodes).map(NodeId) {
            cluster.power.disks.insert(id, slow(FaultyFiles::new()));
        }
        cluster.start_all().await;
        cluster
    }

    /// From now on every sync of a node's log takes this long.
    pub(crate) fn syncs_take(&self, id: NodeId, sync_delay: Duration) {
        self.power.disks[&id].set_faults(Faults { sync_delay, ..Faults::default() });
    }

    /// From now on syncs of a node's log tell success and do nothing.
    pub(crate) fn syncs_lie(&self, id: NodeId) {
        let lying = Faults { syncs_lie: true, sync_delay: SYNC_TAKES, ..Faults::default() };
        self.power.disks[&id].set_faults(lying);
    }

    /// All nodes lose power at the same moment, get it back, and start with what their disks kept,
    /// which `seed` decides.
    pub(crate) async fn lose_power(&mut self, seed: u64) {
        let ids: Vec<NodeId> = self.running.keys().copied().collect();
        let kept =
            |id: NodeId, disk: &FaultyFiles| disk.fork_at_power_loss(seed.wrapping_mul(31) ^ id.0);
        self.fail_power(&ids, kept).await;
    }

    /// One node loses power, and everything that its log's disk had not really synced.
    pub(crate) async fn lose_all_unsynced(&mut self, id: NodeId) {
        self.fail_power(&[id], |_, disk| disk.fork_at_worst_power_loss()).await;
    }

    async fn fail_power(
        &mut self,
        ids: &[NodeId],
        kept: impl Fn(NodeId, &FaultyFiles) -> FaultyFiles,
    ) {
        let before: Vec<PathBuf> = ids.iter().map(|id| self.path(*id)).collect();
        for (id, from) in ids.iter().zip(&before) {
            *self.power.losses.entry(*id).or_default() += 1;
            // The tables first: what they hold must be in the log, not the other way.
            copy(from, &self.path(*id));
            let kept = kept(*id, &self.power.disks[id]);
            self.power.disks.insert(*id, slow(kept));
        }
        for id in ids {
            self.running.remove(id);
        }
        for id in ids {
            self.refuses_connections(*id).await;
        }
        for id in ids {
            self.start_node(*id);
        }
        for from in before {
            // Whoever still holds the old one loses nothing by it.
            let _ = fs::remove_dir_all(from);
        }
    }
}

fn slow(disk: FaultyFiles) -> FaultyFiles {
    disk.set_faults(Faults { sync_delay: SYNC_TAKES, ..Faults::default() });
    disk
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("it can be copied");
        }
    }
}
