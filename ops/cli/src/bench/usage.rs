//! What servers use: CPU and memory from the kernel's accounting, disk from the file system.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

/// The processes of one system, and where they keep their data.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers {
    pub(super) pids: Vec<u32>,
    pub(super) data: Vec<PathBuf>,
    /// The one of them that only parses, compresses and routes.
    pub(super) router: Option<u32>,
}

/// One look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// User and system time of all processes.
    pub(super) cpu: Duration,
    /// Largest resident memory that each process had, summed.
    pub(super) peak_bytes: u64,
    /// Resident memory now, summed.
    pub(super) resident_bytes: u64,
}

impl Servers {
    /// User and system time of all processes and whatever they started, also of those of them that
    /// have ended.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let census = Census::take()?;
        let mut ticks = 0;
        for pid in &self.pids {
            ticks += census.family(*pid).map(|one| one.ticks + one.reaped).sum::<u64>();
        }
        Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second()?))
    }

    /// Resident memory of all processes and whatever they started. Pages that the processes of one
    /// server share are counted once.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let census = Census::take()?;
        let mut sum = 0;
        for pid in &self.pids {
            let (mut own, mut shared, mut file) = (0, 0, 0);
            for one in census.family(*pid) {
                // A process may end between the two looks.
                let path = format!("/proc/{}/status", one.pid);
                let status = std::fs::read_to_string(path).unwrap_or_default();
                own += kilobytes(&status, "RssAnon:");
                shared = kilobytes(&status, "RssShmem:").max(shared);
                file = kilobytes(&status, "RssFile:").max(file);
            }
            sum += own + shared + file;
        }
        Ok(sum << 10)
    }

    /// The numbers of all processes and whatever they started, server by server.
    pub(super) fn families(&self) -> anyhow::Result<Vec<Vec<u32>>> {
        let census = Census::take()?;
        let family = |pid: &u32| census.family(*pid).map(|one| one.pid).collect();
        Ok(self.pids.iter().map(family).collect())
    }

    /// CPU and memory of all processes.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let mut sum = Usage::default();
        for pid in &self.pids {
            let of = of(*pid)?;
            sum.cpu += of.cpu;
            sum.peak_bytes += of.peak_bytes;
            sum.resident_bytes += of.resident_bytes;
        }
        Ok(sum)
    }

    /// User and system time of the router.
    pub(super) fn router_cpu(&self) -> anyhow::Result<Option<Duration>> {
        self.router.map(|pid| Ok(of(pid)?.cpu)).transpose()
    }

    /// Bytes allocated on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.data.iter().map(|dir| allocated(dir)).sum()
    }
}

/// A process as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    pid: u32,
    parent: u32,
    /// User and system time, of its own and of children that have ended.
    ticks: u64,
    reaped: u64,
}

/// All processes at one moment.
struct Census(Vec<Counted>);

impl Census {
    fn take() -> anyhow::Result<Census> {
        let entries = std::fs::read_dir("/proc").context("reading /proc")?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // One that has ended in the meantime has no line.
        let counted = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            counted(pid, &stat)
        };
        Ok(Census(pids.filter_map(counted).collect()))
    }

    /// A process, its children, their children, and so on.
    fn family(&self, root: u32) -> impl Iterator<Item = Counted> + '_ {
        let mut members: Vec<Counted> =
            self.0.iter().filter(|one| one.pid == root).copied().collect();
        let mut looked_at = 0;
        while let Some(parent) = members.get(looked_at).map(|one| one.pid) {
            members.extend(self.0.iter().filter(|one| one.parent == parent));
            looked_at += 1;
        }
        members.into_iter()
    }
}

/// The kernel's line about a process. The name, in parentheses, may hold anything.
fn counted(pid: u32, stat: &str) -> Option<Counted> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    let (ticks, reaped) = (number(11)? + number(12)?, number(13)? + number(14)?);
    Some(Counted { pid, parent, ticks, reaped })
}

fn ticks_per_second() -> anyhow::Result<f64> {
    Ok(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100) as f64)
}

/// CPU and memory of one process.
pub(super) fn of(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    };
    let counted = counted(pid, &read("stat")?).context("the kernel's line about a process")?;
    let status = read("status")?;
    Ok(Usage {
        cpu: Duration::from_secs_f64(counted.ticks as f64 / ticks_per_second()?),
        peak_bytes: kilobytes(&status, "VmHWM:") << 10,
        resident_bytes: kilobytes(&status, "VmRSS:") << 10,
    })
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let within = std::fs::read_dir(path).into_iter().flatten().flatten();
    meta.blocks() * 512 + within.map(|entry| allocated(&entry.path())).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_whatever_a_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 90 0 0 0 21 9 4 5 20 0 4 0 100 1 2 3";
        let wanted = Counted { pid: 7, parent: 1, ticks: 30, reaped: 9 };
        assert_eq!(counted(7, stat), Some(wanted));
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\n", "VmHWM:"), 1234);
        assert!(of(std::process::id()).unwrap().resident_bytes > 1 << 20);
    }

    #[test]
    fn a_family_is_everything_below_its_head() {
        let one = |pid, parent| Counted { pid, parent, ticks: 1, reaped: 0 };
        let census = Census(vec![one(1, 0), one(5, 3), one(2, 1), one(3, 2), one(4, 1)]);
        let family = |pid| census.family(pid).map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(family(2), [2, 3, 5]);
        assert_eq!(family(9), [0; 0]);
        let own = Servers { pids: vec![std::process::id()], ..Servers::default() };
        assert!(own.memory().unwrap() > 1 << 20);
        assert_eq!(own.families().unwrap()[0][0], std::process::id());
    }
}
