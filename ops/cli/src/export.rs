//! `platbook export`: every listing at one token.
//!
//! Each shard is streamed from a snapshot of its own, and all snapshots are taken before anything
//! is read. The token stands for exactly these: whoever follows the change stream from it misses
//! nothing, also where a listing moved from one shard to another while the snapshots were taken.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use platbook_client::{Client, ClientConfig, ZipListings};
use platbook_protocol::ShardId;
use platbook_protocol::token::Token;
use tokio::sync::mpsc;

use crate::screen::Screen;

/// Bytes of lines that one shard gathers before it hands them over.
const GATHER_BYTES: usize = 256 << 10;
/// Gathered lines on their way; with [`GATHER_BYTES`] this bounds the memory.
const GATHERED_MAX: usize = 16;
/// zstd's level for an export.
const ZSTD_LEVEL: i32 = 3;

/// Every listing as NDJSON, as the store had them at one token
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// File to write, packed if its name ends in `.gz` or `.zst`; it gets its name when it is
    /// whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Also write the token into this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    client: ClientConfig,
}

/// Every listing, while it arrives, and the token of all of them.
pub(crate) struct Listings {
    /// Where to follow from.
    pub(crate) token: Token,
    lines: mpsc::Receiver<anyhow::Result<Vec<Bytes>>>,
}

impl Listings {
    /// Takes a snapshot of every shard.
    pub(crate) async fn open(client: &Client) -> anyhow::Result<Listings> {
        let cluster = client.admin().cluster().await?;
        let has_slots = |shard: &&serde_json::Value| !shard["slots"].is_null();
        let shards = cluster["shards"].as_array().into_iter().flatten().filter(has_slots);
        let ids: Vec<u64> = shards.filter_map(|shard| shard["id"].as_u64()).collect();
        ensure!(!ids.is_empty(), "the cluster tells of no shards");
        let mut streams = Vec::new();
        let mut token: Option<Token> = None;
        for id in ids {
            let shard = ShardId(u32::try_from(id).context("the number of a shard")?);
            let stream = client.admin().export_shard(shard).await?;
            let own = stream.token().context("the router gave no token")?;
            let own = Token::decode(own.as_str()).context("the router's token")?;
            match &mut token {
                None => token = Some(own),
                Some(all) => {
                    let same = (all.cluster, all.incarnation) == (own.cluster, own.incarnation);
                    ensure!(same, "the cluster has begun a new history: export again");
                    all.epoch = all.epoch.max(own.epoch);
                    all.shards.extend(own.shards);
                }
            }
            streams.push(stream);
        }
        let (sender, lines) = mpsc::channel(GATHERED_MAX);
        // All at the same time: a stream that nobody reads is cut.
        for stream in streams {
            tokio::spawn(gather(stream, sender.clone()));
        }
        Ok(Listings { token: token.context("the cluster tells of no shards")?, lines })
    }

    /// The next listings; `None` behind the last one. Never ends early without an error.
    pub(crate) async fn try_next(&mut self) -> anyhow::Result<Option<Vec<Bytes>>> {
        self.lines.recv().await.transpose()
    }
}

async fn gather(mut stream: ZipListings, lines: mpsc::Sender<anyhow::Result<Vec<Bytes>>>) {
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    loop {
        let next = stream.try_next().await;
        let is_over = !matches!(next, Ok(Some(_)));
        match next {
            Ok(Some(listing)) => {
                bytes += listing.body().len();
                gathered.push(listing.into_body());
            }
            Ok(None) => {}
            Err(error) => {
                // Whoever asked may have gone.
                let _ = lines.send(Err(error.into())).await;
                return;
            }
        }
        if bytes >= GATHER_BYTES || is_over {
            bytes = 0;
            if lines.send(Ok(std::mem::take(&mut gathered))).await.is_err() || is_over {
                return;
            }
        }
    }
}

/// `platbook export`.
pub(crate) async fn run(args: ExportArgs) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let client = args.client.connect()?;
    let mut listings = Listings::open(&client).await?;
    let token = listings.token.encode().context("the token of all shards")?;
    let mut out = Target::open(args.to.as_deref())?;
    let mut count = 0_u64;
    while let Some(lines) = listings.try_next().await? {
        count += lines.len() as u64;
        tokio::task::block_in_place(|| out.write(&lines))?;
        screen.progress(count, 0, &format!("{count} listings"));
    }
    out.finish()?;
    if let Some(path) = &args.token_file {
        std::fs::write(path, format!("{token}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    screen.end();
    screen.say(&format!("{count} listings; to follow from here: {token}"));
    Ok(())
}

/// Where the lines go.
struct Target {
    out: Box<dyn Finish>,
    /// The file and the name that it gets when it is whole.
    names: Option<(PathBuf, PathBuf)>,
}

/// A writer whose end has to be written, too.
trait Finish: Write {
    fn finish(self: Box<Self>) -> io::Result<Option<File>>;
}

impl Finish for io::Stdout {
    fn finish(mut self: Box<Self>) -> io::Result<Option<File>> {
        self.flush().map(|()| None)
    }
}

impl Finish for BufWriter<File> {
    fn finish(self: Box<Self>) -> io::Result<Option<File>> {
        self.into_inner().map(Some).map_err(io::IntoInnerError::into_error)
    }
}

impl Finish for zstd::stream::write::Encoder<'static, File> {
    fn finish(self: Box<Self>) -> io::Result<Option<File>> {
        zstd::stream::write::Encoder::finish(*self).map(Some)
    }
}

impl Finish for flate2::write::GzEncoder<File> {
    fn finish(self: Box<Self>) -> io::Result<Option<File>> {
        flate2::write::GzEncoder::finish(*self).map(Some)
    }
}

impl Target {
    fn open(path: Option<&Path>) -> anyhow::Result<Target> {
        let Some(path) = path else {
            return Ok(Target { out: Box::new(io::stdout()), names: None });
        };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = || format!("cannot write {}", partial.display());
        let file = File::create(&partial).with_context(failed)?;
        let out: Box<dyn Finish> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => {
                Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::default()))
            }
            Some("zst") => {
                let packer = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL);
                Box::new(packer.with_context(failed)?)
            }
            _ => Box::new(BufWriter::new(file)),
        };
        Ok(Target { out, names: Some((partial, path.to_owned())) })
    }

    fn write(&mut self, lines: &[Bytes]) -> anyhow::Result<()> {
        for line in lines {
            self.out.write_all(line)?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        let file = self.out.finish()?;
        if let (Some(file), Some((partial, path))) = (file, self.names) {
            let failed = || format!("cannot write {}", path.display());
            file.sync_all().with_context(failed)?;
            std::fs::rename(&partial, &path).with_context(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use platbook_ingest::lines::Lines;

    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.ndjson", "a.ndjson.gz", "a.ndjson.zst"] {
            let path = dir.path().join(name);
            let mut target = Target::open(Some(&path)).unwrap();
            target.write(&[Bytes::from_static(b"{}"), Bytes::from_static(b"[]")]).unwrap();
            assert!(!path.exists());
            target.finish().unwrap();
            let mut lines = Lines::new(vec![path], Arc::default());
            let mut next = || lines.try_next().unwrap().map(|line| line.text);
            assert_eq!([next(), next(), next()], [Some("{}".into()), Some("[]".into()), None]);
        }
    }
}
