//! The ZIP under which a row is stored.

use std::fmt;
use std::str::FromStr;

use bincode::Encode;

/// Five digits, or `unknown` for a listing whose postal code is missing or garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub enum Zip {
    /// ASCII digits, as printed.
    Code([u8; 5]),
    /// No usable postal code: still stored, still deletable by id.
    Unknown,
}

impl Zip {
    /// Normalises a postal code of a listing: `94110-1234` gives `94110`; none or garbage gives
    /// [`Zip::Unknown`]. Never fails, because a listing with a bad ZIP is still a listing.
    pub fn normalise(text: Option<&str>) -> Zip {
        text.and_then(|text| Zip::try_parse(text.trim())).unwrap_or(Zip::Unknown)
    }

    /// Reads a ZIP as a user writes it in a request: five digits, ZIP+4 or `unknown`.
    pub fn try_parse(text: &str) -> Option<Zip> {
        if text == "unknown" {
            return Some(Zip::Unknown);
        }
        let (code, plus4) = match text.len() {
            5 => (text, None),
            9 if text.is_ascii() => (&text[..5], Some(&text[5..])),
            10 if text.is_ascii() && text.as_bytes()[5] == b'-' => (&text[..5], Some(&text[6..])),
            _ => return None,
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(code) || !plus4.is_none_or(digits) {
            return None;
        }
        code.as_bytes().try_into().ok().map(Zip::Code)
    }

    /// The bytes that are hashed and that stand in keys: `94110` or `unknown`.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Zip::Code(digits) => digits,
            Zip::Unknown => b"unknown",
        }
    }

    /// The ZIP as text.
    pub fn as_str(&self) -> &str {
        match self {
            Zip::Code(digits) => std::str::from_utf8(digits).expect("a ZIP code is ASCII digits"),
            Zip::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Zip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is neither five digits, ZIP+4 nor `unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither five digits, ZIP+4 nor `unknown`")]
pub struct BadZip {
    /// As given.
    pub text: String,
}

impl FromStr for Zip {
    type Err = BadZip;

    fn from_str(text: &str) -> Result<Zip, BadZip> {
        Zip::try_parse(text).ok_or_else(|| BadZip { text: text.to_string() })
    }
}

impl TryFrom<&str> for Zip {
    type Error = BadZip;

    fn try_from(text: &str) -> Result<Zip, BadZip> {
        text.parse()
    }
}

impl TryFrom<&String> for Zip {
    type Error = BadZip;

    fn try_from(text: &String) -> Result<Zip, BadZip> {
        text.parse()
    }
}

impl TryFrom<String> for Zip {
    type Error = BadZip;

    fn try_from(text: String) -> Result<Zip, BadZip> {
        text.parse()
    }
}

impl From<&Zip> for Zip {
    fn from(zip: &Zip) -> Zip {
        *zip
    }
}

#[cfg(test)]
mod tests {
    use super::Zip;

    #[test]
    fn garbage_becomes_unknown_and_plus_four_is_cut() {
        let cases = [
            ("94110", "94110"),
            (" 94110 ", "94110"),
            ("94110-1234", "94110"),
            ("941101234", "94110"),
            ("9411", "unknown"),
            ("94110-12345", "unknown"),
            ("9411o", "unknown"),
            ("94110-12a4", "unknown"),
            ("\u{663}\u{663}\u{663}\u{663}\u{663}", "unknown"),
            ("", "unknown"),
        ];
        for (text, expected) in cases {
            assert_eq!(Zip::normalise(Some(text)).as_str(), expected, "{text:?}");
        }
        assert_eq!(Zip::normalise(None), Zip::Unknown);
    }
}
