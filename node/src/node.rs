//! The life of a node: from its data directory to its drain.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use platbook_engine::log::{Files, LogConfig, OsFiles, SharedLog, WriterKind};
use platbook_engine::store::{Store, StoreConfig};
use platbook_protocol::map::Map;
use platbook_protocol::planted::Bug;
use platbook_protocol::rpc::{MapPut, PutMap, Refusal};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::blocking::blocking;
use crate::clock::Clock;
use crate::config::{NodeConfig, RecreateRule};
use crate::directory::Directory;
use crate::error::NodeError;
use crate::health::{Health, Memory};
use crate::identity::{DataDir, Identity};
use crate::objections::Objections;
use crate::peer::Peers;
use crate::raft::{Groups, Timing};
use crate::rpc::client;
use crate::run::{Seams, Simulated};
use crate::scrub::{self, Scrub};
use crate::shard::{Rules, Shards};
use crate::witness::Watched;
use crate::{health, metrics, replicas, system};

/// How long leaderships may take to leave before the node stops.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the node's own tasks may take to end.
const TASKS_TIMEOUT: Duration = Duration::from_secs(2);

/// One running node.
pub(crate) struct Node {
    config: NodeConfig,
    clock: Clock,
    log_files: Option<Arc<dyn Files>>,
    simulated: Option<Simulated>,
    data: DataDir,
    memory: Memory,
    directory: Directory,
    peers: Peers,
    groups: Groups,
    shards: Shards,
    health: Health,
    scrub: Scrub,
    disk: OnceLock<Disk>,
    /// Members that still have to be told of the first map.
    invited: Mutex<BTreeSet<NodeId>>,
    objections: Objections,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    broken: Mutex<Option<String>>,
}

/// What exists once the node belongs to a cluster.
pub(crate) struct Disk {
    pub(crate) identity: Identity,
    pub(crate) log: SharedLog,
    pub(crate) store: Store,
}

impl Node {
    pub(crate) fn open(seams: Seams, config: NodeConfig) -> Result<Arc<Node>, NodeError> {
        let data = DataDir::open(&config.data)?;
        let identity = data.identity(config.node())?;
        data.check_log()?;
        let health = Health::default();
        if let Some(damage) = data.damage()? {
            health.on_damage(damage);
        }
        let memory = Memory::divide(config.memory_max);
        let directory = Directory::new(config.node());
        let shutdown = CancellationToken::new();
        let peers = Peers::new(directory.clone(), shutdown.child_token());
        let node = Arc::new(Node {
            clock: seams.clock,
            log_files: seams.log_files,
            simulated: seams.simulated,
            memory,
            directory,
            peers,
            groups: Groups::default(),
            shards: Shards::default(),
            health,
            scrub: Scrub::default(),
            disk: OnceLock::new(),
            invited: Mutex::default(),
            objections: Objections::default(),
            tasks: TaskTracker::new(),
            shutdown,
            broken: Mutex::default(),
            data,
            config,
        });
        match identity {
            Some(identity) => {
                node.check_address(&identity.first_map)?;
                node.open_disk(identity, true)?;
            }
            None => node.data.clear_unowned()?,
        }
        Ok(node)
    }

    /// A copy of a node's data, started elsewhere, must not vote beside the original.
    fn check_address(&self, map: &Map) -> Result<(), NodeError> {
        let (node, own) = (self.config.node(), self.config.advertised());
        match map.node(node).map(|known| known.address.clone()) {
            Some(known) if known != own => Err(NodeError::Moved { node, known, own }),
            Some(_) | None => Ok(()),
        }
    }

    /// Opens log and store. Whoever had an identity must find its log.
    fn open_disk(&self, identity: Identity, expect_log: bool) -> Result<(), NodeError> {
        let gone = || NodeError::LogGone { node: self.config.node() };
        let files = match &self.log_files {
            Some(files) => files.clone(),
            None if expect_log && !self.data.log().exists() => return Err(gone()),
            None => os_files(self.data.log())?,
        };
        if expect_log && SharedLog::is_empty_dir(&*files)? {
            return Err(gone());
        }
        let config = LogConfig {
            identity: identity_hash(&identity),
            segment_bytes: match &self.simulated {
                Some(simulated) => simulated.segment_bytes,
                None => self.config.log_segment_bytes.min(1 << 30) as u32,
            },
            tail_bytes_max: self.memory.log_tail_bytes as usize,
            log_bytes_max: health::log_bytes_max(&self.config, self.data.path()),
            retention: health::log_retention(&self.config),
            writer: match self.simulated {
                Some(_) => WriterKind::Task,
                None => WriterKind::Thread,
            },
            ..LogConfig::default()
        };
        let log = SharedLog::open(config, files)?;
        let store = Store::open(StoreConfig {
            block_cache_bytes: self.memory.block_cache_bytes as usize,
            memtable_bytes: self.memory.memtable_bytes as usize,
            simulated_flushes: self.simulated.as_ref().map(|simulated| simulated.flush_every),
            ..StoreConfig::at(self.data.db())
        })?;
        self.directory.learn(identity.first_map.clone());
        let opened = self.disk.set(Disk { identity, log, store });
        assert!(opened.is_ok(), "a node belongs to one cluster");
        Ok(())
    }

    /// Forms or joins the cluster, then runs its replicas.
    pub(crate) async fn live(self: Arc<Node>) -> Result<(), NodeError> {
        if self.disk.get().is_none() {
            match self.config.rejoin {
                true => system::formation::rejoin(&self).await?,
                false => system::formation::form(&self).await?,
            }
        }
        let disk = self.disk.get().expect("a cluster was formed or joined");
        if !self.data.is_announced() && self.is_founder(&disk.identity) {
            let first_map = disk.identity.first_map.clone();
            self.spawn(system::formation::announce(self.clone(), first_map));
        }
        self.spawn(replicas::run(self.clone()));
        self.spawn(system::follow::run(self.clone()));
        health::start(&self);
        self.spawn(scrub::run(self.clone()));
        Ok(())
    }

    /// Starts a task that ends with the node, and that the node waits for when it stops: whatever
    /// holds the node holds its data directory.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    fn is_founder(&self, identity: &Identity) -> bool {
        identity.first_map.nodes.first().is_some_and(|first| first.id == self.config.node())
    }

    /// Adopts a map that this node drew itself.
    pub(crate) fn adopt(&self, first_map: Map) -> Result<(), NodeError> {
        let others = first_map.nodes.iter().map(|n| n.id).filter(|id| *id != self.config.node());
        self.invited.lock().expect("never poisoned").extend(others);
        self.belong(first_map, ReplicaId(0))
    }

    /// Adopts a map that another node sent.
    pub(crate) async fn accept_form(self: &Arc<Node>, first_map: Map) -> Result<(), String> {
        let node = self.clone();
        let adopted = blocking(move || node.belong(first_map, ReplicaId(0)));
        adopted.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Adopts the map of a cluster that this node lost its disk of.
    pub(crate) fn come_back(&self, map: Map) -> Result<(), NodeError> {
        self.check_address(&map)?;
        let fresh_from = match Bug::ReplicaIdReused.is_planted() {
            true => ReplicaId(0),
            false => map.next_replica,
        };
        self.belong(map, fresh_from)
    }

    fn belong(&self, first_map: Map, fresh_from: ReplicaId) -> Result<(), NodeError> {
        // One at a time: the founder may tell twice.
        let _one = self.invited.lock().expect("never poisoned");
        if self.disk.get().is_some() {
            return Ok(());
        }
        // The log first: an identity without a log means that a log was lost.
        self.data.clear_unowned()?;
        let identity = Identity::new(self.config.node(), first_map, fresh_from);
        self.open_disk(identity.clone(), false)?;
        self.data.adopt(&identity)?;
        info!(cluster = %identity.first_map.cluster, "this node belongs to a cluster");
        Ok(())
    }

    /// Whether `asker` is about to be told of the first map.
    pub(crate) fn invites(&self, asker: NodeId) -> bool {
        self.invited.lock().expect("never poisoned").contains(&asker)
            || self
                .disk
                .get()
                .is_some_and(|disk| !self.data.is_announced() && self.is_founder(&disk.identity))
    }

    pub(crate) fn uninvite(&self, member: NodeId) {
        self.invited.lock().expect("never poisoned").remove(&member);
    }

    pub(crate) fn mark_announced(&self) -> Result<(), NodeError> {
        self.data.mark_announced()
    }

    /// Hands every leadership over, so that a rolling restart fails no write.
    pub(crate) async fn drain(&self) {
        self.health.start_draining();
        info!("draining: handing leaderships over");
        let deadline = tokio::time::Instant::now() + HAND_OVER_TIMEOUT;
        let left = replicas::hand_all_over(self, deadline).await;
        if left > 0 {
            warn!(left, "leaderships not handed over in time");
        }
    }

    /// Stops the groups, then the writers below them.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        if tokio::time::timeout(TASKS_TIMEOUT, self.tasks.wait()).await.is_err() {
            warn!(left = self.tasks.len(), "tasks did not end in time");
        }
        for shard in self.shards.all() {
            // Peers are told that the replica is away, and wait before they try again.
            self.groups.remove(shard.id());
            shard.stop().await;
        }
        let Some(disk) = self.disk.get() else { return };
        let (log, store) = (disk.log.clone(), disk.store.clone());
        // The log first: what the store has flushed must never pass what the log has.
        if let Err(error) = log.close().await {
            warn!(%error, "log not closed cleanly");
            return;
        }
        match blocking(move || store.close()).await {
            Ok(Ok(())) => info!("stopped"),
            Ok(Err(error)) => warn!(%error, "store not flushed: the log will be replayed"),
            Err(error) => warn!(%error, "store not closed"),
        }
    }

    /// The disk lies or is gone: no group of this node may go on.
    pub(crate) fn poison(&self, reason: String) {
        error!(%reason, "the disk is broken: stopping this node");
        *self.broken.lock().expect("never poisoned") = Some(reason);
        self.shutdown.cancel();
    }

    /// Changes the map, wherever the system shard is led.
    pub(crate) async fn put_map(
        self: &Arc<Node>,
        request: PutMap,
        timeout: Duration,
    ) -> Result<MapPut, Refusal> {
        let lost = |reason: String| Refusal::Unavailable { shard: ShardId::SYSTEM, reason };
        let map = self.directory.map().ok_or_else(|| lost("no map yet".into()))?;
        let members = map.shard(ShardId::SYSTEM).into_iter().flat_map(|shard| &shard.replicas);
        let mut last = lost("the system shard has no leader".into());
        for member in members {
            let Some(address) = self.directory.address(member.node) else { continue };
            let asked = client::call(&self.directory, &address, "/rpc/put-map", &request, timeout);
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(client::CallError::Refused(refusal)) => last = refusal,
                Err(error) => last = lost(error.to_string()),
            }
        }
        Err(last)
    }

    /// Why this node should not be asked, if so.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".into());
        }
        if self.disk.get().is_none() {
            return Some("cluster is not formed".into());
        }
        let map = self.directory.map()?;
        let missing = self.replicas_missing();
        if missing > 0 {
            return Some(format!("{missing} replicas do not run"));
        }
        let shards = self.shards.all();
        let standings: Vec<_> = shards.iter().map(|s| (s.id(), s.group().standing())).collect();
        if let Some((id, fault)) =
            standings.iter().find_map(|(id, s)| Some((id, s.fault.as_ref()?)))
        {
            return Some(format!("shard {id} is fenced: {fault}"));
        }
        if let Some(damage) = self.health.damage() {
            return Some(format!("its disk is damaged: {damage}"));
        }
        if !self.reaches_majority(&map) {
            return Some("most other nodes are out of reach".into());
        }
        let system = self.shards.get(ShardId::SYSTEM);
        if system.is_some_and(|system| matches!(system.store().map(), Ok(None))) {
            return Some("the first map is not kept yet".into());
        }
        let leaderless = standings.iter().find(|(_, standing)| standing.leader.is_none());
        if let Some((id, _)) = leaderless {
            return Some(format!("shard {id} has no leader"));
        }
        let replaying = shards.iter().find(|shard| !shard.group().has_recovered());
        replaying.map(|shard| format!("shard {} replays its log", shard.id()))
    }

    /// Replicas that the map places here and that do not run: not started yet, or not startable.
    pub(crate) fn replicas_missing(&self) -> usize {
        let Some(map) = self.directory.map() else { return 0 };
        let own = self.config.node();
        let wanted = map.shards.iter().filter(|s| self.runs_here(&map, s.id, own)).count();
        wanted.saturating_sub(self.shards.all().len())
    }

    /// Whether a replica of the shard runs here, or is about to.
    pub(crate) fn is_placed_here(&self, shard: ShardId) -> bool {
        let map = self.directory.map();
        map.is_some_and(|map| self.runs_here(&map, shard, self.config.node()))
    }

    /// Whether this node should be handed leaderships.
    pub(crate) fn may_lead(&self) -> bool {
        let map = self.directory.map();
        self.health.may_lead() && map.is_some_and(|map| self.reaches_majority(&map))
    }

    fn reaches_majority(&self, map: &Map) -> bool {
        let nodes = map.nodes.iter().map(|node| node.id);
        self.peers.reach_majority(self.config.node(), nodes)
    }

    fn runs_here(&self, map: &Map, shard: ShardId, own: NodeId) -> bool {
        map.replica_on(shard, own).is_some_and(|replica| self.may_start(replica.id))
    }

    /// Whether a replica was not lost with an earlier disk.
    pub(crate) fn may_start(&self, replica: ReplicaId) -> bool {
        self.disk.get().is_some_and(|disk| replica >= disk.identity.fresh_from)
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            skew_ms: self.config.skew_ms,
            recreate: match self.config.recreate {
                RecreateRule::BothClocks => platbook_protocol::register::Recreate::BothClocks,
                RecreateRule::QueueTime => platbook_protocol::register::Recreate::QueueTime,
            },
            tombstone_retention_ms: self.config.tombstone_days * 24 * 60 * 60 * 1000,
        }
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing::new(self.config.heartbeat_ms, self.config.election_ms)
    }

    pub(crate) fn first_map(&self) -> Map {
        self.disk().identity.first_map.clone()
    }

    /// Log and store; only for what runs after the cluster was formed.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.get().expect("only tasks started after formation ask for the disk")
    }

    /// Log and store, if the cluster is formed.
    pub(crate) fn opened(&self) -> Option<&Disk> {
        self.disk.get()
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.config
    }
    pub(crate) fn request_bytes(&self) -> u64 {
        self.memory.request_bytes
    }
    /// Why the node stopped itself, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.lock().expect("never poisoned").clone()
    }
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }
    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }
    pub(crate) fn scrub(&self) -> &Scrub {
        &self.scrub
    }
    pub(crate) fn objections(&self) -> &Objections {
        &self.objections
    }
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }
    pub(crate) fn is_draining(&self) -> bool {
        self.health.is_draining()
    }
    pub(crate) fn is_read_only(&self) -> bool {
        self.health.is_read_only()
    }
    pub(crate) fn clock_offset_ms(&self) -> i64 {
        self.health.clock_offset_ms()
    }
    pub(crate) fn watched(&self, ids: (ShardId, ReplicaId)) -> Watched {
        Watched::new(ids, self.simulated.as_ref().map(|simulated| simulated.witness.clone()))
    }
    pub(crate) fn fsyncs(&self) -> u64 {
        self.disk.get().map_or(0, |disk| disk.log.counters().syncs)
    }
    pub(crate) fn render_metrics(&self) -> String {
        metrics::render(self)
    }
}

fn os_files(path: PathBuf) -> Result<Arc<dyn Files>, NodeError> {
    let opened = OsFiles::try_new(&path);
    let files = opened.map_err(|source| NodeError::Io { what: "cannot open", path, source })?;
    Ok(Arc::new(files))
}

fn identity_hash(identity: &Identity) -> u64 {
    let text = format!("{} {}", identity.first_map.cluster, identity.node);
    platbook_protocol::slot::hash(text.as_bytes())
}
