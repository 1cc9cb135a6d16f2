//! Small worlds of messages, and numbers that a seed decides.

use platbook_protocol::register::{
    Admission, Admitted, Context, Message, Recreate, Register, Upsert, Version,
};
use platbook_protocol::{Digest, Revision, TimeMs, Zip};

/// A context at some hour of some day, with a skew of `skew_ms`.
pub(crate) fn context(skew_ms: u64, recreate: Recreate) -> Context {
    Context {
        clock: TimeMs(1_000_000_000),
        skew_ms,
        recreate,
        shard_floor: Revision(0),
        register_horizon: TimeMs(0),
    }
}

/// An upsert; as in production its digest covers ZIP, raw `modified` and body.
pub(crate) fn upsert(modified: u64, sent: u64, zip: u8, body: u8) -> Message {
    let mut digest = [0; 16];
    digest[0] = body;
    digest[1] = zip;
    digest[2..10].copy_from_slice(&modified.to_be_bytes());
    let (modified, sent, digest) = (TimeMs(modified), TimeMs(sent), Digest(digest));
    Message::Upsert(Upsert { version: Version { modified, sent, digest }, zip: numbered(zip) })
}

/// A delete.
pub(crate) fn delete(sent: u64) -> Message {
    Message::Delete { sent: TimeMs(sent) }
}

/// The ZIP `0000n`.
pub(crate) fn numbered(zip: u8) -> Zip {
    Zip::Code([b'0', b'0', b'0', b'0', b'0' + zip])
}

/// A delivery by the feed.
pub(crate) fn admission(message: Message) -> Admission {
    let queued = message.sent();
    Admission { message, queued, floor: Revision(0), if_match: None, hold: false }
}

/// Joins a message as the feed delivers it.
pub(crate) fn admit(register: &mut Register, message: Message, context: &Context) -> Admitted {
    register.admit(admission(message), context)
}

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
