//! A cursor of a paged list: behind which key the next page starts. Opaque to clients.

/// First characters of every cursor of this version.
const VERSION: &str = "1-";

/// The cursor behind `key`.
pub(crate) fn encode(key: &[u8]) -> String {
    let mut text = String::with_capacity(VERSION.len() + 2 * key.len());
    text.push_str(VERSION);
    for byte in key {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The key in a cursor; `None` for anything that [`encode`] does not give.
pub(crate) fn decode(text: &str) -> Option<String> {
    let digits = text.strip_prefix(VERSION)?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return None;
    }
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    String::from_utf8(bytes?).ok()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for key in ["a", "MLS-1234/é", "\u{10ffff}"] {
            assert_eq!(decode(&encode(key.as_bytes())).as_deref(), Some(key));
        }
    }

    #[test]
    fn nothing_else_is_a_cursor() {
        for bad in ["", "1-", "1-6", "1-6g", "2-61", "61", "1-FF", "1-ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
