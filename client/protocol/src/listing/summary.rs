//! The summary: what filters and cards need of a listing, in about 30 bytes beside its frame.
//!
//! ```text
//!  0 version u8 = 1          4 beds u16         20 latitude i32, 1e-7 degrees
//!  1 present u8 (bits)       6 baths u16, 1/100 24 longitude i32, 1e-7 degrees
//!  2 status code u8          8 price u64        28 [length u8, status]    where its code is 255
//!  3 type code u8           16 area u32            [length u8, type text] where its code is 255
//! ```
//! Numbers are little-endian, and zero where their bit of `present` is not set: 0 price, 1 beds,
//! 2 baths, 3 area, 4 latitude, 5 longitude. Codes are fixed for ever; 0: absent, 255: inline.

/// Longest status or property type that is kept, in bytes; the rest is cut.
pub const TEXT_BYTES_MAX: usize = 64;

pub(super) const VERSION: u8 = 1;
const HEAD_BYTES: usize = 28;
const ABSENT: u8 = 0;
const INLINE: u8 = 255;

/// RESO `StandardStatus`; the code is the place plus one. Append only.
const STATUSES: [&str; 11] = [
    "Active",
    "Active Under Contract",
    "Canceled",
    "Closed",
    "Coming Soon",
    "Delete",
    "Expired",
    "Hold",
    "Incomplete",
    "Pending",
    "Withdrawn",
];

/// RESO `PropertyType`; the code is the place plus one. Append only.
const PROPERTY_TYPES: [&str; 9] = [
    "Business Opportunity",
    "Commercial Lease",
    "Commercial Sale",
    "Farm",
    "Land",
    "Manufactured In Park",
    "Residential",
    "Residential Income",
    "Residential Lease",
];

/// What filters and cards need of a listing; absent where the listing has no usable value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary<'a> {
    /// Whole currency units, cut.
    pub price: Option<u64>,
    /// RESO spelling where it is a RESO status in any case, else as sent.
    pub status: Option<&'a str>,
    /// RESO spelling where it is a RESO property type in any case, else as sent.
    pub property_type: Option<&'a str>,
    /// Bedrooms.
    pub beds: Option<u16>,
    /// Bathrooms in hundredths: 250 is two and a half.
    pub baths_hundredths: Option<u16>,
    /// Living area in the listing's own unit.
    pub area: Option<u32>,
    /// Latitude in 1e-7 degrees.
    pub latitude_e7: Option<i32>,
    /// Longitude in 1e-7 degrees.
    pub longitude_e7: Option<i32>,
}

/// Why bytes are no summary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    /// They end too early, or too late.
    #[error("summary has {bytes} bytes, which does not fit its content")]
    Length {
        /// Bytes found.
        bytes: usize,
    },
    /// A version of another build.
    #[error("summary has the unknown version {found}")]
    Version {
        /// Version found.
        found: u8,
    },
    /// A code of another build.
    #[error("summary has the unknown code {found}")]
    Code {
        /// Code found.
        found: u8,
    },
    /// A text that is no UTF-8.
    #[error("summary holds a text that is not UTF-8")]
    Utf8,
}

/// A text as it stands in a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coded<'a> {
    Absent,
    Code(u8),
    Inline(&'a str),
}

impl<'a> Coded<'a> {
    pub(super) fn of_status(text: Option<&'a str>) -> Coded<'a> {
        Coded::of(text, &STATUSES)
    }

    pub(super) fn of_property_type(text: Option<&'a str>) -> Coded<'a> {
        Coded::of(text, &PROPERTY_TYPES)
    }

    fn of(text: Option<&'a str>, known: &[&str]) -> Coded<'a> {
        let Some(text) = text else { return Coded::Absent };
        match known.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            Some(at) => Coded::Code(at as u8 + 1),
            None => Coded::Inline(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)]),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Coded::Absent => ABSENT,
            Coded::Code(code) => code,
            Coded::Inline(_) => INLINE,
        }
    }

    fn text(self, known: &[&'static str]) -> Result<Option<&'a str>, SummaryError> {
        match self {
            Coded::Absent => Ok(None),
            Coded::Inline(text) => Ok(Some(text)),
            Coded::Code(code) => match known.get(usize::from(code) - 1) {
                Some(name) => Ok(Some(name)),
                None => Err(SummaryError::Code { found: code }),
            },
        }
    }
}

/// A summary whose texts are still codes: what filters look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<'a> {
    pub(super) price: Option<u64>,
    pub(super) beds: Option<u16>,
    pub(super) status: Coded<'a>,
    pub(super) property_type: Coded<'a>,
    head: &'a [u8; HEAD_BYTES],
}

impl<'a> Encoded<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Encoded<'a>, SummaryError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) => return Err(SummaryError::Version { found }),
            None => return Err(SummaryError::Length { bytes: 0 }),
        }
        let wrong_length = SummaryError::Length { bytes: bytes.len() };
        let Some((head, mut rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(wrong_length);
        };
        let status = take_coded(head[2], &mut rest, &wrong_length)?;
        let property_type = take_coded(head[3], &mut rest, &wrong_length)?;
        if !rest.is_empty() {
            return Err(wrong_length);
        }
        let has = |bit: u8| head[1] >> bit & 1 == 1;
        Ok(Encoded {
            price: has(0).then(|| u64::from_le_bytes(part(head, 8))),
            beds: has(1).then(|| u16::from_le_bytes(part(head, 4))),
            status,
            property_type,
            head,
        })
    }
}

/// The fixed bytes from `at`.
fn part<const N: usize>(head: &[u8; HEAD_BYTES], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("offsets are constants within the head")
}

fn take_coded<'a>(
    code: u8,
    rest: &mut &'a [u8],
    wrong_length: &SummaryError,
) -> Result<Coded<'a>, SummaryError> {
    match code {
        ABSENT => Ok(Coded::Absent),
        INLINE => {
            let (&length, tail) = rest.split_first().ok_or_else(|| wrong_length.clone())?;
            let (text, tail) =
                tail.split_at_checked(usize::from(length)).ok_or_else(|| wrong_length.clone())?;
            *rest = tail;
            std::str::from_utf8(text).map(Coded::Inline).map_err(|_| SummaryError::Utf8)
        }
        code => Ok(Coded::Code(code)),
    }
}

impl<'a> Summary<'a> {
    /// The bytes that stand beside the frame.
    pub fn encode(&self) -> Vec<u8> {
        let status = Coded::of_status(self.status);
        let property_type = Coded::of_property_type(self.property_type);
        let present = [
            self.price.is_some(),
            self.beds.is_some(),
            self.baths_hundredths.is_some(),
            self.area.is_some(),
            self.latitude_e7.is_some(),
            self.longitude_e7.is_some(),
        ];
        let bits = present.iter().rev().fold(0, |bits, &bit| bits << 1 | u8::from(bit));
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&[VERSION, bits, status.byte(), property_type.byte()]);
        bytes.extend_from_slice(&self.beds.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.baths_hundredths.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.price.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.area.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.latitude_e7.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.longitude_e7.unwrap_or(0).to_le_bytes());
        for coded in [status, property_type] {
            if let Coded::Inline(text) = coded {
                bytes.push(text.len() as u8);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Summary::encode`] wrote; all bytes must be used.
    pub fn decode(bytes: &'a [u8]) -> Result<Summary<'a>, SummaryError> {
        let encoded = Encoded::parse(bytes)?;
        let head = encoded.head;
        let has = |bit: u8| head[1] >> bit & 1 == 1;
        Ok(Summary {
            price: encoded.price,
            status: encoded.status.text(&STATUSES)?,
            property_type: encoded.property_type.text(&PROPERTY_TYPES)?,
            beds: encoded.beds,
            baths_hundredths: has(2).then(|| u16::from_le_bytes(part(head, 6))),
            area: has(3).then(|| u32::from_le_bytes(part(head, 16))),
            latitude_e7: has(4).then(|| i32::from_le_bytes(part(head, 20))),
            longitude_e7: has(5).then(|| i32::from_le_bytes(part(head, 24))),
        })
    }

    /// Bathrooms, as readers are told them: 2.5 is two and a half.
    pub fn baths(&self) -> Option<f64> {
        self.baths_hundredths.map(|hundredths| f64::from(hundredths) / 100.0)
    }

    /// Degrees north.
    pub fn latitude(&self) -> Option<f64> {
        self.latitude_e7.map(degrees)
    }

    /// Degrees east.
    pub fn longitude(&self) -> Option<f64> {
        self.longitude_e7.map(degrees)
    }

    /// Names of what differs in `is`, as readers of changes are told them and in this order. Here,
    /// so that a reader of the binary stream is told the same ones as a reader of JSON.
    pub fn changed(&self, is: &Summary<'_>) -> Vec<&'static str> {
        let differing = [
            ("price", self.price != is.price),
            ("status", self.status != is.status),
            ("type", self.property_type != is.property_type),
            ("beds", self.beds != is.beds),
            ("baths", self.baths_hundredths != is.baths_hundredths),
            ("area", self.area != is.area),
            ("lat", self.latitude_e7 != is.latitude_e7),
            ("lon", self.longitude_e7 != is.longitude_e7),
        ];
        differing.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}

fn degrees(e7: i32) -> f64 {
    f64::from(e7) / 1e7
}

const _: () = assert!(TEXT_BYTES_MAX <= u8::MAX as usize, "a length is one byte");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_summary_is_the_one_that_disks_were_written_with() {
        let summary = Summary {
            price: Some(0x0102_0304_0506),
            status: Some("active under contract"),
            property_type: Some("Boat"),
            beds: Some(4),
            baths_hundredths: Some(250),
            area: Some(2_000),
            latitude_e7: Some(477_512_000),
            longitude_e7: Some(-1_222_570_000),
        };
        #[rustfmt::skip]
        let golden = [
            1, 0b11_1111, 2, 255, 4, 0, 250, 0,
            6, 5, 4, 3, 2, 1, 0, 0,
            0xd0, 0x07, 0, 0, 0x40, 0x41, 0x76, 0x1c, 0xf0, 0x0f, 0x21, 0xb7,
            4, b'B', b'o', b'a', b't',
        ];
        assert_eq!(summary.encode(), golden, "{:x?}", summary.encode());
        let read = Summary::decode(&golden).unwrap();
        assert_eq!(read, Summary { status: Some("Active Under Contract"), ..summary });
        let mut nothing = [0; HEAD_BYTES];
        nothing[0] = VERSION;
        assert_eq!(Summary::default().encode(), nothing);
    }

    #[test]
    fn codes_never_move() {
        let code = |text| Coded::of_status(Some(text)).byte();
        assert_eq!(
            [code("ACTIVE"), code("Closed"), code("Pending"), code("Withdrawn")],
            [1, 4, 10, 11]
        );
        let code = |text| Coded::of_property_type(Some(text)).byte();
        assert_eq!(
            [code("Business Opportunity"), code("Land"), code("Residential Lease")],
            [1, 5, 9]
        );
        assert_eq!(code("Residential Lease "), INLINE);
    }

    #[test]
    fn readers_are_told_whole_units_and_the_names_of_what_differs() {
        let was = Summary {
            price: Some(500_000),
            baths_hundredths: Some(250),
            latitude_e7: Some(477_512_000),
            longitude_e7: Some(-1_222_570_000),
            ..Summary::default()
        };
        let numbers = (was.baths(), was.latitude(), was.longitude());
        assert_eq!(numbers, (Some(2.5), Some(47.7512), Some(-122.257)));
        assert!(was.changed(&was).is_empty());
        let nothing = Summary::default();
        assert_eq!(nothing.baths(), None);
        assert_eq!(was.changed(&nothing), ["price", "baths", "lat", "lon"]);
        let is = Summary {
            price: Some(500_001),
            status: Some("Pending"),
            property_type: Some("Land"),
            beds: Some(3),
            baths_hundredths: Some(251),
            area: Some(2_000),
            latitude_e7: Some(477_512_001),
            longitude_e7: Some(-1_222_570_001),
        };
        let all = ["price", "status", "type", "beds", "baths", "area", "lat", "lon"];
        assert_eq!(was.changed(&is), all);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            price: Option<u64>, beds: Option<u16>, baths_hundredths: Option<u16>,
            area: Option<u32>, latitude_e7: Option<i32>, longitude_e7: Option<i32>,
            status: Option<String>, property_type: Option<String>,
        ) {
            let cut = |text: &Option<String>| {
                text.as_ref().map(|t| t[..t.floor_char_boundary(TEXT_BYTES_MAX)].to_string())
            };
            let (status, property_type) = (cut(&status), cut(&property_type));
            let summary = Summary {
                price, status: status.as_deref(), property_type: property_type.as_deref(), beds,
                baths_hundredths, area, latitude_e7, longitude_e7,
            };
            let bytes = summary.encode();
            prop_assert_eq!(Summary::decode(&bytes), Ok(summary));
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _either = Summary::decode(&bytes);
            if let Some(version) = bytes.first_mut() {
                *version = VERSION;
            }
            if let Ok(summary) = Summary::decode(&bytes) {
                prop_assert!(bytes.len() >= HEAD_BYTES, "{:?}", summary);
            }
        }
    }
}
