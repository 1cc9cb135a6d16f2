//! What a follower of changes is told.

use platbook_protocol::{ListingId, Revision, Seq, ShardId, TimeMs, Zip};
use serde::Deserialize;

use crate::listing::Listing;

/// One thing that a stream of changes tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A listing is, or is no longer, in a ZIP.
    Change(Box<Change>),
    /// The whole present state is told from its beginning, up to an [`Event::StateEnd`]: at a first
    /// start, and again where the changes behind the position are no longer kept. What a reader
    /// has, and is not told again until then, is no longer there.
    StateBegin,
    /// The whole present state has been told; what follows happens now.
    StateEnd {
        /// It was told by this stream from its [`Event::StateBegin`] on. If not, it was begun by an
        /// earlier one, whose reader knows what it was told since.
        is_whole: bool,
    },
    /// The reader has all changes up to this moment.
    Resolved {
        /// The store's clock.
        at: TimeMs,
    },
    /// The reader has all changes of a shard up to this moment.
    ShardResolved {
        /// The shard.
        shard: ShardId,
        /// The store's clock.
        at: TimeMs,
    },
    /// What the reader has not read of a shard is among the oldest that is kept: whoever does not
    /// read faster will be told the state again, or with [`super::ChangesBuilder::history`] an
    /// error.
    TrimmingSoon {
        /// The shard.
        shard: ShardId,
    },
}

/// A listing that is, or is no longer, in a ZIP.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The shard of the ZIP.
    pub shard: ShardId,
    /// Number of the change in its shard; without filters they come one after the other.
    pub seq: Seq,
    /// What happened.
    pub what: What,
    /// The listing's id.
    pub id: ListingId,
    /// The ZIP.
    pub zip: Zip,
    /// The listing's revision after it.
    pub revision: Revision,
    /// When it was decided; zero for what is told as present state.
    pub at: TimeMs,
    /// What stood there before; `None` where nothing did, and for present state.
    pub before: Option<Facts>,
    /// Names of the facts that changed, as the store tells them.
    pub changed: Vec<String>,
    /// Seq of the change before it in the same ZIP; 0 for none.
    pub prev: Seq,
    /// How it passed the stream's filter; `None` without one.
    pub passage: Option<Passage>,
    /// It is told as present state: it did not happen now. Where the changes behind the position
    /// are gone, what they have left is told this way, and then also what is no longer there.
    pub is_state: bool,
}

/// What happened to a listing in a ZIP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It is there, like this; without a listing where only facts were asked for.
    Upsert(Option<Listing>),
    /// It is no longer there.
    Delete,
    /// It is no longer there, because it moved. An upsert with the same revision tells of the other
    /// ZIP; whoever keeps listings by id may ignore this.
    MovedTo(Zip),
}

/// How a listing passes a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Passage {
    /// It did not match before, and does now.
    Enter,
    /// It matched before, and still does.
    Update,
    /// It matched before, and does not any more: for this stream it is gone.
    Leave,
}

/// What the store knows of a listing without opening it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Facts {
    /// Price in whole currency units.
    pub price: Option<u64>,
    /// Status.
    pub status: Option<String>,
    /// Property type.
    #[serde(rename = "type")]
    pub property_type: Option<String>,
    /// Bedrooms.
    pub beds: Option<u16>,
    /// Bathrooms.
    pub baths: Option<f64>,
    /// Living area.
    pub area: Option<u32>,
    /// Degrees north.
    pub lat: Option<f64>,
    /// Degrees east.
    pub lon: Option<f64>,
}
