//! The consumer: server-sent events into a journal, from wherever the journal ends.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::journal::Journal;
use crate::Error;

/// Pause before a router that is away is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows all changes of `router` (`host:port`) for ever, into the journal at `path`; ends only by
/// an error that asking again cannot mend.
pub async fn consume(router: &str, path: &Path) -> Result<(), Error> {
    let (mut journal, token) = Journal::open(path)?;
    follow(router, "beginning", token, &mut |event| journal.append(&event.id, &event.data)).await
}

/// Follows all changes for ever, from `token` or, without one, from `beginning` or `now`; `take`
/// gets every event that says more than that the reader is not forgotten.
pub async fn follow(
    router: &str,
    from: &str,
    mut token: Option<String>,
    take: &mut (dyn FnMut(&Event) -> Result<(), Error> + Send),
) -> Result<(), Error> {
    loop {
        match follow_once(router, from, &mut token, take).await? {
            Ended::Broken => tokio::time::sleep(PAUSE).await,
            Ended::Refused(what) => return Err(Error::Violated { what }),
        }
    }
}

enum Ended {
    /// The connection broke, or there was none: to be tried again.
    Broken,
    /// The router will not have it.
    Refused(String),
}

async fn follow_once(
    router: &str,
    from: &str,
    token: &mut Option<String>,
    take: &mut (dyn FnMut(&Event) -> Result<(), Error> + Send),
) -> Result<Ended, Error> {
    let Some((status, mut body)) = connect(router, from, token.as_deref()).await else {
        return Ok(Ended::Broken);
    };
    let mut events = Events::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(chunk) = frame.into_data() else { continue };
        if status != 200 {
            let said = String::from_utf8_lossy(&chunk).into_owned();
            let is_final = (400..500).contains(&status) && status != 429;
            return Ok(if is_final { Ended::Refused(said) } else { Ended::Broken });
        }
        for event in events.push(&chunk) {
            if !matches!(event.name.as_str(), "heartbeat" | "resolved") {
                take(&event)?;
            }
            *token = Some(event.id);
        }
    }
    Ok(Ended::Broken)
}

async fn connect(router: &str, from: &str, token: Option<&str>) -> Option<(u16, Incoming)> {
    let tcp = TcpStream::connect(router).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::get(format!("/v1/changes?from={from}&heartbeat=1"))
        .header("host", router)
        .header("accept", "text/event-stream");
    if let Some(token) = token {
        request = request.header("last-event-id", token);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.into_body()))
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Of the last event that had one.
    pub id: String,
    /// What kind it is.
    pub name: String,
    /// Its object.
    pub data: String,
}

/// Puts events together from chunks.
#[derive(Debug, Default)]
pub struct Events {
    held: Vec<u8>,
    event: Event,
}

impl Events {
    /// The events that end in this chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Event> {
        self.held.extend_from_slice(chunk);
        let mut whole = Vec::new();
        while let Some(at) = self.held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.held.drain(..=at).collect();
            let line = String::from_utf8_lossy(&line[..at]).into_owned();
            match line.split_once(": ") {
                Some(("id", id)) => self.event.id = id.to_string(),
                Some(("event", name)) => self.event.name = name.to_string(),
                Some(("data", data)) => self.event.data = data.to_string(),
                _ if line.is_empty() => {
                    // An event without an id leaves the last one standing (HTML, section 9.2.6).
                    let next = Event { id: self.event.id.clone(), ..Event::default() };
                    whole.push(std::mem::replace(&mut self.event, next));
                }
                _ => {}
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text = "id: T1\nevent: change\ndata: {\"a\":\": \"}\n\n\
            event: gone\ndata: {}\n\n\
            id: T2\nevent: skip\ndata: {}\n\n";
        let event = |id: &str, name: &str, data: &str| Event {
            id: id.into(),
            name: name.into(),
            data: data.into(),
        };
        let expected = [
            event("T1", "change", "{\"a\":\": \"}"),
            event("T1", "gone", "{}"),
            event("T2", "skip", "{}"),
        ];
        for step in 1..text.len() {
            let mut events = Events::default();
            let told: Vec<Event> =
                text.as_bytes().chunks(step).flat_map(|chunk| events.push(chunk)).collect();
            assert_eq!(told, expected, "{step}");
        }
    }
}
