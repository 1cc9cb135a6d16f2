//! A small file system for each node, so that it can be filled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::Error;
use crate::undo::{Debt, Keeper, Undo};

/// Size of each. What is not used takes no room where the images are.
const DISK_BYTES: u64 = 6 << 30;
/// What a filler leaves free, in per cent: less than the 5 that a node wants to have.
const LEFT_PERCENT: u64 = 3;

/// Mounted file systems, by node. Dropping them unmounts them.
#[derive(Debug)]
pub struct Disks {
    paths: Vec<PathBuf>,
    _mounted: Vec<Debt>,
}

impl Disks {
    /// Mounts one at `dir/node-N` for each node; `None` where that is not allowed.
    pub fn mount(dir: &Path, nodes: usize, keeper: &Keeper) -> Result<Option<Disks>, Error> {
        let mut disks = Disks { paths: Vec::new(), _mounted: Vec::new() };
        for node in 1..=nodes {
            let (image, path) =
                (dir.join(format!("disk-{node}")), dir.join(format!("node-{node}")));
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| Error::File { path, source }
            };
            std::fs::create_dir_all(&path).map_err(failed(&path))?;
            let file = File::create(&image).map_err(failed(&image))?;
            file.set_len(DISK_BYTES).map_err(failed(&image))?;
            let mounted = disks.paths.len();
            disks._mounted.push(keeper.owe(Undo::Unmount(path.clone()))?);
            let made =
                succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
                    && succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
            if !made {
                disks._mounted.truncate(mounted);
                return Ok(None);
            }
            disks.paths.push(path);
        }
        Ok(Some(disks))
    }

    /// Leaves so little room that the node must stop writing; the debt makes room again.
    pub(super) fn fill(&self, at: usize, keeper: &Keeper) -> Result<Debt, Error> {
        let path = self.paths[at].join("filler");
        let failed = |source| Error::File { path: path.clone(), source };
        let debt = keeper.owe(Undo::Remove(path.clone()))?;
        let found = statvfs(&self.paths[at]).map_err(|errno| failed(errno.into()))?;
        let block = found.fragment_size();
        let (free, all) = (found.blocks_available() * block, found.blocks() * block);
        let filler = free.saturating_sub(all * LEFT_PERCENT / 100);
        let file = File::create(&path).map_err(failed)?;
        fallocate(&file, FallocateFlags::empty(), 0, filler.cast_signed())
            .map_err(|errno| failed(errno.into()))?;
        Ok(debt)
    }
}

fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
