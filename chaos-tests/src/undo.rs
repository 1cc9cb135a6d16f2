//! What a fault owes to the machine: that it is put back, also when this process dies before it
//! could do so itself.
//!
//! A second process, the *keeper*, is told of every debt before the fault is done, over a pipe.
//! When the pipe ends with debts left, whoever held it is gone, and the keeper pays them. It is in
//! a group of its own, so that Ctrl-C does not end both.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::process::PARENT;

/// A process, and not another one that got its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pid: u32,
    /// In the kernel's ticks since it booted.
    started: u64,
}

impl Who {
    /// The process that has this number now.
    pub fn is(pid: u32) -> Option<Who> {
        Some(Who { pid, started: started(pid)? })
    }

    fn signal(self, signal: Signal) {
        if started(self.pid) == Some(self.started) {
            // It may end in this very moment, and then nothing is owed to it.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }
}

/// When a process was started: the 22nd field of its line, the 20th behind its name.
fn started(pid: u32) -> Option<u64> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = line.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

/// One thing to put back. Doing so twice, or where nothing was done, does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undo {
    /// SIGCONT to a process that was stopped.
    Resume(Who),
    /// SIGTERM to a process that interferes with another one.
    End(Who),
    /// A file that fills a disk.
    Remove(PathBuf),
    /// A file system.
    Unmount(PathBuf),
}

impl Undo {
    /// Puts it back.
    pub fn perform(&self) {
        match self {
            Undo::Resume(who) => who.signal(Signal::SIGCONT),
            Undo::End(who) => who.signal(Signal::SIGTERM),
            // It may not be there any more.
            Undo::Remove(path) => drop(std::fs::remove_file(path)),
            Undo::Unmount(path) => {
                // A lazy one: a process that is about to end may still hold it.
                let mut umount = Command::new("umount");
                let umount = umount.arg("-l").arg(path).stdin(Stdio::null());
                drop(umount.stdout(Stdio::null()).stderr(Stdio::null()).status());
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Line {
    Owed(u64, Undo),
    Paid(u64),
}

/// The keeper, seen from the process that does the faults. Clones share it.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// `None` once the last handle is dropped.
    pipe: Option<ChildStdin>,
    child: Child,
    last: u64,
}

impl Keeper {
    /// Starts `platbook chaos keeper`.
    pub fn start(binary: &Path) -> Result<Keeper, Error> {
        let failed = |source| Error::Start { name: "the keeper".to_string(), source };
        let mut child = Command::new(binary)
            .args(["chaos", "keeper"])
            // It must outlive this process.
            .env_remove(PARENT)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take();
        Ok(Keeper(Arc::new(Mutex::new(Inner { pipe, child, last: 0 }))))
    }

    /// Takes on a debt; to be called before the fault is done.
    pub fn owe(&self, undo: Undo) -> Result<Debt, Error> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let number = inner.last;
        inner.tell(&Line::Owed(number, undo.clone()))?;
        drop(inner);
        Ok(Debt { keeper: self.clone(), number, undo })
    }
}

impl Inner {
    fn tell(&mut self, line: &Line) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        let failed = |source| Error::Signal { name: "the keeper".to_string(), source };
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(&text).map_err(failed),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pipe = None;
        // It ends with its pipe.
        let _ = self.child.wait();
    }
}

/// One debt. Dropping it pays it.
#[derive(Debug)]
#[must_use = "a debt that is dropped is paid"]
pub struct Debt {
    keeper: Keeper,
    number: u64,
    undo: Undo,
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.undo.perform();
        let mut inner = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A keeper that is gone keeps nothing.
        let _ = inner.tell(&Line::Paid(self.number));
    }
}

/// The keeper itself: reads until the pipe ends, then pays what is left, the newest debt first.
pub fn keep(lines: impl BufRead) -> usize {
    let mut owed = BTreeMap::new();
    for line in lines.lines() {
        // A line that was cut is the last one, of a process that had not yet done its fault.
        let Ok(line) = line.map_err(drop).and_then(|l| serde_json::from_str(&l).map_err(drop))
        else {
            break;
        };
        match line {
            Line::Owed(number, undo) => drop(owed.insert(number, undo)),
            Line::Paid(number) => drop(owed.remove(&number)),
        }
    }
    owed.values().rev().for_each(Undo::perform);
    owed.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_got_is_not_signalled() {
        let own = Who::is(std::process::id()).expect("this process runs");
        assert_eq!(Who::is(own.pid), Some(own));
        // This would end the test.
        Undo::End(Who { started: own.started + 1, ..own }).perform();
        assert_eq!(Who::is(u32::MAX >> 1), None);
    }

    #[test]
    fn what_is_not_paid_is_put_back_when_the_pipe_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = [1, 2, 3].map(|number| dir.path().join(number.to_string()));
        paths.iter().for_each(|path| std::fs::write(path, "").expect("written"));
        let line = |line: Line| serde_json::to_string(&line).expect("JSON") + "\n";
        let owed = |at: usize| line(Line::Owed(at as u64, Undo::Remove(paths[at].clone())));
        let text = [owed(0), owed(1), line(Line::Paid(0)), owed(2), "{\"Owed\":[4".into()].concat();
        assert_eq!(keep(text.as_bytes()), 2);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, false, false]);
    }
}
