//! Which process has the other end of a loopback connection: the kernel's table of connections
//! names its socket, and the process that has a socket shows it among its files.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The first of `pids` that holds the socket bound to `local` and connected to `remote`.
pub fn of(local: SocketAddr, remote: SocketAddr, pids: &[u32]) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, local, remote)?;
    pids.iter().copied().find(|pid| holds(*pid, inode))
}

/// The process that listens at `address`, if it is one of this machine that we may look into.
pub fn listener(address: SocketAddr) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    let inode = [address, everywhere].into_iter().find_map(|at| inode_of(&table, at, nobody))?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| holds(*pid, inode))
}

/// The socket's inode in the text of `/proc/net/tcp`.
fn inode_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it =
            fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

/// As the kernel prints an IPv4 address: the four bytes as a number of this machine.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

fn holds(pid: u32, inode: u64) -> bool {
    let Ok(files) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        // Of what the link points to: the socket itself.
        std::fs::metadata(file.path()).is_ok_and(|socket| socket.ino() == inode)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernels_table_is_read_as_it_is_printed() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                     uid  timeout inode\n   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 \
                     00:00000000 00000000     0        0 12345 1 0 20 4 30 10 -1\n";
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let found = inode_of(table, address("127.0.0.1:8080"), address("127.0.0.1:50000"));
        assert_eq!(found, Some(12345));
        assert_eq!(inode_of(table, address("127.0.0.1:50000"), address("127.0.0.1:8080")), None);
    }

    #[test]
    fn this_process_finds_its_own_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(at).expect("it listens");
        let from = stream.local_addr().expect("connected");
        let own = std::process::id();
        assert_eq!(of(from, at, &[own]), Some(own));
        assert_eq!(of(from, at, &[]), None);
        assert_eq!(super::listener(at), Some(own));
        drop((stream, listener));
        assert_eq!(super::listener(at), None);
    }
}
