//! JSON strings: finding their end eight bytes at a time, checking and resolving their escapes.

use std::borrow::Cow;

use super::minify::JsonProblem;

/// Where the first byte at or behind `at` stands that cannot simply be passed over in a string: a
/// quote, a backslash or a control character; the end of `bytes` if there is none.
#[inline]
pub(super) fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let stops = stops_in(u64::from_le_bytes(*chunk));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes[at..].iter();
    at + rest.take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count()
}

/// Sets the high bit of bytes that stop a string. Above the first hit there may be false ones
/// (borrows run upwards), so only the lowest counts.
#[inline(always)]
fn stops_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    control | zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c))
}

/// Checks the escape whose backslash stands at `at`; gives where it ends, or where it is wrong.
/// Half a surrogate pair is refused: the grammar has it, but no reader could decode the string.
pub(super) fn escape_end(bytes: &[u8], at: usize) -> Result<usize, (usize, JsonProblem)> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match unit(bytes, at).ok_or((at, JsonProblem::Escape))? {
            0xd800..=0xdbff => match unit(bytes, at + 6) {
                Some(0xdc00..=0xdfff) => Ok(at + 12),
                _ => Err((at, JsonProblem::Surrogate)),
            },
            0xdc00..=0xdfff => Err((at, JsonProblem::Surrogate)),
            _ => Ok(at + 6),
        },
        Some(_) => Err((at, JsonProblem::Escape)),
        None => Err((at + 1, JsonProblem::End)),
    }
}

/// The UTF-16 unit of a `\uXXXX` whose backslash stands at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let escape = bytes.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    escape[2..].iter().try_fold(0, |unit, &b| Some(unit << 4 | char::from(b).to_digit(16)?))
}

/// The text between the quotes with its escapes resolved. `inside` was checked by the scanner;
/// what it would have refused comes out as U+FFFD.
pub(super) fn unescape(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let bytes = inside.as_bytes();
    let mut text = String::with_capacity(inside.len());
    let mut rest = 0;
    while let Some(at) = inside[rest..].find('\\').map(|found| rest + found) {
        text.push_str(&inside[rest..at]);
        let (resolved, end) = resolve(bytes, at);
        text.push(resolved);
        rest = end;
    }
    text.push_str(&inside[rest..]);
    Cow::Owned(text)
}

fn resolve(bytes: &[u8], at: usize) -> (char, usize) {
    let Ok(end) = escape_end(bytes, at) else {
        return (char::REPLACEMENT_CHARACTER, at + 1);
    };
    let resolved = match bytes[at + 1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = unit(bytes, at).unwrap_or(0xfffd);
            let code = match unit(bytes, at + 6) {
                Some(low) if end == at + 12 => 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                _ => high,
            };
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        other => char::from(other),
    };
    (resolved, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_stop_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let slow = |from: usize| {
                let stop = |&b: &u8| b < 0x20 || b == b'"' || b == b'\\';
                bytes[from..].iter().position(stop).map_or(bytes.len(), |found| from + found)
            };
            for from in 0..=bytes.len() {
                prop_assert_eq!(skip_plain(&bytes, from), slow(from));
            }
        }

        #[test]
        fn escapes_are_resolved_as_serde_json_does(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\u00e9",
                    r"\uD83C\uDFE0", r"\u0000", r"\uFFFF", "plain", "é", "🏠",
                ]),
                0..8,
            ),
        ) {
            let inside = parts.concat();
            let expected: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            prop_assert_eq!(unescape(&inside), expected);
        }

        #[test]
        fn text_that_was_never_checked_does_not_panic(inside: String) {
            unescape(&inside);
            unescape(&format!("\\{inside}\\u{inside}\\ud800\\ud83c\\u12"));
        }
    }
}
