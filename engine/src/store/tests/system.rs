//! The system shard.

use platbook_protocol::NodeId;
use platbook_protocol::map::{ClusterId, Map, Node};

use super::*;
use crate::system::{SystemAnswer, SystemCommand};

fn map(cluster: u128, epoch: u64) -> Map {
    let node = Node { id: NodeId(1), address: "127.0.0.1:1".to_string(), zone: String::new() };
    Map { epoch, ..Map::initial(ClusterId(cluster), vec![node], 4) }
}

impl Fixture {
    fn system(&mut self, command: &SystemCommand) -> SystemAnswer {
        match self.push(EntryBody::Command(command::system(command))) {
            Applied::System(answer) => answer,
            other => panic!("a system command answered by {other:?}"),
        }
    }
}

#[test]
fn the_first_map_stays_and_is_replaced_only_from_its_epoch() {
    let mut f = Fixture::of(ShardId::SYSTEM, None);
    let put = |expected_epoch, map| SystemCommand::PutMap { expected_epoch, map };
    assert_eq!(f.system(&put(0, map(1, 1))), SystemAnswer::MapRefused(None));
    assert_eq!(f.system(&SystemCommand::Form { map: map(1, 1) }), SystemAnswer::Map(map(1, 1)));
    assert_eq!(f.system(&SystemCommand::Form { map: map(2, 1) }), SystemAnswer::Map(map(1, 1)));
    assert_eq!(f.system(&put(1, map(1, 2))), SystemAnswer::Map(map(1, 2)));
    for refused in [put(1, map(1, 3)), put(2, map(1, 2)), put(2, map(2, 3))] {
        assert_eq!(f.system(&refused), SystemAnswer::MapRefused(Some(map(1, 2))));
    }
    assert_eq!(f.shard.map().unwrap(), Some(map(1, 2)));
}

#[test]
fn dictionaries_are_numbered_and_settings_replaced() {
    let mut f = Fixture::of(ShardId::SYSTEM, None);
    assert_eq!(f.shard.latest_dictionary(), 0);
    for id in 1..=3 {
        let bytes = vec![id as u8];
        let answer = f.system(&SystemCommand::PutDictionary { bytes });
        assert_eq!(answer, SystemAnswer::Dictionary(id));
    }
    assert_eq!(f.shard.latest_dictionary(), 3);
    assert_eq!(f.shard.dictionary(2).unwrap(), Some(vec![2]));
    assert_eq!(f.shard.dictionary(4).unwrap(), None);
    for value in [b"a", b"b"] {
        let command = SystemCommand::PutSetting { key: "skew".into(), value: value.to_vec() };
        assert_eq!(f.system(&command), SystemAnswer::Done);
        assert_eq!(f.shard.setting("skew").unwrap(), Some(value.to_vec()));
    }
    assert_eq!(f.op(NOW, write("A", ZIP_A, 1, b"a")), OpOutcome::WrongShard);
}

#[test]
fn another_shard_takes_no_system_command() {
    let mut f = Fixture::new();
    let answer = f.system(&SystemCommand::Form { map: map(1, 1) });
    assert_eq!(answer, SystemAnswer::WrongShard);
    assert_eq!(f.shard.map().unwrap(), None);
}
