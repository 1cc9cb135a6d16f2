//! The systems that are compared, started afresh and stopped, one interface to all of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;

use super::super::etcd::Etcd;
use super::super::nats::Nats;
use super::super::postgres::Postgres;
use super::super::store::Store;
use super::super::usage::Servers;

/// A system, and what it takes to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum System {
    Platbook { shards: u32 },
    Etcd { binary: PathBuf },
    Nats { binary: PathBuf },
    Postgres { bin: PathBuf },
}

/// Three nodes of it that run.
pub(super) enum Running {
    Platbook(Box<Store>, PathBuf),
    Etcd(Etcd),
    Nats(Nats),
    Postgres(Postgres),
}

impl System {
    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            System::Platbook { .. } => "Platbook",
            System::Etcd { .. } => "etcd",
            System::Nats { .. } => "NATS",
            System::Postgres { .. } => "PostgreSQL",
        }
    }

    /// Starts it in `dir`, which is empty.
    pub(super) async fn start(&self, dir: &Path) -> anyhow::Result<Running> {
        let started = match self {
            System::Platbook { shards } => {
                Running::Platbook(Box::new(Store::start(dir, 3, *shards).await?), dir.to_owned())
            }
            System::Etcd { binary } => Running::Etcd(Etcd::start(binary, dir).await?),
            System::Nats { binary } => Running::Nats(Nats::start(binary, dir).await?),
            System::Postgres { bin } => Running::Postgres(Postgres::start(bin, dir).await?),
        };
        Ok(started)
    }

    /// What it says about its version.
    pub(super) async fn version(&self) -> anyhow::Result<String> {
        let binary = match self {
            System::Platbook { .. } => return Ok(env!("CARGO_PKG_VERSION").to_string()),
            System::Etcd { binary } | System::Nats { binary } => binary.clone(),
            System::Postgres { bin } => bin.join("postgres"),
        };
        first_line(&binary, "--version").await
    }
}

async fn first_line(binary: &Path, flag: &str) -> anyhow::Result<String> {
    let output = tokio::process::Command::new(binary).arg(flag).stdin(Stdio::null()).output();
    let output = output.await.with_context(|| format!("running {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_string())
}

impl Running {
    /// What to watch.
    pub(super) fn servers(&self) -> Servers {
        match self {
            Running::Platbook(store, dir) => store.servers(dir),
            Running::Etcd(etcd) => etcd.servers(),
            Running::Nats(nats) => nats.servers(),
            Running::Postgres(postgres) => postgres.servers(),
        }
    }

    /// How often all logs were synced so far, where the system counts it.
    pub(super) async fn syncs(&self) -> anyhow::Result<Option<f64>> {
        match self {
            Running::Platbook(store, _) => store.syncs().await.map(Some),
            Running::Etcd(etcd) => etcd.syncs().await.map(Some),
            Running::Nats(_) => Ok(None),
            Running::Postgres(postgres) => postgres.syncs().await.map(Some),
        }
    }

    /// Ends it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Running::Platbook(store, _) => Ok(store.cluster.stop().await?),
            // Dropping them ends them: their data is not looked at again.
            Running::Etcd(_) | Running::Nats(_) => Ok(()),
            Running::Postgres(postgres) => postgres.stop().await,
        }
    }
}
