//! Newtypes for every identity and number that crosses a module border.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};

/// Longest accepted listing id, in bytes.
pub const LISTING_ID_BYTES_MAX: usize = 255;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl From<$inner> for $name {
            fn from(number: $inner) -> $name {
                $name(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One shard: a slot range and the Raft group that keeps it. Shard 0 is the system shard.
    ShardId(u32)
);
number!(
    /// One storage node, named by its operator for as long as its data directory lives.
    NodeId(u64)
);
number!(
    /// One placement of a shard on a node: the Raft id. Fresh for every placement, never reused.
    ReplicaId(u64)
);
number!(
    /// Total order of the decisions about one id: milliseconds shifted left by 16, or more.
    Revision(u64)
);
number!(
    /// Dense number of a change in its shard: 1, 2, 3, ...; 0 stands before the first.
    Seq(u64)
);
number!(
    /// Milliseconds since the Unix epoch, or the operator's sequence in `sequenced` ordering.
    TimeMs(u64)
);

impl ShardId {
    /// The shard that keeps the map, the nodes, the dictionaries and the settings.
    pub const SYSTEM: ShardId = ShardId(0);
}

impl Revision {
    /// The smallest revision that a decision taken at `clock` may get.
    pub fn at(clock: TimeMs) -> Revision {
        Revision(clock.0 << 16)
    }

    /// The next greater revision. Saturates, because a peer's nonsense must not stop a shard.
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

/// BLAKE3-128 over ZIP, raw modified and minified body: the last tie-breaker between upserts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Digest(pub [u8; 16]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The operator's listing key: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct ListingId(Box<str>);

impl ListingId {
    /// Checks `text` and takes it as an id.
    pub fn try_new(text: &str) -> Result<ListingId, BadListingId> {
        check_listing_id(text)?;
        Ok(ListingId(text.into()))
    }

    /// The id as sent by the operator.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListingId {
    type Err = BadListingId;

    fn from_str(text: &str) -> Result<ListingId, BadListingId> {
        ListingId::try_new(text)
    }
}

impl TryFrom<&str> for ListingId {
    type Error = BadListingId;

    fn try_from(text: &str) -> Result<ListingId, BadListingId> {
        ListingId::try_new(text)
    }
}

impl TryFrom<&String> for ListingId {
    type Error = BadListingId;

    fn try_from(text: &String) -> Result<ListingId, BadListingId> {
        ListingId::try_new(text)
    }
}

impl TryFrom<String> for ListingId {
    type Error = BadListingId;

    fn try_from(text: String) -> Result<ListingId, BadListingId> {
        check_listing_id(&text)?;
        Ok(ListingId(text.into_boxed_str()))
    }
}

impl From<&ListingId> for ListingId {
    fn from(id: &ListingId) -> ListingId {
        id.clone()
    }
}

/// Tells whether `text` may be a listing id.
pub fn check_listing_id(text: &str) -> Result<(), BadListingId> {
    if text.is_empty() {
        return Err(BadListingId::Empty);
    }
    if text.len() > LISTING_ID_BYTES_MAX {
        return Err(BadListingId::TooLong { bytes: text.len() });
    }
    // Control characters would break keys (NUL ends a ZIP), logs and terminals.
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(BadListingId::Control { code: u32::from(found) }),
        None => Ok(()),
    }
}

/// Why a text is no listing id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadListingId {
    /// No character at all.
    #[error("listing id is empty")]
    Empty,
    /// Longer than [`LISTING_ID_BYTES_MAX`].
    #[error("listing id has {bytes} bytes, the limit is {LISTING_ID_BYTES_MAX}")]
    TooLong {
        /// Length found.
        bytes: usize,
    },
    /// Holds a control character.
    #[error("listing id holds the control character U+{code:04X}")]
    Control {
        /// Its code point.
        code: u32,
    },
}
