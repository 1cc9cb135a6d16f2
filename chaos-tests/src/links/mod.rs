//! The network between the processes of a cluster, to be cut one direction at a time.
//!
//! Every node advertises a door of ours ([`door`]) instead of its own port. Who knocks is found in
//! the kernel's tables ([`caller`]), so each pair of processes has a link of its own in each
//! direction, without rights that only root has. A direction that is cut holds its bytes back, as a
//! network does that drops packets: nobody is told, and after the repair they arrive late.

pub mod caller;
pub mod door;

use std::collections::HashMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;

/// A process: nodes by position, and the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A storage node, by position.
    Node(usize),
    /// The router.
    Router,
}

/// How bytes flow in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Nothing arrives.
    pub is_cut: bool,
    /// Everything arrives this much later.
    pub delay: Duration,
}

/// All directed links. Clones share them.
#[derive(Clone, Debug)]
pub struct Links {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pids: RwLock<HashMap<u32, Place>>,
    flows: RwLock<HashMap<(Place, Place), Flow>>,
    /// Told at every change.
    changed: watch::Sender<u64>,
}

impl Default for Links {
    fn default() -> Links {
        let (changed, _) = watch::channel(0);
        let (pids, flows) = (RwLock::default(), RwLock::default());
        Links { inner: Arc::new(Inner { pids, flows, changed }) }
    }
}

impl Links {
    /// Tells which process has a part now.
    pub fn set_pid(&self, place: Place, pid: u32) {
        let mut pids = self.inner.pids.write().unwrap_or_else(|e| e.into_inner());
        pids.retain(|_, known| *known != place);
        pids.insert(pid, place);
    }

    /// Changes one direction.
    pub fn set(&self, from: Place, to: Place, flow: Flow) {
        let mut flows = self.inner.flows.write().unwrap_or_else(|e| e.into_inner());
        flows.insert((from, to), flow);
        drop(flows);
        self.inner.changed.send_modify(|version| *version += 1);
    }

    /// Cuts both directions between two processes.
    pub fn cut(&self, a: Place, b: Place) {
        let cut = Flow { is_cut: true, ..Flow::default() };
        self.set(a, b, cut);
        self.set(b, a, cut);
    }

    /// Everything flows again.
    pub fn heal(&self) {
        self.inner.flows.write().unwrap_or_else(|e| e.into_inner()).clear();
        self.inner.changed.send_modify(|version| *version += 1);
    }

    fn flow(&self, from: Place, to: Place) -> Flow {
        let flows = self.inner.flows.read().unwrap_or_else(|e| e.into_inner());
        flows.get(&(from, to)).copied().unwrap_or_default()
    }

    fn pids(&self) -> RwLockReadGuard<'_, HashMap<u32, Place>> {
        self.inner.pids.read().unwrap_or_else(|e| e.into_inner())
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Returns once bytes may flow from one process to the other, and how late they are.
    async fn pass(&self, from: Place, to: Place, changes: &mut watch::Receiver<u64>) -> Duration {
        loop {
            changes.borrow_and_update();
            let flow = self.flow(from, to);
            if !flow.is_cut {
                return flow.delay;
            }
            if changes.changed().await.is_err() {
                return Duration::ZERO;
            }
        }
    }
}
