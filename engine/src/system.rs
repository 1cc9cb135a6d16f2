//! What the system shard is told, and what it answers.
//!
//! The system shard keeps the map, the dictionaries and the settings of the cluster. Its rules
//! are in `store/apply/system.rs`.

use bincode::{Decode, Encode};
use platbook_protocol::map::Map;

/// One command to the system shard: one log entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SystemCommand {
    /// Keep the first map. Where a map already is, nothing happens and that map is the answer.
    Form {
        /// The first map.
        map: Map,
    },
    /// Replace the map, if its epoch still is the expected one.
    PutMap {
        /// Epoch of the map that the new one was made from.
        expected_epoch: u64,
        /// The new map, of the same cluster and a greater epoch.
        map: Map,
    },
    /// Keep a dictionary for frames under the next free id: 1, 2, ...
    PutDictionary {
        /// As trained.
        bytes: Vec<u8>,
    },
    /// Keep a setting.
    PutSetting {
        /// Its name.
        key: String,
        /// Its value; the meaning is the caller's business.
        value: Vec<u8>,
    },
}

/// Answer to one [`SystemCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SystemAnswer {
    /// The cluster's map after `Form` or an accepted `PutMap`.
    Map(Map),
    /// The map was not replaced: this one is current; `None` while the cluster is not formed.
    MapRefused(Option<Map>),
    /// The id of the dictionary just kept.
    Dictionary(u32),
    /// The setting is kept.
    Done,
    /// This is not the system shard: refused, no effect.
    WrongShard,
}
