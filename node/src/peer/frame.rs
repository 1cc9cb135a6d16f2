//! Messages on a link between two nodes.
//!
//! A link is one HTTP/2 stream with a body in each direction. Both bodies are sequences of
//! messages: length of the rest (u32 LE), kind (u8), channel (u64 LE), shard (u32 LE), replica
//! (u64 LE), body. A channel is chosen by the caller; answers name it.

use bytes::{Buf, Bytes, BytesMut};
use platbook_protocol::{ReplicaId, ShardId};

/// Longest accepted message, in bytes: a batch of entries and its head.
pub(crate) const MESSAGE_BYTES_MAX: usize = 80 << 20;

const HEAD_BYTES: usize = 21;

/// What a message is for. Numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Entries or a heartbeat, in order within the channel.
    Append = 1,
    /// The caller will send nothing more on the channel.
    Close = 2,
    /// A vote is asked for.
    Vote = 3,
    /// A pre-vote is asked for.
    PreVote = 4,
    /// Leadership is handed over.
    Transfer = 5,
    /// The answer to any of these.
    Answer = 16,
    /// The replica is not here, or it stopped: the channel is closed.
    Refused = 17,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [
            Kind::Append,
            Kind::Close,
            Kind::Vote,
            Kind::PreVote,
            Kind::Transfer,
            Kind::Answer,
            Kind::Refused,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A message as received; `body` is a slice of what came in.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) channel: u64,
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) body: Bytes,
}

/// A message to be sent; its parts follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: Kind,
    pub(crate) channel: u64,
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) parts: Vec<Bytes>,
}

impl Outgoing {
    /// Appends head and parts to `chunks`: small parts are gathered, large ones passed on.
    pub(crate) fn write(self, gathered: &mut BytesMut, chunks: &mut Vec<Bytes>) {
        let len: usize = self.parts.iter().map(Bytes::len).sum();
        gathered.extend_from_slice(&((HEAD_BYTES + len) as u32).to_le_bytes());
        gathered.extend_from_slice(&[self.kind as u8]);
        gathered.extend_from_slice(&self.channel.to_le_bytes());
        gathered.extend_from_slice(&self.shard.0.to_le_bytes());
        gathered.extend_from_slice(&self.replica.0.to_le_bytes());
        for part in self.parts {
            if part.len() < PASS_ON_BYTES_MIN {
                gathered.extend_from_slice(&part);
            } else {
                chunks.push(gathered.split().freeze());
                chunks.push(part);
            }
        }
    }
}

/// Parts from this size on are not copied into the gathered chunk.
const PASS_ON_BYTES_MIN: usize = 8 << 10;

/// Why bytes from a peer are not messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than [`MESSAGE_BYTES_MAX`], or too short for a head.
    #[error("message of {bytes} bytes, from {HEAD_BYTES} to {MESSAGE_BYTES_MAX} are allowed")]
    Length {
        /// Length announced.
        bytes: usize,
    },
    /// Unknown kind.
    #[error("message of unknown kind {found}")]
    Kind {
        /// Kind found.
        found: u8,
    },
}

/// Puts messages together from the chunks of a body.
#[derive(Default)]
pub(crate) struct Reassembler {
    buffer: BytesMut,
}

impl Reassembler {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message, if one is there.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(len) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if !(HEAD_BYTES..=MESSAGE_BYTES_MAX).contains(&len) {
            return Err(FrameError::Length { bytes: len });
        }
        if self.buffer.len() < 4 + len {
            self.buffer.reserve(4 + len - self.buffer.len());
            return Ok(None);
        }
        let mut bytes = self.buffer.split_to(4 + len).freeze();
        bytes.advance(4);
        let found = bytes.get_u8();
        let kind = Kind::from_byte(found).ok_or(FrameError::Kind { found })?;
        let channel = bytes.get_u64_le();
        let shard = ShardId(bytes.get_u32_le());
        let replica = ReplicaId(bytes.get_u64_le());
        Ok(Some(Message { kind, channel, shard, replica, body: bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(messages: Vec<Outgoing>) -> Vec<u8> {
        let (mut gathered, mut chunks) = (BytesMut::new(), Vec::new());
        for message in messages {
            message.write(&mut gathered, &mut chunks);
        }
        chunks.push(gathered.freeze());
        chunks.concat()
    }

    fn outgoing(channel: u64, parts: Vec<Bytes>) -> Outgoing {
        let (shard, replica) = (ShardId(7), ReplicaId(9));
        Outgoing { kind: Kind::Append, channel, shard, replica, parts }
    }

    #[test]
    fn messages_survive_any_cut_into_chunks() {
        let large = Bytes::from(vec![5; PASS_ON_BYTES_MIN + 1]);
        let bytes = written(vec![
            outgoing(1, vec![]),
            outgoing(2, vec![Bytes::from_static(b"ab"), large.clone(), Bytes::from_static(b"c")]),
        ]);
        for step in [1, 2, 3, 24, 25, 26, 1000, bytes.len()] {
            let mut reassembler = Reassembler::default();
            let mut found = Vec::new();
            for chunk in bytes.chunks(step) {
                reassembler.push(chunk);
                while let Some(message) = reassembler.next().expect("bytes are well formed") {
                    found.push(message);
                }
            }
            assert_eq!(found.len(), 2, "step {step}");
            assert_eq!(found[0].channel, 1);
            assert!(found[0].body.is_empty());
            assert_eq!(found[1].body, [b"ab".as_slice(), &large, b"c"].concat());
            assert_eq!((found[1].shard, found[1].replica), (ShardId(7), ReplicaId(9)));
        }
    }

    #[test]
    fn garbage_is_refused_before_memory_is_taken_for_it() {
        let mut reassembler = Reassembler::default();
        reassembler.push(b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(reassembler.next(), Err(FrameError::Length { .. })));
        let mut reassembler = Reassembler::default();
        reassembler.push(&[21, 0, 0, 0, 99]);
        reassembler.push(&[0; 20]);
        assert_eq!(reassembler.next().unwrap_err(), FrameError::Kind { found: 99 });
    }

    #[test]
    fn the_bytes_of_a_head_are_the_wire_format() {
        let bytes = written(vec![outgoing(0x0102, vec![Bytes::from_static(b"!")])]);
        let expected = [
            [22, 0, 0, 0].as_slice(),
            &[1],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0],
            b"!",
        ];
        assert_eq!(bytes, expected.concat());
    }
}
