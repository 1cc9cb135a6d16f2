//! The payload of a log entry: a version, a kind, and operations or a system command.
//!
//! ```text
//! [version u8 = 1][kind u8]
//!   kind 1, operations: clock u64, skew u64, recreate u8, tombstone retention u64 (all LE, ms),
//!                       then an encoded `OpList`
//!   kind 2, system:     an encoded `SystemCommand`
//! ```

use bytes::Bytes;
use platbook_protocol::codec::{self, CodecError};
use platbook_protocol::id::{BadListingId, check_listing_id};
use platbook_protocol::op::{Body, Op, OpIter, Stamp};
use platbook_protocol::register::{Message, Recreate};
use platbook_protocol::rpc::QuarantineRecord;
use platbook_protocol::{TimeMs, Zip};

use crate::system::SystemCommand;

const VERSION: u8 = 1;
const KIND_OPS: u8 = 1;
const KIND_SYSTEM: u8 = 2;
const RECREATE_BOTH_CLOCKS: u8 = 0;
const RECREATE_QUEUE_TIME: u8 = 1;

/// Bytes of a payload of operations before the first operation.
pub const OPS_HEAD_BYTES: usize = 2 + 8 + 8 + 1 + 8;

/// Longest summary, in bytes: its length is stored in two bytes.
pub const SUMMARY_BYTES_MAX: usize = u16::MAX as usize;

/// Longest message id of the quarantine, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 255;

/// A decoded payload; operations are decoded while they are walked.
#[derive(Debug)]
pub enum Command<'a> {
    /// Operations under one stamp.
    Ops {
        /// The only time that applying may look at.
        stamp: Stamp,
        /// Walks them.
        ops: OpIter<'a>,
    },
    /// A command to the system shard.
    System(SystemCommand),
}

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer release.
    #[error("command has version {found}, this release reads {VERSION}")]
    Version {
        /// Version found.
        found: u8,
    },
    /// An unknown kind or enum byte.
    #[error("command has the unknown tag {found}")]
    Tag {
        /// Byte found.
        found: u8,
    },
    /// The payload ends too early.
    #[error("command is cut off after {bytes} bytes")]
    Truncated {
        /// Bytes found.
        bytes: usize,
    },
    /// An operation or system command is malformed.
    #[error("operation {ordinal} is malformed")]
    Codec {
        /// Its place in the entry.
        ordinal: u32,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// An operation breaks a limit that the edge checks.
    #[error("operation {ordinal} has {bytes} bytes of {what}")]
    TooLong {
        /// Its place in the entry.
        ordinal: u32,
        /// Which part.
        what: &'static str,
        /// Bytes found.
        bytes: usize,
    },
    /// An operation names an impossible listing.
    #[error("operation {ordinal} has a bad listing id")]
    Id {
        /// Its place in the entry.
        ordinal: u32,
        /// What is wrong with it.
        #[source]
        source: BadListingId,
    },
    /// An operation names an impossible ZIP.
    #[error("operation {ordinal} has a bad ZIP")]
    Zip {
        /// Its place in the entry.
        ordinal: u32,
    },
}

/// The payload of an entry of operations: `sections` are the bytes of whole
/// [`OpList`](platbook_protocol::op::OpList)s, concatenated.
pub fn ops(stamp: Stamp, sections: &[&[u8]]) -> Bytes {
    let bytes: usize = sections.iter().map(|section| section.len()).sum();
    let mut out = Vec::with_capacity(OPS_HEAD_BYTES + bytes);
    out.extend_from_slice(&[VERSION, KIND_OPS]);
    out.extend_from_slice(&stamp.clock.0.to_le_bytes());
    out.extend_from_slice(&stamp.skew_ms.to_le_bytes());
    out.push(match stamp.recreate {
        Recreate::BothClocks => RECREATE_BOTH_CLOCKS,
        Recreate::QueueTime => RECREATE_QUEUE_TIME,
    });
    out.extend_from_slice(&stamp.tombstone_retention_ms.to_le_bytes());
    for section in sections {
        out.extend_from_slice(section);
    }
    Bytes::from(out)
}

/// The payload of an entry for the system shard.
pub fn system(command: &SystemCommand) -> Bytes {
    let mut out = vec![VERSION, KIND_SYSTEM];
    codec::encode_into(command, &mut out);
    Bytes::from(out)
}

/// Reads a payload.
pub fn decode(payload: &[u8]) -> Result<Command<'_>, CommandError> {
    let truncated = || CommandError::Truncated { bytes: payload.len() };
    let ([version, kind], rest) = payload.split_first_chunk::<2>().ok_or_else(truncated)?;
    if *version != VERSION {
        return Err(CommandError::Version { found: *version });
    }
    match *kind {
        KIND_OPS => {
            let (head, ops) =
                rest.split_first_chunk::<{ OPS_HEAD_BYTES - 2 }>().ok_or_else(truncated)?;
            Ok(Command::Ops { stamp: decode_stamp(head)?, ops: OpIter::new(ops) })
        }
        KIND_SYSTEM => codec::decode_borrowed(rest)
            .map(Command::System)
            .map_err(|source| CommandError::Codec { ordinal: 0, source }),
        found => Err(CommandError::Tag { found }),
    }
}

fn decode_stamp(head: &[u8; OPS_HEAD_BYTES - 2]) -> Result<Stamp, CommandError> {
    let number = |at: usize| {
        let bytes: [u8; 8] = head[at..at + 8].try_into().expect("the head holds three numbers");
        u64::from_le_bytes(bytes)
    };
    Ok(Stamp {
        clock: TimeMs(number(0)),
        skew_ms: number(8),
        recreate: match head[16] {
            RECREATE_BOTH_CLOCKS => Recreate::BothClocks,
            RECREATE_QUEUE_TIME => Recreate::QueueTime,
            found => return Err(CommandError::Tag { found }),
        },
        tombstone_retention_ms: number(17),
    })
}

/// Checks a caller's encoded operations before they are proposed, and counts them. What is
/// committed and cannot be read stops the shard on every replica, so it must not be committed.
pub fn check_ops(bytes: &[u8]) -> Result<u32, CommandError> {
    let mut count = 0;
    for op in OpIter::new(bytes) {
        let op = op.map_err(|source| CommandError::Codec { ordinal: count, source })?;
        check_op(count, &op)?;
        count += 1;
    }
    Ok(count)
}

/// Checks one operation, as [`check_ops`] does; what is applied is checked again.
pub(crate) fn check_op(ordinal: u32, op: &Op<'_>) -> Result<(), CommandError> {
    let limit = |what, bytes: usize, max| match bytes <= max {
        true => Ok(()),
        false => Err(CommandError::TooLong { ordinal, what, bytes }),
    };
    let check_id =
        |id: &str| check_listing_id(id).map_err(|source| CommandError::Id { ordinal, source });
    let check_zip = |zip: &Zip| match zip {
        Zip::Code(digits) if !digits.iter().all(u8::is_ascii_digit) => {
            Err(CommandError::Zip { ordinal })
        }
        Zip::Code(_) | Zip::Unknown => Ok(()),
    };
    let check_body = |body: &Body<'_>| limit("summary", body.summary.len(), SUMMARY_BYTES_MAX);
    match op {
        Op::Admit { id, admission, body } => {
            if let Message::Upsert(upsert) = &admission.message {
                check_zip(&upsert.zip)?;
            }
            body.as_ref().map_or(Ok(()), check_body)?;
            check_id(id)
        }
        Op::Write { id, zip, body, .. } => {
            check_zip(zip)?;
            check_body(body)?;
            check_id(id)
        }
        Op::Erase { id, zip, moved_to, .. } => {
            check_zip(zip)?;
            moved_to.as_ref().map_or(Ok(()), check_zip)?;
            check_id(id)
        }
        Op::Settle { id, .. } | Op::ClearSuspect { id } => check_id(id),
        Op::Quarantine { message_id, record } => {
            let decoded: Result<QuarantineRecord, CodecError> = codec::decode(record);
            decoded.map_err(|source| CommandError::Codec { ordinal, source })?;
            limit("message id", message_id.len(), MESSAGE_ID_BYTES_MAX)
        }
        Op::Unquarantine { message_id } => {
            limit("message id", message_id.len(), MESSAGE_ID_BYTES_MAX)
        }
        Op::Sweep { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::op::OpList;

    use super::*;

    const STAMP: Stamp = Stamp {
        clock: TimeMs(0x0102_0304),
        skew_ms: 300_000,
        recreate: Recreate::QueueTime,
        tombstone_retention_ms: 7,
    };

    #[test]
    fn the_head_of_a_payload_has_the_bytes_that_logs_were_written_with() {
        let mut list = OpList::default();
        list.push(&Op::Sweep { collect_max: 9 });
        let payload = ops(STAMP, &[list.bytes(), list.bytes()]);
        let golden = [
            &[1, 1, 4, 3, 2, 1, 0, 0, 0, 0, 0xe0, 0x93, 4, 0, 0, 0, 0, 0, 1][..],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 4, 9, 2, 0, 0, 0, 4, 9],
        ]
        .concat();
        assert_eq!(payload, golden);
        let Ok(Command::Ops { stamp, ops }) = decode(&payload) else { panic!("not operations") };
        assert_eq!(stamp, STAMP);
        assert_eq!(ops.count(), 2);
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        let payload = ops(STAMP, &[]);
        for cut in 0..OPS_HEAD_BYTES {
            assert!(decode(&payload[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(decode(&[9, 1]).err(), Some(CommandError::Version { found: 9 }));
        assert_eq!(decode(&[1, 9]).err(), Some(CommandError::Tag { found: 9 }));
    }

    #[test]
    fn operations_that_would_stop_a_shard_are_found_before_they_are_proposed() {
        let mut list = OpList::default();
        list.push(&Op::ClearSuspect { id: "A1" });
        list.push(&Op::ClearSuspect { id: "A\0" });
        assert!(matches!(check_ops(list.bytes()), Err(CommandError::Id { ordinal: 1, .. })));
        let cut = &list.bytes()[..list.bytes().len() - 1];
        assert!(matches!(check_ops(cut), Err(CommandError::Codec { ordinal: 1, .. })));
    }
}
