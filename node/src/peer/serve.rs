//! The answering side of a link: hands messages to the groups, in order within a channel.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;

use super::frame::{Kind, Message, Outgoing, Reassembler};
use crate::objections::{Caller, Kind as Objection, Objections};
use crate::raft::{Group, Groups};

/// Answers waiting to be written to one peer.
const ANSWERS_MAX: usize = 256;
/// Appends of one channel that wait for its group; callers have fewer in flight.
const APPENDS_MAX: usize = 64;
/// Votes and handovers of one link that are worked on at once.
const CALLS_MAX: usize = 256;

/// Reads one link until it ends. Answers go out through the returned queue.
pub(crate) fn serve(
    from: Caller,
    body: Incoming,
    groups: Groups,
    objections: Objections,
    held: Option<super::Incoming>,
) -> mpsc::Receiver<Outgoing> {
    let (answers, queue) = mpsc::channel(ANSWERS_MAX);
    let session = Session {
        groups,
        answers,
        channels: HashMap::new(),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
    };
    tokio::spawn(async move {
        if let Err(error) = session.run(body).await {
            objections.note(from, Objection::Link, &error.to_string());
        }
        drop(held);
    });
    queue
}

struct Session {
    groups: Groups,
    answers: mpsc::Sender<Outgoing>,
    channels: HashMap<u64, mpsc::Sender<Bytes>>,
    calls: Arc<Semaphore>,
}

impl Session {
    async fn run(
        mut self,
        mut body: Incoming,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut reassembler = Reassembler::default();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    // The caller died or was cut off: normal, and it will come again.
                    debug!(%error, "link ended");
                    return Ok(());
                }
            };
            if let Ok(chunk) = frame.into_data() {
                reassembler.push(&chunk);
            }
            while let Some(message) = reassembler.next()? {
                self.on_message(message).await;
            }
        }
        Ok(())
    }

    async fn on_message(&mut self, message: Message) {
        match message.kind {
            Kind::Append => self.on_append(message).await,
            Kind::Close => drop(self.channels.remove(&message.channel)),
            Kind::Vote | Kind::PreVote | Kind::Transfer => self.on_call(message).await,
            // Only this side answers.
            Kind::Answer | Kind::Refused => {}
        }
    }

    async fn on_append(&mut self, message: Message) {
        let id = message.channel;
        if !self.channels.contains_key(&id) {
            let Some(group) = self.groups.get(message.shard, message.replica) else {
                return self.refuse(&message, "no such replica here").await;
            };
            let (appends, queue) = mpsc::channel(APPENDS_MAX);
            let back = Back { answers: self.answers.clone(), to: head_of(&message) };
            tokio::spawn(async move { answer_appends(group, queue, back).await });
            self.channels.insert(id, appends);
        }
        let taken = self.channels[&id].try_send(message.body.clone());
        if taken.is_err() {
            // The group stopped answering this channel, after a conflict for instance.
            self.channels.remove(&id);
            self.refuse(&message, "channel is closed").await;
        }
    }

    async fn on_call(&mut self, message: Message) {
        let Some(group) = self.groups.get(message.shard, message.replica) else {
            return self.refuse(&message, "no such replica here").await;
        };
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            return self.refuse(&message, "too many calls").await;
        };
        let back = Back { answers: self.answers.clone(), to: head_of(&message) };
        tokio::spawn(async move {
            let answer = match message.kind {
                Kind::Vote => group.on_vote(&message.body).await,
                Kind::PreVote => group.on_pre_vote(&message.body).await,
                Kind::Transfer => group.on_transfer(&message.body).await,
                Kind::Append | Kind::Close | Kind::Answer | Kind::Refused => {
                    unreachable!("only calls are handled here")
                }
            };
            back.send(answer).await;
            drop(permit);
        });
    }

    async fn refuse(&self, message: &Message, reason: &'static str) {
        let back = Back { answers: self.answers.clone(), to: head_of(message) };
        back.send(Err(reason.to_string())).await;
    }
}

fn head_of(message: &Message) -> Outgoing {
    Outgoing {
        kind: Kind::Answer,
        channel: message.channel,
        shard: message.shard,
        replica: message.replica,
        parts: Vec::new(),
    }
}

/// The way back to the caller of one message or channel.
struct Back {
    answers: mpsc::Sender<Outgoing>,
    to: Outgoing,
}

impl Back {
    /// Sends an answer, or a refusal that closes the channel. A caller that left is no error.
    async fn send(&self, answer: Result<Bytes, String>) {
        let mut message = self.to.clone();
        match answer {
            Ok(body) => message.parts.push(body),
            Err(reason) => {
                message.kind = Kind::Refused;
                message.parts.push(reason.into());
            }
        }
        let _ = self.answers.send(message).await;
    }
}

async fn answer_appends(group: Group, queue: mpsc::Receiver<Bytes>, back: Back) {
    let mut answers = std::pin::pin!(group.on_appends(queue));
    while let Some(answer) = futures_util::StreamExt::next(&mut answers).await {
        let ends = answer.is_err();
        back.send(answer).await;
        if ends {
            break;
        }
    }
}
