//! Fixed byte layouts: little-endian numbers, length-prefixed texts, a version in front.

use platbook_protocol::Zip;

/// Why stored bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The bytes end too early.
    #[error("bytes are missing")]
    Truncated,
    /// Bytes are left over.
    #[error("{bytes} bytes are left over")]
    Trailing {
        /// Bytes left.
        bytes: usize,
    },
    /// Written by a newer release.
    #[error("version {found} is unknown, this release reads {known}")]
    Version {
        /// Version found.
        found: u8,
        /// Version known.
        known: u8,
    },
    /// An unknown kind or enum byte.
    #[error("tag {found} is unknown")]
    Tag {
        /// Byte found.
        found: u8,
    },
    /// A text that is not UTF-8 or not of its form.
    #[error("text is malformed")]
    Text,
    /// A key stands in a slot that its hash does not give.
    #[error("slot {found} is not the slot of the key")]
    Slot {
        /// Slot found.
        found: u16,
    },
    /// Two stored values contradict each other.
    #[error("stored values contradict each other: {what}")]
    Contradiction {
        /// How.
        what: &'static str,
    },
}

/// Takes fields off the front of a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Starts behind the version byte, which must be `known`.
    pub(super) fn versioned(bytes: &'a [u8], known: u8) -> Result<Reader<'a>, LayoutError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            found if found == known => Ok(reader),
            found => Err(LayoutError::Version { found, known }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], LayoutError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(LayoutError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, LayoutError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, LayoutError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, LayoutError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, LayoutError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128, LayoutError> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], LayoutError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(LayoutError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn text(&mut self, len: usize) -> Result<&'a str, LayoutError> {
        std::str::from_utf8(self.bytes(len)?).map_err(|_| LayoutError::Text)
    }

    /// A text behind its length in two bytes.
    pub(super) fn text16(&mut self) -> Result<&'a str, LayoutError> {
        let len = self.u16()?;
        self.text(usize::from(len))
    }

    /// Bytes behind their length in four bytes.
    pub(super) fn bytes32(&mut self) -> Result<&'a [u8], LayoutError> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }

    /// A text behind its length in four bytes.
    pub(super) fn text32(&mut self) -> Result<&'a str, LayoutError> {
        std::str::from_utf8(self.bytes32()?).map_err(|_| LayoutError::Text)
    }

    /// A ZIP behind its length in one byte; length 0 is none.
    pub(super) fn maybe_zip(&mut self) -> Result<Option<Zip>, LayoutError> {
        let len = self.u8()?;
        match self.text(usize::from(len))? {
            "" => Ok(None),
            text => read_zip(text.as_bytes()).map(Some),
        }
    }

    pub(super) fn zip(&mut self) -> Result<Zip, LayoutError> {
        self.maybe_zip()?.ok_or(LayoutError::Text)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), LayoutError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(LayoutError::Trailing { bytes }),
        }
    }
}

/// Reads a ZIP in the form that keys and values hold: five digits or `unknown`.
pub(super) fn read_zip(bytes: &[u8]) -> Result<Zip, LayoutError> {
    let text = std::str::from_utf8(bytes).map_err(|_| LayoutError::Text)?;
    let zip = Zip::try_parse(text).ok_or(LayoutError::Text)?;
    match zip.as_bytes() == bytes {
        true => Ok(zip),
        false => Err(LayoutError::Text),
    }
}

/// Puts fields behind each other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn versioned(version: u8) -> Writer {
        Writer { out: vec![version] }
    }

    pub(super) fn u8(mut self, value: u8) -> Writer {
        self.out.push(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u128(self, value: u128) -> Writer {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.out.extend_from_slice(bytes);
        self
    }

    /// A text behind its length in two bytes. Texts that long are refused before they are
    /// proposed.
    pub(super) fn bytes16(self, bytes: &[u8]) -> Writer {
        let len = u16::try_from(bytes.len()).expect("lengths are checked before they are stored");
        self.u16(len).bytes(bytes)
    }

    /// Bytes behind their length in four bytes. Messages are far shorter.
    pub(super) fn bytes32(self, bytes: &[u8]) -> Writer {
        let len = u32::try_from(bytes.len()).expect("messages are limited to 64 MiB");
        self.u32(len).bytes(bytes)
    }

    pub(super) fn maybe_zip(self, zip: Option<&Zip>) -> Writer {
        let bytes = zip.map_or(&[][..], Zip::as_bytes);
        self.u8(bytes.len() as u8).bytes(bytes)
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.out
    }
}
