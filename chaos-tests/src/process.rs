//! One child process that ends with its parent, and the signals that hurt it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, wait};

/// Tells a `platbook` process whose part it is, so that the kernel ends them together.
pub(crate) const PARENT: &str = "PLATBOOK_PARENT";
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

/// A started process. Dropping it kills it and waits until it is gone.
///
/// Must be started from a thread that lives as long as the process shall (the main thread, a test's
/// thread, a runtime's worker): the kernel counts the starting *thread* as the parent.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
    is_killed: bool,
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
            .spawn()
            .map_err(|source| Error::Start { name: program.name.clone(), source })?;
        Ok(Process { program, child, is_killed: false })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// The program's file.
    pub fn binary(&self) -> &Path {
        &self.program.binary
    }

    /// Its number, as long as it was not waited for.
    pub fn pid(&self) -> u32 {
        self.child.id()
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
            Err(source) => Err(self.unsignalled(source)),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.is_killed = true;
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(|_| ()).map_err(|source| self.unsignalled(source))
    }

    /// SIGKILL without waiting; [`Process::kill`] waits until it is gone. To kill many at once.
    pub fn start_killing(&mut self) -> Result<(), Error> {
        self.is_killed = true;
        self.child.kill().map_err(|source| self.unsignalled(source))
    }

    /// Whether it was ended by [`Process::kill`].
    pub fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// Starts it again, with the same arguments, after it has ended.
    pub fn start_again(&mut self) -> Result<(), Error> {
        *self = Process::start(self.program.clone())?;
        Ok(())
    }

    /// SIGSTOP: alive, but silent.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    /// The number the system gave it; another process's once it has ended.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGINT, as Ctrl-C on a terminal.
    pub fn interrupt(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGINT)
    }

    /// SIGTERM: it drains and ends.
    pub fn ask_to_end(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGTERM)
    }

    /// SIGTERM, and waits for the drain; SIGKILL when it takes longer than `longest`.
    pub async fn terminate(&mut self, longest: Duration) -> Result<ExitStatus, Error> {
        self.ask_to_end()?;
        self.ended_within(longest).await
    }

    /// Waits until it has ended by itself; SIGKILL when it takes longer than `longest`.
    pub async fn ended_within(&mut self, longest: Duration) -> Result<ExitStatus, Error> {
        let what = format!("{} has ended", self.program.name);
        let ended = wait::until(&what, longest, async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(Ok(status)),
            Ok(None) => Err("it drains"),
            Err(source) => Ok(Err(self.unsignalled(source))),
        });
        match ended.await {
            Ok(status) => status,
            Err(late) => {
                self.kill()?;
                Err(late)
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        // Once it was waited for, the number may be another process's.
        self.check()?;
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .map_err(|errno| self.unsignalled(errno.into()))
    }

    fn unsignalled(&self, source: std::io::Error) -> Error {
        Error::Signal { name: self.program.name.clone(), source }
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

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn log_path(program: &Program) -> PathBuf {
    Path::new(&program.logs).join(format!("{}.log", program.name))
}
