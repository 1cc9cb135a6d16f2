//! A small file system for each node, so that it can be filled, and lose what was not synced.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use crate::undo::{Debt, Keeper, Undo};
use crate::{Error, wait};

/// Size of each. What is not used takes no room where the images are.
const DISK_BYTES: u64 = 6 << 30;
/// What a filler leaves free, in per cent: less than the 5 that a node wants to have.
const LEFT_PERCENT: u64 = 3;
/// A process that was killed closes its files within this time.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);

/// What ext4 takes to end at once, as by a loss of power (`EXT4_IOC_SHUTDOWN`).
#[allow(unsafe_code, reason = "the kernel has no other way")]
mod going_down {
    /// Nothing that is not on the disk yet shall get there.
    pub(super) const NO_LOG_FLUSH: u32 = 2;

    nix::ioctl_read!(
        /// The argument is read by the kernel, whatever its name says.
        shutdown, b'X', 125, u32
    );
}

/// Mounted file systems, by node. Dropping them unmounts them.
#[derive(Debug)]
pub struct Disks(Vec<Disk>);

#[derive(Debug)]
struct Disk {
    image: PathBuf,
    path: PathBuf,
    _mounted: Debt,
}

impl Disks {
    /// Mounts one at `dir/node-N` for each node; `None` where that is not allowed.
    pub fn mount(dir: &Path, nodes: usize, keeper: &Keeper) -> Result<Option<Disks>, Error> {
        let mut disks = Vec::new();
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
            let _mounted = keeper.owe(Undo::Unmount(path.clone()))?;
            let made =
                succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
                    && mount(&image, &path);
            if !made {
                return Ok(None);
            }
            disks.push(Disk { image, path, _mounted });
        }
        Ok(Some(Disks(disks)))
    }

    /// From now on whatever is asked of the disk fails, and what was not synced is gone.
    #[allow(unsafe_code, reason = "the kernel has no other way")]
    pub(super) fn cut_power(&self, at: usize) -> Result<(), Error> {
        let path = &self.0[at].path;
        let failed = |source| Error::File { path: path.clone(), source };
        let disk = File::open(path).map_err(failed)?;
        let mut how = going_down::NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and `how` is a `u32` that outlives the call.
        unsafe { going_down::shutdown(disk.as_raw_fd(), &raw mut how) }
            .map_err(|errno| failed(errno.into()))?;
        Ok(())
    }

    /// Mounts it again once nobody uses it any more: the file system recovers what was synced.
    pub(super) async fn restore_power(&self, at: usize) -> Result<(), Error> {
        let Disk { image, path, .. } = &self.0[at];
        let what = format!("{} is let go of", path.display());
        // Not lazily: two mounts of one image would destroy it.
        wait::until(&what, LET_GO_WITHIN, async || {
            match succeeds(Command::new("umount").arg(path)) {
                true => Ok(()),
                false => Err("in use"),
            }
        })
        .await?;
        match mount(image, path) {
            true => Ok(()),
            false => Err(Error::Violated { what: format!("{} recovers", image.display()) }),
        }
    }

    /// Leaves so little room that the node must stop writing; the debt makes room again.
    pub(super) fn fill(&self, at: usize, keeper: &Keeper) -> Result<Debt, Error> {
        let disk = &self.0[at].path;
        let path = disk.join("filler");
        let failed = |source| Error::File { path: path.clone(), source };
        let debt = keeper.owe(Undo::Remove(path.clone()))?;
        let found = statvfs(disk).map_err(|errno| failed(errno.into()))?;
        let block = found.fragment_size();
        let (free, all) = (found.blocks_available() * block, found.blocks() * block);
        let filler = free.saturating_sub(all * LEFT_PERCENT / 100);
        let file = File::create(&path).map_err(failed)?;
        fallocate(&file, FallocateFlags::empty(), 0, filler.cast_signed())
            .map_err(|errno| failed(errno.into()))?;
        Ok(debt)
    }
}

fn mount(image: &Path, path: &Path) -> bool {
    succeeds(Command::new("mount").args(["-o", "loop"]).arg(image).arg(path))
}

fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
