//! What the system shard keeps: the map of the cluster, and bytes whose meaning is the business
//! of others.

use platbook_protocol::map::{ClusterId, Map, Node, Replica, Shard};
use platbook_protocol::{NodeId, ReplicaId, ShardId, Slot, SlotRange};

use crate::store::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;

/// `[version][cluster u128][incarnation][epoch][next replica][count u32]`, each node `[id][address]
/// [zone]`, `[count u32]`, each shard `[id u32][0]` or `[id u32][1][first u16][last u16]`,
/// `[count u32]`, each replica `[id][node]`. Texts stand behind their length in two bytes.
pub(in crate::store) fn encode(map: &Map) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION)
        .u128(map.cluster.0)
        .u64(map.incarnation)
        .u64(map.epoch)
        .u64(map.next_replica.0)
        .u32(map.nodes.len() as u32);
    for node in &map.nodes {
        writer =
            writer.u64(node.id.0).bytes16(node.address.as_bytes()).bytes16(node.zone.as_bytes());
    }
    writer = writer.u32(map.shards.len() as u32);
    for shard in &map.shards {
        writer = writer.u32(shard.id.0);
        writer = match shard.slots {
            None => writer.u8(0),
            Some(slots) => writer.u8(1).u16(slots.first.0).u16(slots.last.0),
        };
        writer = writer.u32(shard.replicas.len() as u32);
        for replica in &shard.replicas {
            writer = writer.u64(replica.id.0).u64(replica.node.0);
        }
    }
    writer.done()
}

pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Map, LayoutError> {
    let mut reader = Reader::versioned(bytes, VERSION)?;
    let mut map = Map {
        cluster: ClusterId(reader.u128()?),
        incarnation: reader.u64()?,
        epoch: reader.u64()?,
        next_replica: ReplicaId(reader.u64()?),
        nodes: Vec::new(),
        shards: Vec::new(),
    };
    for _ in 0..reader.u32()? {
        let id = NodeId(reader.u64()?);
        let address = reader.text16()?.to_string();
        map.nodes.push(Node { id, address, zone: reader.text16()?.to_string() });
    }
    for _ in 0..reader.u32()? {
        map.shards.push(decode_shard(&mut reader)?);
    }
    reader.end()?;
    Ok(map)
}

fn decode_shard(reader: &mut Reader<'_>) -> Result<Shard, LayoutError> {
    let id = ShardId(reader.u32()?);
    let slots = match reader.u8()? {
        0 => None,
        1 => Some(SlotRange { first: Slot(reader.u16()?), last: Slot(reader.u16()?) }),
        found => return Err(LayoutError::Tag { found }),
    };
    let mut replicas = Vec::new();
    for _ in 0..reader.u32()? {
        replicas.push(Replica { id: ReplicaId(reader.u64()?), node: NodeId(reader.u64()?) });
    }
    Ok(Shard { id, slots, replicas })
}

/// Whether the texts of the map fit into their length fields.
pub(in crate::store) fn is_storable(map: &Map) -> bool {
    let fits = |text: &str| text.len() <= usize::from(u16::MAX);
    map.nodes.iter().all(|node| fits(&node.address) && fits(&node.zone))
}

/// A dictionary or a setting: `[version][bytes]`.
pub(in crate::store) fn encode_opaque(bytes: &[u8]) -> Vec<u8> {
    Writer::versioned(VERSION).bytes(bytes).done()
}

pub(in crate::store) fn decode_opaque(bytes: &[u8]) -> Result<Vec<u8>, LayoutError> {
    Ok(Reader::versioned(bytes, VERSION)?.rest().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_the_bytes_that_disks_were_written_with() {
        let map = Map {
            cluster: ClusterId(1),
            incarnation: 2,
            epoch: 3,
            next_replica: ReplicaId(4),
            nodes: vec![Node { id: NodeId(5), address: "a:1".into(), zone: "z".into() }],
            shards: vec![
                Shard { id: ShardId(0), slots: None, replicas: Vec::new() },
                Shard {
                    id: ShardId(1),
                    slots: Some(SlotRange { first: Slot(6), last: Slot(7) }),
                    replicas: vec![Replica { id: ReplicaId(8), node: NodeId(9) }],
                },
            ],
        };
        let number = |n: u64| n.to_le_bytes();
        let golden = [
            &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &number(2),
            &number(3),
            &number(4),
            &[1, 0, 0, 0],
            &number(5),
            b"\x03\0a:1\x01\0z",
            &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 6, 0, 7, 0, 1, 0, 0, 0],
            &number(8),
            &number(9),
        ]
        .concat();
        assert_eq!(encode(&map), golden);
        assert_eq!(decode(&golden), Ok(map));
        for cut in 0..golden.len() {
            assert!(decode(&golden[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(encode_opaque(b"bytes"), b"\x01bytes");
        assert_eq!(decode_opaque(b"\x01bytes"), Ok(b"bytes".to_vec()));
    }
}
