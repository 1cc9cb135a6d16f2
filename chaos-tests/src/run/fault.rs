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
    /// A node's fdatasync takes 300 ms longer.
    SlowDisk,
    /// A node's fdatasync fails once: it must stop itself, and is started again.
    SyncError,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 12] = [
        Fault::Kill,
        Fault::KillAll,
        Fault::Pause,
        Fault::Partition,
        Fault::Deaf,
        Fault::Mute,
        Fault::Bridge,
        Fault::Flap,
        Fault::Late,
        Fault::RouterCut,
        Fault::SlowDisk,
        Fault::SyncError,
    ];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::Pause => "pause",
            Fault::Partition => "partition",
            Fault::Deaf => "deaf",
            Fault::Mute => "mute",
            Fault::Bridge => "bridge",
            Fault::Flap => "flap",
            Fault::Late => "late",
            Fault::RouterCut => "router-cut",
            Fault::SlowDisk => "slow-disk",
            Fault::SyncError => "fsync-error",
        }
    }

    /// Whether it needs to trace a process.
    pub fn traces(self) -> bool {
        matches!(self, Fault::SlowDisk | Fault::SyncError)
    }

    /// What `names` stand for: names of faults, `oneway` for `deaf` and `mute`, `all`.
    pub fn parse_list(names: &str) -> Result<Vec<Fault>, String> {
        let mut faults = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => faults.extend(Fault::ALL),
                "oneway" => faults.extend([Fault::Deaf, Fault::Mute]),
                "disk-full" | "clock" => {
                    return Err(format!(
                        "`{name}` is not injected by this command: tests do it, see docs/faults.md"
                    ));
                }
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
        for bad in ["", "rain", "kill,rain", "clock"] {
            assert!(Fault::parse_list(bad).is_err(), "{bad}");
        }
    }
}
