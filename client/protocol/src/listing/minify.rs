//! Strict JSON without the white space outside strings, otherwise byte for byte as it was sent.

use std::borrow::Cow;

use super::DEPTH_MAX;
use super::plan::Plan;
use super::scan::scan;
use crate::problem::Code;

/// Why bytes are not JSON that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {offset}: {problem}")]
pub struct JsonError {
    /// Where, counted in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub problem: JsonProblem,
}

/// What is wrong at one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// No UTF-8.
    #[error("bytes that are not UTF-8")]
    Utf8,
    /// Deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// The text ends too early.
    #[error("the text ends too early")]
    End,
    /// Another byte than the grammar allows.
    #[error("{expected} was expected")]
    Expected {
        /// What would have been right.
        expected: &'static str,
    },
    /// A control character in a string.
    #[error("control character in a string")]
    Control,
    /// An escape that does not exist.
    #[error("unknown escape in a string")]
    Escape,
    /// Half of a surrogate pair.
    #[error("half a surrogate pair in a string")]
    Surrogate,
    /// A number that no double holds, which most readers refuse.
    #[error("number out of the range of a double")]
    Range,
    /// Something after the value.
    #[error("more text after the value")]
    Trailing,
}

impl JsonError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self.problem {
            JsonProblem::Utf8 => Code::BadUtf8,
            JsonProblem::TooDeep => Code::TooDeep,
            JsonProblem::End
            | JsonProblem::Expected { .. }
            | JsonProblem::Control
            | JsonProblem::Escape
            | JsonProblem::Surrogate
            | JsonProblem::Range
            | JsonProblem::Trailing => Code::BadJson,
        }
    }
}

/// Checks `raw` per RFC 8259 and removes the white space outside strings; borrows where there is
/// none between the first and the last byte of the value.
pub fn minify(raw: &[u8]) -> Result<Cow<'_, [u8]>, JsonError> {
    let scanned = scan(raw, &Plan::empty())?;
    match scanned.beyond_depth {
        Some(offset) => Err(JsonError { offset, problem: JsonProblem::TooDeep }),
        None => Ok(scanned.minified),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The same by other means: serde_json says what is valid, a filter drops the white space.
    fn by_serde_json(raw: &[u8]) -> Option<Vec<u8>> {
        serde_json::from_slice::<Value>(raw).ok()?;
        let (mut inside, mut escaped) = (false, false);
        let keep = raw.iter().filter(|&&byte| {
            if inside {
                inside = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                return true;
            }
            inside = byte == b'"';
            !b" \t\r\n".contains(&byte)
        });
        Some(keep.copied().collect())
    }

    fn agree(raw: &[u8]) -> Result<(), TestCaseError> {
        let found = minify(raw);
        let expected = by_serde_json(raw);
        let text = String::from_utf8_lossy(raw);
        prop_assert_eq!(found.as_deref().ok(), expected.as_deref(), "{}: {:?}", text, found);
        if let Err(e) = found {
            prop_assert!(e.offset <= raw.len(), "{}: {}", text, e);
        }
        Ok(())
    }

    fn problem(raw: &[u8]) -> (usize, Code) {
        let e = minify(raw).expect_err("it must be refused");
        (e.offset, e.code())
    }

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let raw = b" { \"a b\" :\t[ 1.50 , -0e+3,\r\n\"x \\\" \\\\\" ] , \"\\u00e9\": null } \n";
        let expected = b"{\"a b\":[1.50,-0e+3,\"x \\\" \\\\\"],\"\\u00e9\":null}";
        assert_eq!(minify(raw).unwrap(), &expected[..]);
    }

    #[test]
    fn nothing_is_copied_where_nothing_goes() {
        for raw in ["{\"a\":[1,2,\"b c\"]}", "  7\n", "\t{\"a\":1} \r\n"] {
            let found = minify(raw.as_bytes()).unwrap();
            assert!(matches!(found, Cow::Borrowed(_)), "{raw:?}");
            assert_eq!(&*found, raw.trim().as_bytes());
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let cases: [(&[u8], usize, Code); 16] = [
            (b"", 0, Code::BadJson),
            (b"  ", 2, Code::BadJson),
            (b"{\"a\":1,}", 7, Code::BadJson),
            (b"[1 2]", 3, Code::BadJson),
            (b"[01]", 2, Code::BadJson),
            (b"[1.]", 3, Code::BadJson),
            (b"[\"a\nb\"]", 3, Code::BadJson),
            (b"[\"a\\x\"]", 3, Code::BadJson),
            (b"[\"\\ud800\"]", 2, Code::BadJson),
            (b"[\"\\udc00\"]", 2, Code::BadJson),
            (b"[1e999]", 1, Code::BadJson),
            (b"{} {}", 3, Code::BadJson),
            (b"[nul]", 1, Code::BadJson),
            (b"[\"abc", 5, Code::BadJson),
            (b"[\"\xff\"]", 2, Code::BadUtf8),
            (b"\xef\xbb\xbf{}", 0, Code::BadJson),
        ];
        for (raw, offset, code) in cases {
            assert_eq!(problem(raw), (offset, code), "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(minify(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(problem(&nested(DEPTH_MAX + 1)), (DEPTH_MAX, Code::TooDeep));
        assert_eq!(problem(&b"{\"a\":".repeat(100_000)).1, Code::TooDeep);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Quarters: serde_json does not round others to the nearest double.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let members = proptest::collection::btree_map(any::<String>(), inner.clone(), 0..6);
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn edit() -> impl Strategy<Value = (prop::sample::Index, u8, i32)> {
        (any::<prop::sample::Index>(), any::<u8>(), 0..3)
    }

    const TOKENS: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"a\"",
        "\"",
        "\\",
        "\\\"",
        "\\u00e9",
        "\\ud83c",
        "\\udfe0",
        "\\u12",
        "é",
        "0",
        "1",
        "-",
        "+",
        ".",
        "e",
        "E5",
        "1e400",
        "0.5",
        "true",
        "null",
        "false",
        "nul",
        "\u{1}",
        "\u{7f}",
        "\u{a0}",
        "12345678901234567890",
    ];

    proptest! {
        #[test]
        fn valid_documents_agree_with_serde_json(json in json(), pretty: bool) {
            let render = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            let raw = render(&json).unwrap();
            agree(&raw)?;
            prop_assert_eq!(serde_json::from_slice::<Value>(&minify(&raw).unwrap()).unwrap(), json);
        }

        #[test]
        fn mutated_documents_agree_with_serde_json(
            json in json(), pretty: bool,
            edits in proptest::collection::vec(edit(), 1..4),
        ) {
            let render = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            let mut raw = render(&json).unwrap();
            for (at, byte, edit) in edits {
                let at = at.index(raw.len().max(1)).min(raw.len());
                match edit {
                    0 => raw.insert(at, byte),
                    _ if at == raw.len() => {}
                    1 => raw[at] = byte,
                    _ => drop(raw.remove(at)),
                }
            }
            agree(&raw)?;
        }

        #[test]
        fn token_soup_agrees_with_serde_json(
            tokens in proptest::collection::vec(proptest::sample::select(TOKENS.to_vec()), 0..12),
            wrap in 0..4,
        ) {
            let soup = tokens.concat();
            let raw = match wrap {
                0 => soup,
                1 => format!("[{soup}]"),
                2 => format!("\"{soup}\""),
                _ => format!("{{\"a\":{soup}}}"),
            };
            agree(raw.as_bytes())?;
        }
    }
}
