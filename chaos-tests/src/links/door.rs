//! A port in front of a node, through which everybody reaches it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Links, Place, caller};
use crate::Error;

/// Bytes that one direction of a connection holds at most while it is cut or late.
const HELD_BYTES: usize = 64 << 10;

/// An open door. Dropping it closes it, with all connections through it.
#[derive(Debug)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Door {
    /// Opens a door on a free port, behind which `node` listens at `target`.
    pub async fn open(links: Links, node: usize, target: String) -> Result<Door, Error> {
        let ports = |source| Error::Ports { source };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(ports)?;
        let address = listener.local_addr().map_err(ports)?;
        let task = tokio::spawn(serve(listener, links, node, target));
        Ok(Door { address, task })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, links: Links, node: usize, target: String) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, from)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let Ok(at) = inbound.local_addr() else { continue };
        let (links, target) = (links.clone(), target.clone());
        connections.spawn(async move {
            // Who is no part of the cluster has nothing to do here.
            let Some(caller) = caller_of(&links, from, at).await else { return };
            // A refused connection is passed on by closing this one.
            let Ok(outbound) = TcpStream::connect(&target).await else { return };
            let to = Place::Node(node);
            let _ = inbound.set_nodelay(true).and_then(|()| outbound.set_nodelay(true));
            let ((ours, theirs), (back, forth)) = (inbound.into_split(), outbound.into_split());
            // One direction that ends ends the other: half a connection is of no use here.
            tokio::select! {
                () = pump(links.clone(), (caller, to), ours, forth) => {}
                () = pump(links, (to, caller), back, theirs) => {}
            }
        });
    }
}

/// Who calls, if it is a part of the cluster.
async fn caller_of(links: &Links, from: SocketAddr, at: SocketAddr) -> Option<Place> {
    let pids: Vec<u32> = links.pids().keys().copied().collect();
    let found = tokio::task::spawn_blocking(move || caller::of(from, at, &pids)).await.ok()??;
    links.pids().get(&found).copied()
}

/// Carries bytes one way until either side ends.
async fn pump(
    links: Links,
    (from, to): (Place, Place),
    mut source: OwnedReadHalf,
    mut sink: OwnedWriteHalf,
) {
    let mut changes = links.watch();
    let mut held = vec![0; HELD_BYTES];
    loop {
        let Ok(bytes @ 1..) = source.read(&mut held).await else { return };
        let delay = links.pass(from, to, &mut changes).await;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if sink.write_all(&held[..bytes]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Flow;
    use super::*;

    /// An echo behind a door, and a connection of this process, which is the router.
    async fn echo(links: &Links) -> (Door, TcpStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("bound").to_string();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let (mut source, mut sink) = stream.split();
            let _ = tokio::io::copy(&mut source, &mut sink).await;
        });
        links.set_pid(Place::Router, std::process::id());
        let door = Door::open(links.clone(), 0, target).await.expect("a door");
        let stream = TcpStream::connect(door.address).await.expect("it is open");
        (door, stream, task)
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> bool {
        let mut back = vec![0; text.len()];
        stream.write_all(text).await.expect("the door takes it");
        let answered = stream.read_exact(&mut back);
        let answered = tokio::time::timeout(Duration::from_millis(150), answered).await;
        answered.is_ok_and(|read| read.is_ok()) && back == text
    }

    #[tokio::test]
    async fn each_direction_is_cut_alone_and_what_was_held_arrives_after_the_repair() {
        let links = Links::default();
        let (_door, mut stream, _echo) = echo(&links).await;
        assert!(says(&mut stream, b"open").await);
        let cut = Flow { is_cut: true, ..Flow::default() };
        links.set(Place::Router, Place::Node(0), cut);
        assert!(!says(&mut stream, b"lost").await, "the way there is cut");
        links.heal();
        let mut late = [0; 4];
        stream.read_exact(&mut late).await.expect("it arrives after the repair");
        assert_eq!(&late, b"lost");
        links.set(Place::Node(0), Place::Router, cut);
        assert!(!says(&mut stream, b"back").await, "the way back is cut");
        links.set(Place::Node(0), Place::Node(1), cut);
        links.set(Place::Node(0), Place::Router, Flow::default());
        stream.read_exact(&mut late).await.expect("another pair's cut is not ours");
        assert_eq!(&late, b"back");
    }
}
