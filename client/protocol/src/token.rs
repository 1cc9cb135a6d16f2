//! The token: where a reader of changes stands. Opaque to users, good on any replica.
//!
//! URL-safe base64 without padding (RFC 4648 section 5) over:
//! ```text
//! version u8 = 1
//! cluster u128 LE
//! incarnation varint, map epoch varint, number of shards varint
//! each shard, ids rising:
//!   id varint (the first as it is, then less one and less the id before)
//!   phase u8: 1 follow, 2 state, 3 catch-up
//!   catch-up only: after varint
//!   seq varint
//!   state and catch-up only: cursor length varint, cursor
//! CRC32C u32 LE over all before
//! ```
//! Varints are unsigned LEB128, shortest form only: a token has one spelling. The version stands
//! first and the checksum last in every version, so that "damaged" and "too new" are told apart.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::map::ClusterId;
use crate::planted::Bug;
use crate::problem::Code;
use crate::{Seq, ShardId};

/// Longest token as text, in bytes: it must fit into headers and URLs.
pub const TOKEN_BYTES_MAX: usize = 8_191;
/// Longest key cursor, in bytes: no key of a row is longer.
pub const CURSOR_BYTES_MAX: usize = 288;

const VERSION: u8 = 1;
const FOLLOW: u8 = 1;
const STATE: u8 = 2;
const CATCH_UP: u8 = 3;
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where a reader stands in some or all shards of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The cluster it was given by.
    pub cluster: ClusterId,
    /// The history that it belongs to.
    pub incarnation: u64,
    /// Epoch of the map whose shards these are.
    pub epoch: u64,
    /// The shards it covers.
    pub shards: BTreeMap<ShardId, Position>,
}

/// Where a reader stands in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Position {
    /// Reading the state: rows up to the cursor are delivered, changes follow behind `seq`.
    State {
        /// The change up to which the first snapshot of this state phase reached.
        seq: Seq,
        /// Key of the last row delivered; empty before the first.
        cursor: Vec<u8>,
    },
    /// Following: all changes up to `seq` are delivered.
    Follow {
        /// The last change delivered.
        seq: Seq,
    },
    /// Catching up where the changes are gone from the log: what they have left is delivered up to
    /// the cursor, changes follow behind `seq`.
    CatchUp {
        /// The change up to which everything was delivered before.
        after: Seq,
        /// The change up to which the first snapshot of this catch-up reached.
        seq: Seq,
        /// Key of the last row delivered; empty before the first.
        cursor: Vec<u8>,
    },
}

impl Position {
    /// The change behind which changes follow, now or later.
    pub fn seq(&self) -> Seq {
        match self {
            Position::Follow { seq }
            | Position::State { seq, .. }
            | Position::CatchUp { seq, .. } => *seq,
        }
    }

    /// Rows are being told: the key of the last one.
    pub fn cursor(&self) -> Option<&[u8]> {
        match self {
            Position::Follow { .. } => None,
            Position::State { cursor, .. } | Position::CatchUp { cursor, .. } => Some(cursor),
        }
    }

    /// The same behind another row; nothing where no rows are being told.
    pub fn move_to(&mut self, row: &[u8]) {
        match self {
            Position::Follow { .. } => {}
            Position::State { cursor, .. } | Position::CatchUp { cursor, .. } => {
                cursor.clear();
                cursor.extend_from_slice(row);
            }
        }
    }
}

/// Why a text is no usable token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or not the whole of one.
    #[error("token is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Longer than [`TOKEN_BYTES_MAX`], given or about to be given.
    #[error("token has {bytes} bytes, the limit is {TOKEN_BYTES_MAX}")]
    TooLong {
        /// Length found.
        bytes: usize,
    },
    /// Intact, of a format of another build.
    #[error("token has version {found}, this process reads {VERSION}")]
    Version {
        /// Version found.
        found: u8,
    },
    /// Given by another cluster.
    #[error("token belongs to cluster {found}, this is cluster {cluster}")]
    Cluster {
        /// Its cluster.
        found: ClusterId,
        /// This cluster.
        cluster: ClusterId,
    },
    /// Given before history was broken off.
    #[error("token belongs to incarnation {found}, this is incarnation {incarnation}")]
    Incarnation {
        /// Its incarnation.
        found: u64,
        /// The cluster's incarnation.
        incarnation: u64,
    },
}

impl TokenError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            TokenError::Damaged { .. } => Code::BadToken,
            TokenError::TooLong { .. } => Code::TokenTooLong,
            TokenError::Version { .. } => Code::TokenVersion,
            TokenError::Cluster { .. } => Code::TokenCluster,
            TokenError::Incarnation { .. } => Code::TokenIncarnation,
        }
    }
}

fn damaged<T>(reason: &'static str) -> Result<T, TokenError> {
    Err(TokenError::Damaged { reason })
}

impl Token {
    /// The text for users; fails only where it would be longer than [`TOKEN_BYTES_MAX`].
    pub fn encode(&self) -> Result<String, TokenError> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.cluster.0.to_le_bytes());
        push_varint(&mut bytes, self.incarnation);
        push_varint(&mut bytes, self.epoch);
        push_varint(&mut bytes, self.shards.len() as u64);
        let mut expected = 0;
        for (id, position) in &self.shards {
            push_varint(&mut bytes, u64::from(id.0) - expected);
            expected = u64::from(id.0) + 1;
            match position {
                Position::Follow { .. } => bytes.push(FOLLOW),
                Position::State { .. } => bytes.push(STATE),
                Position::CatchUp { after, .. } => {
                    bytes.push(CATCH_UP);
                    push_varint(&mut bytes, after.0);
                }
            }
            push_varint(&mut bytes, position.seq().0);
            if let Some(cursor) = position.cursor() {
                assert!(cursor.len() <= CURSOR_BYTES_MAX, "a cursor is the key of a row");
                push_varint(&mut bytes, cursor.len() as u64);
                bytes.extend_from_slice(cursor);
            }
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        let text = to_base64(&bytes);
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: text.len() });
        }
        Ok(text)
    }

    /// Reads what [`Token::encode`] gave, of whatever cluster.
    pub fn decode(text: &str) -> Result<Token, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: text.len() });
        }
        let bytes = from_base64(text)?;
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return damaged("it is too short");
        };
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return damaged("its checksum is wrong");
        }
        match content.split_first() {
            None => damaged("it is too short"),
            Some((&VERSION, rest)) => Reader { rest }.token(),
            Some((&found, _)) => Err(TokenError::Version { found }),
        }
    }

    /// Reads a token that must belong to this cluster and its current incarnation.
    pub fn decode_for(
        text: &str,
        cluster: ClusterId,
        incarnation: u64,
    ) -> Result<Token, TokenError> {
        let token = Token::decode(text)?;
        if token.cluster != cluster && !Bug::ForeignToken.is_planted() {
            return Err(TokenError::Cluster { found: token.cluster, cluster });
        }
        if token.incarnation != incarnation {
            return Err(TokenError::Incarnation { found: token.incarnation, incarnation });
        }
        Ok(token)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn token(&mut self) -> Result<Token, TokenError> {
        let Some((cluster, rest)) = self.rest.split_first_chunk::<16>() else {
            return damaged("it ends too early");
        };
        self.rest = rest;
        let cluster = ClusterId(u128::from_le_bytes(*cluster));
        let incarnation = self.varint()?;
        let epoch = self.varint()?;
        let count = self.varint()?;
        let mut shards = BTreeMap::new();
        let mut expected = 0u64;
        for _ in 0..count {
            // Every turn takes bytes or fails, so a false count ends with the bytes.
            let id = expected.checked_add(self.varint()?).and_then(|id| u32::try_from(id).ok());
            let Some(id) = id else { return damaged("a shard id is too large") };
            expected = u64::from(id) + 1;
            shards.insert(ShardId(id), self.position()?);
        }
        if !self.rest.is_empty() {
            return damaged("it has bytes too many");
        }
        Ok(Token { cluster, incarnation, epoch, shards })
    }

    fn position(&mut self) -> Result<Position, TokenError> {
        match self.byte()? {
            FOLLOW => Ok(Position::Follow { seq: Seq(self.varint()?) }),
            STATE => Ok(Position::State { seq: Seq(self.varint()?), cursor: self.cursor()? }),
            CATCH_UP => {
                let (after, seq) = (Seq(self.varint()?), Seq(self.varint()?));
                match after < seq {
                    true => Ok(Position::CatchUp { after, seq, cursor: self.cursor()? }),
                    false => damaged("a catch-up ends before it begins"),
                }
            }
            _ => damaged("a phase is unknown"),
        }
    }

    fn cursor(&mut self) -> Result<Vec<u8>, TokenError> {
        let bytes = self.varint()?;
        if bytes > CURSOR_BYTES_MAX as u64 {
            return damaged("a cursor is too long");
        }
        let Some((cursor, rest)) = self.rest.split_at_checked(bytes as usize) else {
            return damaged("it ends too early");
        };
        self.rest = rest;
        Ok(cursor.to_vec())
    }

    fn byte(&mut self) -> Result<u8, TokenError> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return damaged("it ends too early");
        };
        self.rest = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, TokenError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return damaged("a number is malformed");
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        damaged("a number is malformed")
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 0x3f) as usize]));
        }
    }
    text
}

fn from_base64(text: &str) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (place, &letter) in group.iter().enumerate() {
            let Some(value) = sextet(letter) else {
                return damaged("it has letters that no token has");
            };
            bits |= value << (18 - 6 * place);
        }
        let [_, group_bytes @ ..] = bits.to_be_bytes();
        let (used, unused) = group_bytes.split_at(group.len() - 1);
        if used.is_empty() || unused.iter().any(|&byte| byte != 0) {
            return damaged("its last letter is missing or wrong");
        }
        bytes.extend_from_slice(used);
    }
    Ok(bytes)
}

fn sextet(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden() -> Token {
        let shards = [
            (ShardId(1), Position::Follow { seq: Seq(300) }),
            (ShardId(2), Position::State { seq: Seq(7), cursor: b"\x01key".to_vec() }),
            (ShardId(16), Position::State { seq: Seq(0), cursor: Vec::new() }),
        ];
        let cluster = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        Token { cluster, incarnation: 1, epoch: 130, shards: shards.into() }
    }

    const CATCHING_UP: &str = "AXdmVUQzIhEA782riWdFIwEBggEBAQMFrAIEAWtlef1Db5M";
    const GOLDEN: &str = "AXdmVUQzIhEA782riWdFIwEBggEDAQGsAgACBwQBa2V5DQIAADw4Z0g";

    #[test]
    fn a_token_is_the_one_that_users_keep() {
        assert_eq!(golden().encode().unwrap(), GOLDEN);
        assert_eq!(Token::decode(GOLDEN), Ok(golden()));
    }

    #[test]
    fn a_token_of_a_catch_up_is_the_one_that_users_keep() {
        let cursor = b"\x01key".to_vec();
        let position = Position::CatchUp { after: Seq(5), seq: Seq(300), cursor };
        let token = Token { shards: [(ShardId(1), position)].into(), ..golden() };
        assert_eq!(token.encode().unwrap(), CATCHING_UP);
        assert_eq!(Token::decode(CATCHING_UP), Ok(token));
    }

    #[test]
    fn each_fault_has_its_own_code() {
        let cluster = golden().cluster;
        let code = |text: &str| Token::decode_for(text, cluster, 1).map_err(|e| e.code());
        assert_eq!(code(GOLDEN), Ok(golden()));
        assert_eq!(code(""), Err(Code::BadToken));
        assert_eq!(code("beginning"), Err(Code::BadToken));
        assert_eq!(code(&GOLDEN[1..]), Err(Code::BadToken));
        assert_eq!(code(&format!("{GOLDEN}=")), Err(Code::BadToken));
        assert_eq!(code(&"A".repeat(TOKEN_BYTES_MAX + 1)), Err(Code::TokenTooLong));
        let other = Token { cluster: ClusterId(1), ..golden() }.encode().unwrap();
        assert_eq!(code(&other), Err(Code::TokenCluster));
        let restored = Token { incarnation: 2, ..golden() }.encode().unwrap();
        assert_eq!(code(&restored), Err(Code::TokenIncarnation));
        let mut newer = vec![VERSION + 1, 1, 2, 3];
        newer.extend_from_slice(&crc32c::crc32c(&newer).to_le_bytes());
        assert_eq!(code(&to_base64(&newer)), Err(Code::TokenVersion));
    }

    #[test]
    fn a_vector_too_long_for_a_header_is_not_given_out() {
        let position = Position::State { seq: Seq(u64::MAX), cursor: vec![7; CURSOR_BYTES_MAX] };
        let shards = |count| (0..count).map(|i| (ShardId(i), position.clone())).collect();
        assert!(Token { shards: shards(20), ..golden() }.encode().is_ok());
        let found = Token { shards: shards(21), ..golden() }.encode().map_err(|e| e.code());
        assert_eq!(found, Err(Code::TokenTooLong));
        let follow = (0..440).map(|i| (ShardId(i * 3), Position::Follow { seq: Seq(u64::MAX) }));
        assert!(Token { shards: follow.collect(), ..golden() }.encode().is_ok());
    }

    fn position() -> impl Strategy<Value = Position> {
        let cursor = || proptest::collection::vec(any::<u8>(), 0..40);
        let catch_up = |(after, more, cursor): (u32, u32, Vec<u8>)| {
            let after = u64::from(after);
            let seq = Seq(after + 1 + u64::from(more));
            Position::CatchUp { after: Seq(after), seq, cursor }
        };
        prop_oneof![
            (any::<u32>(), any::<u32>(), cursor()).prop_map(catch_up),
            any::<u64>().prop_map(|seq| Position::Follow { seq: Seq(seq) }),
            (any::<u64>(), cursor())
                .prop_map(|(seq, cursor)| Position::State { seq: Seq(seq), cursor }),
        ]
    }

    fn token() -> impl Strategy<Value = Token> {
        let shards =
            proptest::collection::btree_map(any::<u32>().prop_map(ShardId), position(), 0..20);
        (any::<u128>(), any::<u64>(), any::<u64>(), shards).prop_map(
            |(cluster, incarnation, epoch, shards)| Token {
                cluster: ClusterId(cluster),
                incarnation,
                epoch,
                shards,
            },
        )
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(token in token()) {
            prop_assert_eq!(Token::decode(&token.encode().unwrap()), Ok(token));
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_refused(token in token(), at: prop::sample::Index) {
            let text = token.encode().unwrap();
            let mut bytes = text.clone().into_bytes();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(flipped) = String::from_utf8(bytes) {
                prop_assert!(Token::decode(&flipped).is_err(), "{}", flipped);
            }
            prop_assert!(Token::decode(&text[..at.index(text.len())]).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(
            text: String, bytes in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            prop_assert!(Token::decode(&text).is_err());
            // Behind a right version and checksum, too.
            let mut sealed = vec![VERSION];
            sealed.extend_from_slice(&[0; 16]);
            sealed.extend_from_slice(&bytes);
            sealed.extend_from_slice(&crc32c::crc32c(&sealed).to_le_bytes());
            let text = to_base64(&sealed);
            if let Ok(token) = Token::decode(&text) {
                prop_assert_eq!(token.encode(), Ok(text));
            }
        }
    }
}
