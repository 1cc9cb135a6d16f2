//! The bytes of rounds and records. All numbers are little-endian.
//!
//! A segment is a sequence of rounds; a round is a header, records, and zeros up to a multiple of
//! 512 bytes. So a round never shares a sector with an older one that is already synced, and a
//! reader that lost its way finds the next round by looking at every 512th byte.

use bytes::Buf;
use platbook_protocol::planted::Bug;

/// Rounds start and end at multiples of this many bytes.
pub(crate) const BLOCK: usize = 512;
/// Bytes of a round's header.
pub(crate) const ROUND_HEADER: usize = 64;
/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 40;

const MAGIC: u32 = u32::from_le_bytes(*b"PBLR");
/// Version of the layout, in every round.
pub(crate) const VERSION: u8 = 1;

/// What a round carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundKind {
    /// The small state of all groups: the first round of every segment.
    Checkpoint,
    /// Submitted work.
    Data,
    /// What the segment's records did to each group: the last round of a sealed segment.
    Footer,
}

impl RoundKind {
    fn code(self) -> u8 {
        match self {
            RoundKind::Checkpoint => 1,
            RoundKind::Data => 2,
            RoundKind::Footer => 3,
        }
    }

    fn of(code: u8) -> Option<RoundKind> {
        match code {
            1 => Some(RoundKind::Checkpoint),
            2 => Some(RoundKind::Data),
            3 => Some(RoundKind::Footer),
            _ => None,
        }
    }
}

/// Where a round stands. Segment 0 stands for "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) segment: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A round's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundHeader {
    pub(crate) kind: RoundKind,
    /// Whose log this is.
    pub(crate) identity: u64,
    /// 1, 2, 3, ... over the life of the log.
    pub(crate) round: u64,
    pub(crate) segment: u32,
    /// Bytes of the whole round, a multiple of [`BLOCK`].
    pub(crate) length: u32,
    pub(crate) records: u32,
    /// The round before, which was synced before this one was written.
    pub(crate) previous: Span,
    /// Seeded CRC32C of everything behind the header, padding included.
    pub(crate) body_crc: u32,
}

/// What stands where a round header is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    Header(RoundHeader),
    /// Sound, but written by another version.
    Version(u8),
    Nothing,
}

impl RoundHeader {
    pub(crate) fn encode(&self) -> [u8; ROUND_HEADER] {
        let mut bytes = [0; ROUND_HEADER];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.kind.code();
        bytes[8..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.round.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.segment.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.records.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.previous.segment.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.previous.start.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.previous.end.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes`; a checksum that fails means there is none.
    pub(crate) fn decode(bytes: &[u8]) -> HeaderRead {
        let Some(mut at) = bytes.get(..ROUND_HEADER) else { return HeaderRead::Nothing };
        let sound =
            crc32c::crc32c(&at[..60]) == u32::from_le_bytes([at[60], at[61], at[62], at[63]]);
        if at.get_u32_le() != MAGIC || !sound {
            return HeaderRead::Nothing;
        }
        let version = at.get_u8();
        if version != VERSION {
            return HeaderRead::Version(version);
        }
        let Some(kind) = RoundKind::of(at.get_u8()) else { return HeaderRead::Nothing };
        at.advance(2);
        let (identity, round) = (at.get_u64_le(), at.get_u64_le());
        let (segment, length, records) = (at.get_u32_le(), at.get_u32_le(), at.get_u32_le());
        let previous =
            Span { segment: at.get_u32_le(), start: at.get_u32_le(), end: at.get_u32_le() };
        at.advance(8);
        let body_crc = at.get_u32_le();
        let length_is_sane = length as usize >= BLOCK && (length as usize).is_multiple_of(BLOCK);
        if !length_is_sane {
            return HeaderRead::Nothing;
        }
        let header =
            RoundHeader { kind, identity, round, segment, length, records, previous, body_crc };
        HeaderRead::Header(header)
    }
}

/// What checksums of one segment start from, so that bytes of another segment or log never fit.
pub(crate) fn seed(identity: u64, segment: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&identity.to_le_bytes()), &segment.to_le_bytes())
}

/// Rounds up to whole blocks.
pub(crate) fn whole_blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

/// What a record is. The codes also tag the events in a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordType {
    /// An entry behind the group's last.
    Entry,
    /// A copy of a live entry, so that its first segment can go.
    Moved,
    Vote,
    /// Drops the entries behind (term, index); flag 0: all entries.
    Truncate,
    /// Drops the entries up to (term, index).
    Purge,
    /// The group is gone.
    Remove,
    /// The group's small state, in a checkpoint.
    State,
    /// The group's events in a segment, in a footer.
    Events,
}

impl RecordType {
    pub(crate) fn code(self) -> u8 {
        match self {
            RecordType::Entry => 1,
            RecordType::Moved => 2,
            RecordType::Vote => 3,
            RecordType::Truncate => 4,
            RecordType::Purge => 5,
            RecordType::Remove => 6,
            RecordType::State => 7,
            RecordType::Events => 8,
        }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RecordType::Entry => "entry",
            RecordType::Moved => "moved",
            RecordType::Vote => "vote",
            RecordType::Truncate => "truncate",
            RecordType::Purge => "purge",
            RecordType::Remove => "remove",
            RecordType::State => "state",
            RecordType::Events => "events",
        }
    }

    pub(crate) fn of(code: u8) -> Option<RecordType> {
        match code {
            1 => Some(RecordType::Entry),
            2 => Some(RecordType::Moved),
            3 => Some(RecordType::Vote),
            4 => Some(RecordType::Truncate),
            5 => Some(RecordType::Purge),
            6 => Some(RecordType::Remove),
            7 => Some(RecordType::State),
            8 => Some(RecordType::Events),
            _ => None,
        }
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) record_type: RecordType,
    /// The caller's kind of an entry; 0 or 1 for a truncation; otherwise 0.
    pub(crate) flag: u8,
    pub(crate) shard: u32,
    pub(crate) replica: u64,
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// Payload bytes.
    pub(crate) length: u32,
}

/// Appends a record to `out`.
pub(crate) fn put_record(out: &mut Vec<u8>, seed: u32, header: &RecordHeader, payload: &[u8]) {
    debug_assert_eq!(header.length as usize, payload.len());
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&header.length.to_le_bytes());
    out.extend_from_slice(&[header.record_type.code(), header.flag, 0, 0]);
    out.extend_from_slice(&header.shard.to_le_bytes());
    out.extend_from_slice(&header.replica.to_le_bytes());
    out.extend_from_slice(&header.term.to_le_bytes());
    out.extend_from_slice(&header.index.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c_append(seed, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the record at the start of `bytes`; `None` if it is not whole or its checksum fails.
pub(crate) fn take_record(bytes: &[u8], seed: u32) -> Option<(RecordHeader, &[u8])> {
    let mut at = bytes.get(..RECORD_HEADER)?;
    let (crc, length) = (at.get_u32_le(), at.get_u32_le());
    let end = RECORD_HEADER.checked_add(length as usize)?;
    if crc32c::crc32c_append(seed, bytes.get(4..end)?) != crc {
        return None;
    }
    let record_type = RecordType::of(at.get_u8())?;
    let flag = at.get_u8();
    at.advance(2);
    let (shard, replica) = (at.get_u32_le(), at.get_u64_le());
    let (term, index) = (at.get_u64_le(), at.get_u64_le());
    let header = RecordHeader { record_type, flag, shard, replica, term, index, length };
    Some((header, &bytes[RECORD_HEADER..end]))
}

/// Turns `round`, which holds room for a header and then records, into a whole round.
pub(crate) fn seal_round(round: &mut Vec<u8>, header: &mut RoundHeader, seed: u32) {
    round.resize(whole_blocks(round.len()), 0);
    header.length = u32::try_from(round.len()).expect("a round is smaller than a segment");
    header.body_crc = crc32c::crc32c_append(seed, &round[ROUND_HEADER..]);
    round[..ROUND_HEADER].copy_from_slice(&header.encode());
}

/// Whether the body of a round, read from behind its header, is what the header promises.
pub(crate) fn body_is_whole(header: &RoundHeader, body: &[u8], seed: u32) -> bool {
    header.length as usize == ROUND_HEADER + body.len()
        && (Bug::ChecksumIgnored.is_planted()
            || crc32c::crc32c_append(seed, body) == header.body_crc)
}
