//! Where it was measured: the machine, and how fast its disk is today.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

/// Bytes of a write that is synced.
const WRITE_BYTES: usize = 32 << 10;
/// How many are.
const WRITES: u64 = 300;

/// Writes and syncs into a file of its own in `dir`, and gives what each took, ascending.
pub(super) fn sync_latencies(dir: &Path) -> anyhow::Result<Vec<Duration>> {
    std::fs::create_dir_all(dir).context("making the directory")?;
    let path = dir.join("sync-probe");
    let file = File::create(&path).context("making a file")?;
    let bytes = vec![7_u8; WRITE_BYTES];
    let mut latencies = Vec::new();
    for at in 0..WRITES {
        let began = Instant::now();
        file.write_all_at(&bytes, at * WRITE_BYTES as u64)?;
        file.sync_data()?;
        latencies.push(began.elapsed());
    }
    std::fs::remove_file(&path).context("removing the file")?;
    latencies.sort_unstable();
    Ok(latencies)
}

/// Processors, memory and kernel.
pub(super) fn facts() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gib": kib.map(|kib| kib >> 20),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sync_took_some_time_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let latencies = sync_latencies(dir.path()).unwrap();
        assert_eq!(latencies.len() as u64, WRITES);
        assert!(latencies[0] > Duration::ZERO && latencies.is_sorted());
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert!(facts()["cores"].as_u64() > Some(0));
    }
}
