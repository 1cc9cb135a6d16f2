//! Ids and digests of one side, on disk, parted by a hash of the id: both sides of a part fit into
//! memory where neither does as a whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use platbook_protocol::{Digest, ListingId, Slot};

/// Parts of each side. With 200 million listings one part has about 800,000.
pub(super) const PARTS: usize = 256;
const BUFFER_BYTES: usize = 16 << 10;

/// One side while it is written.
pub(super) struct Spill {
    dir: PathBuf,
    parts: Vec<BufWriter<File>>,
    count: u64,
}

impl Spill {
    /// Into `dir`, which is made.
    pub(super) fn try_new(dir: &Path) -> anyhow::Result<Spill> {
        std::fs::create_dir_all(dir).context("making a temporary directory")?;
        let part = |part| {
            let file = File::create(path(dir, part)).context("making a temporary file")?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        let parts = (0..PARTS).map(part).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Spill { dir: dir.to_owned(), parts, count: 0 })
    }

    /// Adds one listing.
    pub(super) fn put(&mut self, id: &ListingId, digest: Digest) -> anyhow::Result<()> {
        let id = id.as_str().as_bytes();
        let part = usize::from(Slot::of(id).0) % PARTS;
        let out = &mut self.parts[part];
        let length = u16::try_from(id.len()).context("an id has at most 255 bytes")?;
        self.count += 1;
        out.write_all(&length.to_le_bytes())
            .and_then(|()| out.write_all(id))
            .and_then(|()| out.write_all(&digest.0))
            .context("writing a temporary file")
    }

    /// Ends it: how many listings, and its parts.
    pub(super) fn finish(mut self) -> anyhow::Result<(u64, Spilled)> {
        for part in &mut self.parts {
            part.flush().context("writing a temporary file")?;
        }
        Ok((self.count, Spilled { dir: self.dir }))
    }
}

/// One side, written.
pub(super) struct Spilled {
    dir: PathBuf,
}

impl Spilled {
    /// Hands every listing of a part to `take`, in the order in which they were put.
    pub(super) fn read(
        &self,
        part: usize,
        mut take: impl FnMut(String, Digest),
    ) -> anyhow::Result<()> {
        let failed = "reading a temporary file";
        let file = File::open(path(&self.dir, part)).context(failed)?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        loop {
            let mut length = [0; 2];
            match file.read_exact(&mut length) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                read => read.context(failed)?,
            }
            let mut id = vec![0; usize::from(u16::from_le_bytes(length))];
            let mut digest = Digest([0; 16]);
            file.read_exact(&mut id).context(failed)?;
            file.read_exact(&mut digest.0).context(failed)?;
            take(String::from_utf8(id).context(failed)?, digest);
        }
    }
}

fn path(dir: &Path, part: usize) -> PathBuf {
    dir.join(format!("{part:03}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listing_comes_back_once_and_the_same_id_in_the_same_part() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::try_new(&dir.path().join("side")).unwrap();
        for number in 0..2_000_u32 {
            let id = ListingId::try_new(&format!("id-{}", number % 1_000)).unwrap();
            spill.put(&id, Digest([(number / 1_000) as u8; 16])).unwrap();
        }
        let (count, spilled) = spill.finish().unwrap();
        assert_eq!(count, 2_000);
        let mut seen = 0;
        for part in 0..PARTS {
            let mut of_part = std::collections::BTreeMap::new();
            spilled
                .read(part, |id, digest| {
                    seen += 1;
                    of_part.entry(id).or_insert_with(Vec::new).push(digest.0[0]);
                })
                .unwrap();
            assert!(of_part.values().all(|digests| digests == &[0, 1]), "{of_part:?}");
        }
        assert_eq!(seen, 2_000);
    }
}
