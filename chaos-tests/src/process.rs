//! One child process that ends with its parent, and the signals that hurt it.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::Error;

/// Tells a `platbook` process whose part it is, so that the kernel ends them together.
const PARENT: &str = "PLATBOOK_PARENT";
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 15;

/// How to start a process, now and again after it was killed.
#[derive(Clone, Debug)]
pub struct Program {
    /// For people, and the log's file name: `node-1`.
    pub name: String,
    /// The `platbook` binary.
    pub binary: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Directory for the log.
    pub logs: PathBuf,
}

/// A started process. Dropping it kills it.
///
/// Must be started from a thread that lives as long as the process shall (the main thread, a test's
/// thread, a runtime's worker): the kernel counts the starting *thread* as the parent.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
}

impl Process {
    /// Starts `program`; stdout and stderr are appended to its log.
    pub fn start(program: Program) -> Result<Process, Error> {
        let path = log_path(&program);
        let file = |source| Error::File { path: path.clone(), source };
        std::fs::create_dir_all(&program.logs).map_err(file)?;
        let log = File::options().create(true).append(true).open(&path).map_err(file)?;
        let child = Command::new(&program.binary)
            .args(&program.args)
            .envs(program.env.iter().cloned())
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().map_err(file)?))
            .stderr(Stdio::from(log))
            // Ctrl-C is for the parent, which ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Start { name: program.name.clone(), source })?;
        Ok(Process { program, child })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        log_path(&self.program)
    }

    /// An error, with the end of the log, if the process has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.ended(status)),
            Ok(None) => Ok(()),
            Err(source) => Err(Error::Signal { name: self.program.name.clone(), source }),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Signal { name: self.program.name.clone(), source };
        self.child.kill().await.map_err(failed)
    }

    /// Starts it again, with the same arguments, after it has ended.
    pub fn start_again(&mut self) -> Result<(), Error> {
        *self = Process::start(self.program.clone())?;
        Ok(())
    }

    /// SIGSTOP: alive, but silent.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM, and waits for the drain; SIGKILL when it takes longer than `longest`.
    pub async fn terminate(&mut self, longest: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::SIGTERM)?;
        let name = self.program.name.clone();
        let failed = |source| Error::Signal { name, source };
        match tokio::time::timeout(longest, self.child.wait()).await {
            Ok(status) => status.map_err(failed),
            Err(_) => {
                self.kill().await?;
                self.child.wait().await.map_err(failed)
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        // None once it was waited for: then the number may be another process's.
        let Some(pid) = self.child.id() else { return Ok(()) };
        kill(Pid::from_raw(pid.cast_signed()), signal)
            .map_err(|e| Error::Signal { name: self.program.name.clone(), source: e.into() })
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let log = self.log();
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        Error::Ended { name: self.program.name.clone(), status, log, tail }
    }
}

fn log_path(program: &Program) -> PathBuf {
    Path::new(&program.logs).join(format!("{}.log", program.name))
}
