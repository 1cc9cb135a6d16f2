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

/// CPU and memory of one process.
pub(super) fn of(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    };
    let ticks = cpu_ticks(&read("stat")?).context("the kernel's line about a process")?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let status = read("status")?;
    Ok(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64),
        peak_bytes: kilobytes(&status, "VmHWM:") << 10,
        resident_bytes: kilobytes(&status, "VmRSS:") << 10,
    })
}

/// User and system time. The name, in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
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
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 90 0 0 0 21 9 0 0 20 0 4 0 100 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(30));
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\n", "VmHWM:"), 1234);
        assert!(of(std::process::id()).unwrap().resident_bytes > 1 << 20);
    }
}
