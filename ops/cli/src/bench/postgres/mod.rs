//! A PostgreSQL primary and two synchronous standbys on loopback: `ANY 1` of them has flushed a
//! commit, and so has the primary, before it is acknowledged.

mod sink;
mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::unistd::{Uid, User};
use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, wait};

pub(super) use sink::{PostgresSink, Writes};
use wire::Connection;

use super::usage::Servers;

const STANDBYS: usize = 2;
const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// PostgreSQL refuses to run as root; its package brings this user.
const USER: &str = "postgres";

/// How a column of text is compressed once it is too long for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// `pglz`, the default.
    Default,
    /// `lz4`.
    Lz4,
}

/// The running servers; the primary is the first.
pub(super) struct Postgres {
    servers: Vec<Process>,
    data: Vec<PathBuf>,
    addresses: Vec<String>,
}

impl Postgres {
    /// Starts a fresh primary and its standbys from the programs in `bin`, data in `dir`.
    pub(super) async fn start(bin: &Path, dir: &Path) -> anyhow::Result<Postgres> {
        let there = bin.join("initdb").exists();
        ensure!(there, "{} has no initdb: run ops/setup/postgresql.sh", bin.display());
        let addresses = free_addresses(1 + STANDBYS)?;
        let mut running = Postgres { servers: Vec::new(), data: Vec::new(), addresses };
        for at in 0..=STANDBYS {
            let data = owned_dir(dir, &format!("postgres-{at}"))?;
            let primary = running.addresses[0].clone();
            match at {
                0 => init(bin, &data).await?,
                _ => copy(bin, &data, &primary).await?,
            }
            let server = server(bin, &data, at, &running.addresses)?;
            running.servers.push(Process::start(server)?);
            running.data.push(data);
            running.answers(at).await?;
        }
        running.replicates().await?;
        Ok(running)
    }

    /// A fresh table, and connections for so many clients.
    pub(super) async fn sink(
        &self,
        writes: Writes,
        compression: Compression,
        clients: usize,
    ) -> anyhow::Result<PostgresSink> {
        let mut connection = Connection::open(&self.addresses[0]).await?;
        let with = match compression {
            Compression::Default => "",
            Compression::Lz4 => "COMPRESSION lz4",
        };
        let table = format!(
            "DROP TABLE IF EXISTS listings; CREATE TABLE listings (id text PRIMARY KEY, \
             zip text NOT NULL, price bigint NOT NULL, body text {with} NOT NULL); \
             CREATE INDEX listings_by_zip ON listings (zip, id)"
        );
        connection.query(&table).await?;
        PostgresSink::open(&self.addresses[0], writes, clients).await
    }

    /// More connections to the table that is there.
    pub(super) async fn connect(&self, clients: usize) -> anyhow::Result<PostgresSink> {
        PostgresSink::open(&self.addresses[0], Writes::Upsert, clients).await
    }

    /// Brings the statistics of the planner up to date, as autovacuum would after a while.
    pub(super) async fn analyse(&self) -> anyhow::Result<()> {
        Connection::open(&self.addresses[0]).await?.query("ANALYZE listings").await.map(|_| ())
    }

    /// What to watch.
    pub(super) fn servers(&self) -> Servers {
        let pids = self.servers.iter().map(Process::pid).collect();
        Servers { pids, data: self.data.clone(), router: None }
    }

    /// Calls that synced the write-ahead logs of all servers.
    pub(super) async fn syncs(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for address in &self.addresses {
            let mut connection = Connection::open(address).await?;
            let rows = connection.query("SELECT wal_sync FROM pg_stat_wal").await?;
            sum += number(&rows).context("the count of syncs")?;
        }
        Ok(sum)
    }

    /// Ends all servers, the primary last; a server that is killed leaves shared memory behind.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        while let Some(mut server) = self.servers.pop() {
            server.interrupt()?;
            server.ended_within(ENDED_WITHIN).await?;
        }
        Ok(())
    }

    /// Waits until a server takes connections.
    async fn answers(&mut self, at: usize) -> anyhow::Result<()> {
        let (server, address) = (&mut self.servers[at], &self.addresses[at]);
        let what = format!("{} takes connections", server.name());
        wait::until(&what, READY_WITHIN, async || {
            if let Err(ended) = server.check() {
                return Ok(Err(ended));
            }
            Connection::open(address).await.map(|_| Ok(())).map_err(|error| format!("{error:#}"))
        })
        .await??;
        Ok(())
    }

    /// Waits until every standby takes part in the quorum.
    async fn replicates(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(&self.addresses[0]).await?;
        let sql = "SELECT count(*) FROM pg_stat_replication \
                   WHERE state = 'streaming' AND sync_state = 'quorum'";
        wait::until("every standby streams", READY_WITHIN, async || {
            let rows = connection.query(sql).await.map_err(|error| format!("{error:#}"))?;
            let count = number(&rows).unwrap_or_default();
            if count == STANDBYS as f64 { Ok(()) } else { Err(format!("{count} of them")) }
        })
        .await?;
        Ok(())
    }
}

fn number(rows: &[Vec<String>]) -> Option<f64> {
    rows.first()?.first()?.parse().ok()
}

/// The command `name`, as a user that PostgreSQL runs as.
fn program(bin: &Path, name: &str) -> (PathBuf, Vec<OsString>) {
    let path = bin.join(name);
    if !Uid::effective().is_root() {
        return (path, Vec::new());
    }
    let as_user = ["--reuid", USER, "--regid", USER, "--clear-groups"].map(OsString::from);
    (PathBuf::from("setpriv"), as_user.into_iter().chain([path.into_os_string()]).collect())
}

/// A directory for that user.
fn owned_dir(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
    let path = dir.join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&path).context("making a data directory")?;
    if Uid::effective().is_root() {
        let user = User::from_name(USER)?.context("there is no user `postgres`")?;
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        // It has to get there; a temporary directory is its maker's alone.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    }
    Ok(path)
}

async fn run(bin: &Path, name: &str, args: &[&std::ffi::OsStr]) -> anyhow::Result<()> {
    let (binary, before) = program(bin, name);
    let mut command = tokio::process::Command::new(binary);
    command.args(before).args(args).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| format!("running {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, said.trim());
    Ok(())
}

async fn init(bin: &Path, data: &Path) -> anyhow::Result<()> {
    let fixed = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER, "--pgdata"];
    let args: Vec<_> = fixed.iter().map(std::ffi::OsStr::new).chain([data.as_os_str()]).collect();
    run(bin, "initdb", &args).await
}

/// A standby's data: a copy of the running primary's.
async fn copy(bin: &Path, data: &Path, primary: &str) -> anyhow::Result<()> {
    let from = connection_string(primary);
    let fixed = ["--checkpoint=fast", "--wal-method=stream", "--dbname", &from, "--pgdata"];
    let args: Vec<_> = fixed.iter().map(std::ffi::OsStr::new).chain([data.as_os_str()]).collect();
    run(bin, "pg_basebackup", &args).await?;
    std::fs::write(data.join("standby.signal"), "").context("marking a standby")
}

fn connection_string(address: &str) -> String {
    let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
    format!("host={host} port={port} user={USER}")
}

/// Settings that matter: replication and durability as stated, and enough memory and log that
/// checkpoints do not get in the way. What is not named is PostgreSQL's default.
fn server(bin: &Path, data: &Path, at: usize, addresses: &[String]) -> anyhow::Result<Program> {
    let (binary, mut args) = program(bin, "postgres");
    let (host, port) = addresses[at].split_once(':').context("an address is host:port")?;
    let upstream = format!("{} application_name=s{at}", connection_string(&addresses[0]));
    let settings = [
        ("listen_addresses", host),
        ("port", port),
        ("unix_socket_directories", ""),
        ("max_connections", "400"),
        ("shared_buffers", "512MB"),
        ("max_wal_size", "4GB"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("synchronous_standby_names", if at == 0 { "ANY 1 (s1, s2)" } else { "" }),
        ("primary_conninfo", if at == 0 { "" } else { &upstream }),
    ];
    args.extend(["-D".into(), data.as_os_str().to_owned()]);
    for (name, value) in settings {
        args.extend(["-c".into(), format!("{name}={value}").into()]);
    }
    Ok(Program {
        name: format!("postgres-{at}"),
        binary,
        args,
        env: Vec::new(),
        logs: data.with_file_name("logs"),
    })
}
