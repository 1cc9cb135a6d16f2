//! The system shard: the map, the dictionaries, the settings.

use platbook_protocol::ShardId;
use platbook_protocol::map::Map;

use super::Applying;
use crate::error::StoreError;
use crate::store::key::Key;
use crate::store::value::map;
use crate::system::{SystemAnswer, SystemCommand};

impl Applying<'_> {
    pub(super) fn system(&mut self, command: SystemCommand) -> Result<SystemAnswer, StoreError> {
        if self.shard != ShardId::SYSTEM {
            return Ok(SystemAnswer::WrongShard);
        }
        self.operations += 1;
        match command {
            SystemCommand::Form { map } => match self.map()? {
                Some(present) => Ok(SystemAnswer::Map(present)),
                None => Ok(self.put_map(map, None)),
            },
            SystemCommand::PutMap { expected_epoch, map } => match self.map()? {
                Some(present)
                    if present.epoch == expected_epoch
                        && map.epoch > present.epoch
                        && map.cluster == present.cluster =>
                {
                    Ok(self.put_map(map, Some(present)))
                }
                present => Ok(SystemAnswer::MapRefused(present)),
            },
            SystemCommand::PutDictionary { bytes } => {
                self.state.dictionary += 1;
                let id = self.state.dictionary;
                self.overlay.put(&Key::Dictionary(self.shard, id), map::encode_opaque(&bytes));
                Ok(SystemAnswer::Dictionary(id))
            }
            SystemCommand::PutSetting { key, value } => {
                self.overlay.put(&Key::Setting(self.shard, &key), map::encode_opaque(&value));
                Ok(SystemAnswer::Done)
            }
        }
    }

    fn put_map(&mut self, map: Map, present: Option<Map>) -> SystemAnswer {
        if !map::is_storable(&map) {
            return SystemAnswer::MapRefused(present);
        }
        self.overlay.put(&Key::Map(self.shard), map::encode(&map));
        SystemAnswer::Map(map)
    }

    fn map(&self) -> Result<Option<Map>, StoreError> {
        self.overlay.get(&Key::Map(self.shard), map::decode)
    }
}
