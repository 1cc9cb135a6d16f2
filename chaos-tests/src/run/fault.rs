//! What can be done to a cluster. Every fault is undone: by the run, by its end, and by the end of
//! the process, since what it started ends with it.

use std::str::FromStr;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to a node; started again after a while.
    Kill,
    /// SIGKILL to all nodes at once.
    KillAll,
    /// SIGSTOP to a node, SIGCONT after a while.
    Pause,
    /// A node loses power: what it had not synced is gone, and so is its process.
    Power,
    /// All nodes lose power at once.
    PowerAll,
    /// Two of three nodes are paused in turn; while the second one is, the third loses power.
    Turns,
    /// A node reaches nobody and nobody reaches it.
    Partition,
    /// A node hears nobody, but is heard.
    Deaf,
    /// A node hears everybody, but is not heard.
    Mute,
    /// Two nodes do not reach each other; both reach the others.
    Bridge,
    /// A node is cut off and back, five times a second.
    Flap,
    /// Everything from and to a node is 100 ms late.
    Late,
    /// The router does not reach a node.
    RouterCut,
    /// Of the packets to and from a node's port every fifth is lost.
    Loss,
    /// A node's fdatasync takes 300 ms longer.
    SlowDisk,
    /// A node's fdatasync fails once: it must stop itself, and is started again.
    SyncError,
    /// A node's disk is nearly full: it must take no more writes.
    DiskFull,
    /// All disks are nearly full: writes are refused, reads go on.
    AllDisksFull,
    /// A node's wall clock is 30 s ahead, or behind.
    Clock,
    /// A node's wall clock jumps ahead and back every second and a half.
    Strobe,
}

/// What a fault can only be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Signals.
    Process,
    /// The tool's own links between the processes.
    Links,
    /// A network that nobody else is in.
    Network,
    /// Permission to trace a process.
    Tracer,
    /// A file system for each node.
    Disk,
    /// A wall clock for each node.
    Clock,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 20] = [
        Fault::Kill,
        Fault::KillAll,
        Fault::Pause,
        Fault::Power,
        Fault::PowerAll,
        Fault::Turns,
        Fault::Partition,
        Fault::Deaf,
        Fault::Mute,
        Fault::Bridge,
        Fault::Flap,
        Fault::Late,
        Fault::RouterCut,
        Fault::Loss,
        Fault::SlowDisk,
        Fault::SyncError,
        Fault::DiskFull,
        Fault::AllDisksFull,
        Fault::Clock,
        Fault::Strobe,
    ];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::Pause => "pause",
            Fault::Power => "power",
            Fault::PowerAll => "power-all",
            Fault::Turns => "turns",
            Fault::Partition => "partition",
            Fault::Deaf => "deaf",
            Fault::Mute => "mute",
            Fault::Bridge => "bridge",
            Fault::Flap => "flap",
            Fault::Late => "late",
            Fault::RouterCut => "router-cut",
            Fault::Loss => "loss",
            Fault::SlowDisk => "slow-disk",
            Fault::SyncError => "fsync-error",
            Fault::DiskFull => "disk-full",
            Fault::AllDisksFull => "disks-full",
            Fault::Clock => "clock",
            Fault::Strobe => "strobe",
        }
    }

    /// What it can only be done with.
    pub(super) fn needs(self) -> Needs {
        match self {
            Fault::Kill | Fault::KillAll | Fault::Pause => Needs::Process,
            Fault::Partition
            | Fault::Deaf
            | Fault::Mute
            | Fault::Bridge
            | Fault::Flap
            | Fault::Late
            | Fault::RouterCut => Needs::Links,
            Fault::Loss => Needs::Network,
            Fault::SlowDisk | Fault::SyncError => Needs::Tracer,
            Fault::Power
            | Fault::PowerAll
            | Fault::Turns
            | Fault::DiskFull
            | Fault::AllDisksFull => Needs::Disk,
            Fault::Clock | Fault::Strobe => Needs::Clock,
        }
    }

    /// Whether it is one that small file systems must be mounted for.
    pub fn needs_disks(self) -> bool {
        self.needs() == Needs::Disk
    }

    /// Whether it is one that the nodes need clocks of their own for.
    pub fn needs_clocks(self) -> bool {
        self.needs() == Needs::Clock
    }

    /// Whether it is one that the run needs a network of its own for.
    pub fn needs_network(self) -> bool {
        self.needs() == Needs::Network
    }

    /// What `names` stand for: names of faults, `oneway` for `deaf` and `mute`, `all`.
    pub fn parse_list(names: &str) -> Result<Vec<Fault>, String> {
        let mut faults = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => faults.extend(Fault::ALL),
                "oneway" => faults.extend([Fault::Deaf, Fault::Mute]),
                name => faults.push(name.parse()?),
            }
        }
        faults.sort_unstable();
        faults.dedup();
        match faults.is_empty() {
            true => Err("no fault is named".into()),
            false => Ok(faults),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Fault::ALL.into_iter().map(Fault::name).collect();
            format!("`{name}` is no fault; known are all, oneway, {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse_list(fault.name()), Ok(vec![fault]));
        }
        assert_eq!(Fault::parse_list("all"), Ok(Fault::ALL.to_vec()));
        assert_eq!(Fault::parse_list("oneway, kill,kill").map(|all| all.len()), Ok(3));
        for bad in ["", "rain", "kill,rain"] {
            assert!(Fault::parse_list(bad).is_err(), "{bad}");
        }
    }
}
