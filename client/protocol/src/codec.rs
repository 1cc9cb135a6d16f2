//! The one place that knows bincode: versions, limits, and no byte left over.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode};

use crate::{ListingId, Zip};

/// Version of every encoded message; a peer of another version is refused.
pub const PROTOCOL_VERSION: u8 = 1;

/// Largest encoded message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

type Config = Configuration<LittleEndian, Varint, Limit<MESSAGE_BYTES_MAX>>;
const CONFIG: Config = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("message is cut off after {bytes} bytes")]
    Truncated {
        /// Bytes found.
        bytes: usize,
    },
    /// Bytes were left after the message.
    #[error("message has {bytes} bytes too many")]
    Trailing {
        /// Bytes left.
        bytes: usize,
    },
    /// Another version of the protocol.
    #[error("message has protocol version {found}, this process speaks {PROTOCOL_VERSION}")]
    Version {
        /// Version found.
        found: u8,
    },
    /// bincode cannot read it.
    #[error("message is malformed: {reason}")]
    Malformed {
        /// What bincode says.
        reason: String,
    },
}

/// Appends `value`, without a version byte.
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, bytes, CONFIG)
        .expect("writing to memory fails only over the limit, which senders check first");
}

/// Encodes `value` behind the version byte.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![PROTOCOL_VERSION];
    encode_into(value, &mut bytes);
    bytes
}

/// Decodes a value that stands behind the version byte; all bytes must be used.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    whole(bincode::decode_from_slice(unversioned(bytes)?, CONFIG), bytes.len() - 1)
}

/// As [`decode`], with slices into `bytes`.
pub fn decode_versioned_borrowed<'a, T: BorrowDecode<'a, ()>>(
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    decode_borrowed(unversioned(bytes)?)
}

/// Decodes a value without version byte, with slices into `bytes`; all bytes must be used.
pub fn decode_borrowed<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    whole(bincode::borrow_decode_from_slice(bytes, CONFIG), bytes.len())
}

fn unversioned(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Truncated { bytes: 0 }),
        Some((&PROTOCOL_VERSION, rest)) => Ok(rest),
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}

fn whole<T>(
    decoded: Result<(T, usize), bincode::error::DecodeError>,
    total: usize,
) -> Result<T, CodecError> {
    match decoded {
        Ok((value, used)) if used == total => Ok(value),
        Ok((_, used)) => Err(CodecError::Trailing { bytes: total - used }),
        Err(bincode::error::DecodeError::UnexpectedEnd { .. }) => {
            Err(CodecError::Truncated { bytes: total })
        }
        Err(e) => Err(CodecError::Malformed { reason: e.to_string() }),
    }
}

// Decoded by hand, because what a peer or a disk says is checked like what a user says.
impl<Context> Decode<Context> for ListingId {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = String::decode(decoder)?;
        ListingId::try_new(&text).map_err(|e| DecodeError::OtherString(e.to_string()))
    }
}

bincode::impl_borrow_decode!(ListingId);

impl<Context> Decode<Context> for Zip {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            0 => {
                let digits = <[u8; 5]>::decode(decoder)?;
                match digits.iter().all(u8::is_ascii_digit) {
                    true => Ok(Zip::Code(digits)),
                    false => Err(DecodeError::Other("a ZIP is five digits")),
                }
            }
            1 => Ok(Zip::Unknown),
            _ => Err(DecodeError::Other("a ZIP is a code or unknown")),
        }
    }
}

bincode::impl_borrow_decode!(Zip);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sends_is_checked_like_what_a_user_sends() {
        for zip in [Zip::Code(*b"94110"), Zip::Unknown] {
            assert_eq!(decode(&encode(&zip)), Ok(zip));
        }
        assert!(decode::<Zip>(&encode(&Zip::Code([0xff; 5]))).is_err());
        assert!(decode::<ListingId>(&encode(&"a\0b")).is_err());
        let id = ListingId::try_new("ACT1").expect("an id");
        assert_eq!(decode(&encode(&id)), Ok(id));
    }
}
