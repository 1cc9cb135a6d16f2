//! Whose data directory this is.
//!
//! `identity` is written last, when a cluster is formed, and never changed: cluster, node and the
//! first map. It is what a node refuses to start against: another number, another version, or a
//! log that is gone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use platbook_protocol::codec;
use platbook_protocol::map::Map;
use platbook_protocol::{NodeId, ReplicaId};

use crate::error::NodeError;

/// Version of the data directory as a whole.
const FORMAT: u32 = 1;
const IDENTITY_FILE: &str = "identity";
const ANNOUNCED_FILE: &str = "announced";
const LOG_LOST_FILE: &str = "log-lost";
const DAMAGED_FILE: &str = "damaged";
const LOCK_FILE: &str = "lock";

/// The content of the identity file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Identity {
    format: u32,
    /// This node.
    pub(crate) node: NodeId,
    /// The map that the cluster was formed with, or that this node came back to.
    pub(crate) first_map: Map,
    /// Replicas below this were lost with an earlier disk: never to be started again.
    pub(crate) fresh_from: ReplicaId,
}

impl Identity {
    pub(crate) fn new(node: NodeId, first_map: Map, fresh_from: ReplicaId) -> Identity {
        Identity { format: FORMAT, node, first_map, fresh_from }
    }
}

/// A locked data directory.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: nix::fcntl::Flock<File>,
}

impl DataDir {
    /// Creates the directory if need be and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<DataDir, NodeError> {
        let io = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| NodeError::Io { what, path, source }
        };
        fs::create_dir_all(path).map_err(io("cannot create", path))?;
        let lock_path = path.join(LOCK_FILE);
        let file = File::create(&lock_path).map_err(io("cannot create", &lock_path))?;
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
            .map_err(|_| NodeError::Locked { path: path.to_path_buf() })?;
        Ok(DataDir { path: path.to_path_buf(), _lock: lock })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the identity; `None` where no cluster was ever formed.
    pub(crate) fn identity(&self, own: NodeId) -> Result<Option<Identity>, NodeError> {
        let path = self.path.join(IDENTITY_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(NodeError::Io { what: "cannot read", path, source }),
        };
        let unusable = |reason: String| NodeError::Identity { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|e| unusable(e.to_string()))?;
        let identity = parse(&text).map_err(unusable)?;
        if identity.format != FORMAT {
            let found = identity.format;
            return Err(unusable(format!("format {found}, this program reads {FORMAT}")));
        }
        if identity.node != own {
            return Err(NodeError::OtherNode { found: identity.node, own });
        }
        Ok(Some(identity))
    }

    /// Writes the identity durably. From here on the node belongs to the cluster.
    pub(crate) fn adopt(&self, identity: &Identity) -> Result<(), NodeError> {
        self.write_durably(IDENTITY_FILE, render(identity).as_bytes())
    }

    /// Removes what a formation left behind that did not come to an identity.
    pub(crate) fn clear_unowned(&self) -> Result<(), NodeError> {
        for path in [self.log(), self.db()] {
            match fs::remove_dir_all(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(NodeError::Io { what: "cannot remove", path, source }),
            }
        }
        Ok(())
    }

    /// Whether every member is known to have adopted the first map.
    pub(crate) fn is_announced(&self) -> bool {
        self.path.join(ANNOUNCED_FILE).exists()
    }

    pub(crate) fn mark_announced(&self) -> Result<(), NodeError> {
        self.write_durably(ANNOUNCED_FILE, b"")
    }

    /// Refuses a directory whose log is known to have lost something.
    pub(crate) fn check_log(&self) -> Result<(), NodeError> {
        match self.mark(LOG_LOST_FILE)? {
            Some(what) => Err(NodeError::LogLost { what }),
            None => Ok(()),
        }
    }

    pub(crate) fn mark_log_lost(&self, what: &str) -> Result<(), NodeError> {
        self.write_durably(LOG_LOST_FILE, what.as_bytes())
    }

    /// What this disk is known to have lost of the state; a node leads nothing on it.
    pub(crate) fn damage(&self) -> Result<Option<String>, NodeError> {
        self.mark(DAMAGED_FILE)
    }

    pub(crate) fn mark_damaged(&self, what: &str) -> Result<(), NodeError> {
        self.write_durably(DAMAGED_FILE, what.as_bytes())
    }

    fn mark(&self, name: &str) -> Result<Option<String>, NodeError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(what) => Ok(Some(what)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NodeError::Io { what: "cannot read", path, source }),
        }
    }

    fn write_durably(&self, name: &str, bytes: &[u8]) -> Result<(), NodeError> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| NodeError::Io { what: "cannot write", path: path.clone(), source })
    }
}

/// Readable by people, checked by machines: a few lines and the map in hexadecimal.
fn render(identity: &Identity) -> String {
    let map = codec::encode(&identity.first_map);
    let hex: String = map.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = format!(
        "format {}\nnode {}\ncluster {}\nfresh-from {}\nmap {hex}\n",
        identity.format, identity.node, identity.first_map.cluster, identity.fresh_from
    );
    format!("{body}check {:016x}\n", check_of(&body))
}

fn parse(text: &str) -> Result<Identity, String> {
    let (body, check) = text.rsplit_once("check ").ok_or("no check line")?;
    if check.trim_end() != format!("{:016x}", check_of(body)) {
        return Err("its check does not match its content".into());
    }
    let field = |name: &str| {
        let lines = body.lines().filter_map(|line| line.split_once(' '));
        let found = lines.into_iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("no line `{name}`"))
    };
    let format = field("format")?.parse().map_err(|_| "format is no number")?;
    let node = NodeId(field("node")?.parse().map_err(|_| "node is no number")?);
    let fresh = field("fresh-from")?.parse().map_err(|_| "fresh-from is no number")?;
    let hex = field("map")?;
    let pairs = (0..hex.len() / 2).map(|i| hex.get(2 * i..2 * i + 2));
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    let first_map =
        codec::decode(&bytes.ok_or("map is not hexadecimal")?).map_err(|e| format!("map: {e}"))?;
    Ok(Identity { format, node, first_map, fresh_from: ReplicaId(fresh) })
}

fn check_of(body: &str) -> u64 {
    platbook_protocol::slot::hash(body.as_bytes())
}

#[cfg(test)]
mod tests {
    use platbook_protocol::map::{ClusterId, Node};

    use super::*;

    fn map() -> Map {
        let node = Node { id: NodeId(1), address: "127.0.0.1:1".into(), zone: String::new() };
        Map::initial(ClusterId(5), vec![node], 2)
    }

    #[test]
    fn an_identity_is_read_back_and_bound_to_its_node() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open(dir.path()).expect("opens");
        assert_eq!(data.identity(NodeId(1)).expect("reads"), None);
        let adopted = Identity::new(NodeId(1), map(), ReplicaId(1));
        data.adopt(&adopted).expect("writes");
        assert_eq!(data.identity(NodeId(1)).expect("reads"), Some(adopted));
        assert!(matches!(data.identity(NodeId(2)), Err(NodeError::OtherNode { .. })));
    }

    #[test]
    fn a_changed_identity_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open(dir.path()).expect("opens");
        data.adopt(&Identity::new(NodeId(1), map(), ReplicaId(1))).expect("writes");
        let path = dir.path().join(IDENTITY_FILE);
        let text = fs::read_to_string(&path).expect("reads").replace("node 1", "node 2");
        fs::write(&path, text).expect("writes");
        assert!(matches!(data.identity(NodeId(2)), Err(NodeError::Identity { .. })));
    }

    #[test]
    fn two_processes_do_not_share_a_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let _first = DataDir::open(dir.path()).expect("opens");
        assert!(matches!(DataDir::open(dir.path()), Err(NodeError::Locked { .. })));
    }
}
