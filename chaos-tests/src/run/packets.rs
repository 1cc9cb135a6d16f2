//! Packets that get lost, in a network of the run's own: one that ends with the run's processes, so
//! that nothing has to be put back, and in which nobody else is hurt.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Tells the kernel which packets to drop (`nft`).
#[derive(Debug)]
pub struct Packets(());

/// Names the network that the run was started in, once it is in another one.
const LEFT: &str = "PLATBOOK_CHAOS_LEFT_NETWORK";
const LOOPBACK_UP: &str = "ip link set lo up";
/// Everything of the run's is in this table.
const TABLE: &str = "inet platbook_chaos";

impl Packets {
    /// `None` unless this process is in a network of its own and may say what gets lost there.
    pub fn find() -> Option<Packets> {
        (has_left() && nft(&["list", "tables"]).is_ok()).then_some(Packets(()))
    }

    /// From now on loses so many in a hundred of the packets to and from the port of `address`.
    pub(super) fn lose(&self, address: &str, percent: u32) -> Result<(), Error> {
        let address: SocketAddr = address.parse().map_err(|_| Error::Malformed {
            what: format!("a node at {address}"),
            reason: "not IP:PORT".to_string(),
        })?;
        let lost = |field: &str| {
            let port = address.port();
            format!(
                "add rule {TABLE} out tcp {field} {port} numgen random mod 100 < {percent} drop"
            )
        };
        let rules = [
            format!("add table {TABLE}"),
            format!("add chain {TABLE} out {{ type filter hook output priority 0; }}"),
            lost("sport"),
            lost("dport"),
        ];
        nft(&[&rules.join("; ")]).map_err(failed)
    }

    /// From now on loses nothing.
    pub(super) fn lose_none(&self) -> Result<(), Error> {
        nft(&[&format!("delete table {TABLE}")]).map_err(failed)
    }
}

fn failed(source: io::Error) -> Error {
    Error::Start { name: "nft".to_string(), source }
}

fn nft(words: &[&str]) -> io::Result<()> {
    let mut command = Command::new("nft");
    let command = command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string())),
    }
}

/// The name of the network that this process is in.
fn own_network() -> Option<OsString> {
    std::fs::read_link("/proc/self/ns/net").ok().map(PathBuf::into_os_string)
}

/// Whether this process left the network that it was first started in.
fn has_left() -> bool {
    let (first, own) = (std::env::var_os(LEFT), own_network());
    first.is_some() && own.is_some() && first != own
}

/// Starts this program again with the same words, in a network of its own that has nothing but
/// loopback; returns only where that is not possible, or is done already.
pub fn enter_own_network(program: &Path) {
    let (Some(own), None) = (own_network(), std::env::var_os(LEFT)) else { return };
    // Whether it is allowed shows only by trying, with a network that ends at once.
    let probe = format!("{LOOPBACK_UP} && nft list tables");
    let mut tried = Command::new("unshare");
    let tried = tried.args(["--net", "--", "sh", "-c", &probe]).stdin(Stdio::null());
    if !tried.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return;
    }
    // What follows is this process: if it cannot be, the run goes on where it is.
    let _ = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", &format!("{LOOPBACK_UP} && exec \"$0\" \"$@\"")])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(LEFT, own)
        .exec();
}
