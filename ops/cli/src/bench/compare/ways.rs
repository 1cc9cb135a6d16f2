//! Every way of writing that is compared, and one round of one of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::super::drive::{Listing, Measured, Sink, drive};
use super::super::nats::Publish;
use super::super::postgres::{Compression, Writes};
use super::super::usage::{self, Servers};
use super::syncs::{self, Synced};
use super::systems::{Running, System};
use super::{Peers, Scale};

/// Clients of the ways that write one by one.
const ONE_BY_ONE: usize = 256;
/// Clients of the ways that write in batches.
const BATCHING: usize = 16;
/// In how large batches, and by how many, listings are written before the clock starts.
const WARM_UP_BATCH: usize = 100;
const WARM_UP_CLIENTS: usize = 8;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest time of anything that is written.
const LONGEST: Duration = Duration::from_secs(120);

/// What a system is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// A batch in one HTTP request.
    Post,
    /// A `PUT` each.
    Put,
    /// A put each, or a transaction of puts.
    Etcd,
    /// Messages under way at the same time, or a batch of them.
    Nats(Publish),
    /// Rows of a table.
    Postgres(Writes, Compression),
}

/// One way of writing listings into one system.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) system: System,
    pub(super) how: How,
    pub(super) name: &'static str,
    pub(super) clients: usize,
    pub(super) batch: usize,
}

/// What one round of one way took.
pub(super) struct Round {
    pub(super) measured: Measured,
    /// One client that writes one by one, where the way is that.
    pub(super) alone: Option<Measured>,
    /// Where syncs were checked.
    pub(super) synced: Option<Synced>,
    pub(super) cpu: Duration,
    pub(super) load_cpu: Duration,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    /// Bytes of all bodies that were written, the warm-up included.
    pub(super) raw_bytes: u64,
    pub(super) syncs: Option<f64>,
}

/// The ways through every system that there is.
pub(super) fn all(peers: &Peers, shards: u32) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add = |system: &System, how, name, clients, batch| {
        ways.push(Way { system: system.clone(), how, name, clients, batch });
    };
    let platbook = System::Platbook { shards };
    add(&platbook, How::Post, "POST of 500", BATCHING, 500);
    add(&platbook, How::Put, "PUT one by one", ONE_BY_ONE, 1);
    if let Some(binary) = peers.etcd.clone() {
        let etcd = System::Etcd { binary };
        add(&etcd, How::Etcd, "transactions of 100 puts", BATCHING, 100);
        add(&etcd, How::Etcd, "put one by one", ONE_BY_ONE, 1);
    }
    if let Some(binary) = peers.nats.clone() {
        let nats = System::Nats { binary };
        let publish = How::Nats;
        add(&nats, publish(Publish::InFlight), "KV puts, 500 in flight", BATCHING, 500);
        add(&nats, publish(Publish::Atomic), "KV puts, atomic batches of 100", BATCHING, 100);
        add(&nats, publish(Publish::InFlight), "KV put one by one", ONE_BY_ONE, 1);
    }
    if let Some(bin) = peers.postgres.clone() {
        let postgres = System::Postgres { bin };
        let (plain, lz4) = (Compression::Default, Compression::Lz4);
        let (upsert, copy) = (Writes::Upsert, Writes::Copy);
        let how = How::Postgres;
        add(&postgres, how(upsert, plain), "upserts of 100 rows", BATCHING, 100);
        add(&postgres, how(upsert, lz4), "upserts of 100 rows, lz4", BATCHING, 100);
        add(&postgres, how(copy, plain), "COPY of 500 rows", BATCHING, 500);
        add(&postgres, how(copy, lz4), "COPY of 500 rows, lz4", BATCHING, 500);
        add(&postgres, how(upsert, plain), "upsert one by one", ONE_BY_ONE, 1);
    }
    ways
}

impl Way {
    fn is_one_by_one(&self) -> bool {
        self.batch == 1
    }

    /// One round: starts the system in `dir`, warms it up, writes, and ends it.
    pub(super) async fn round(
        &self,
        dir: &Path,
        scale: &Scale,
        listings: &[Listing],
        checks_syncs: bool,
    ) -> anyhow::Result<Round> {
        let running = self.system.start(dir).await?;
        let work = Work { way: self, scale, listings, running: &running, checks_syncs };
        let round = match (&running, self.how) {
            (Running::Platbook(store, _), How::Post) => work.of(store.sink()).await,
            (Running::Platbook(store, _), How::Put) => work.of(&store.puts()).await,
            (Running::Etcd(etcd), How::Etcd) => work.of(etcd.sink()).await,
            (Running::Nats(nats), How::Nats(publish)) => work.of(&nats.sink(publish)).await,
            (Running::Postgres(postgres), How::Postgres(writes, compression)) => {
                let clients = self.clients.max(WARM_UP_CLIENTS);
                work.of(&postgres.sink(writes, compression, clients).await?).await
            }
            _ => bail!("{} cannot be written in this way", self.system.name()),
        };
        let round = round.with_context(|| format!("{}, {}", self.system.name(), self.name))?;
        running.stop().await?;
        Ok(round)
    }
}

/// One round while its system runs.
struct Work<'a> {
    way: &'a Way,
    scale: &'a Scale,
    listings: &'a [Listing],
    running: &'a Running,
    checks_syncs: bool,
}

impl Work<'_> {
    async fn of<S: Sink>(&self, sink: &S) -> anyhow::Result<Round> {
        let Scale { warm_up, alone, probed, .. } = *self.scale;
        let (before, rest) = self.listings.split_at(warm_up);
        drive(sink, before, WARM_UP_BATCH, WARM_UP_CLIENTS, LONGEST).await?;
        if let Running::Platbook(store, _) = self.running {
            store.trained().await?;
        }
        let (single, rest) = rest.split_at(alone);
        let (probe, rest) = rest.split_at(probed);
        let is_alone = self.way.is_one_by_one();
        let alone = match is_alone {
            true => Some(drive(sink, single, 1, 1, LONGEST).await?),
            false => None,
        };
        let mut round = self.load(sink, rest).await?;
        round.alone = alone;
        let written = before.iter().chain(if is_alone { single } else { &[] });
        round.raw_bytes += written.map(|one| one.body.len() as u64).sum::<u64>();
        if is_alone && self.checks_syncs {
            let servers = self.running.servers();
            round.synced = Some(syncs::check(&servers, sink, probe).await?);
        }
        Ok(round)
    }

    async fn load<S: Sink>(&self, sink: &S, listings: &[Listing]) -> anyhow::Result<Round> {
        let servers = self.running.servers();
        let own = || usage::of(std::process::id());
        let syncs = self.running.syncs().await?;
        let (cpu, load_cpu) = (servers.cpu()?, own()?.cpu);
        let limit = Duration::from_secs(self.scale.seconds);
        let driven = drive(sink, listings, self.way.batch, self.way.clients, limit);
        let (measured, memory_bytes) = with_memory(&servers, driven).await?;
        let (cpu, load_cpu) = (servers.cpu()? - cpu, own()?.cpu - load_cpu);
        let syncs = self.running.syncs().await?.zip(syncs).map(|(after, before)| after - before);
        let written = listings.iter().take(measured.listings);
        Ok(Round {
            alone: None,
            synced: None,
            cpu,
            load_cpu,
            memory_bytes,
            disk_bytes: servers.disk_bytes(),
            raw_bytes: written.map(|one| one.body.len() as u64).sum(),
            syncs,
            measured,
        })
    }
}

/// Carries `work` through, and gives the most memory that the servers had meanwhile.
async fn with_memory(
    servers: &Servers,
    work: impl Future<Output = anyhow::Result<Measured>>,
) -> anyhow::Result<(Measured, u64)> {
    tokio::pin!(work);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut peak = 0;
    let measured = loop {
        tokio::select! {
            measured = &mut work => break measured?,
            _ = looks.tick() => peak = servers.memory()?.max(peak),
        }
    };
    Ok((measured, servers.memory()?.max(peak)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn systems_that_are_not_there_are_left_out() {
        let only = all(&Peers::default(), 16);
        assert!(only.iter().all(|way| way.system == System::Platbook { shards: 16 }));
        let binary = Some(PathBuf::from("/bin/true"));
        let peers = Peers { etcd: binary.clone(), nats: binary.clone(), postgres: binary };
        let ways = all(&peers, 16);
        assert_eq!(ways.len(), 12);
        let one_by_one = ways.iter().filter(|way| way.is_one_by_one());
        assert_eq!(one_by_one.count(), 4, "each system once");
    }
}
