//! One request, kept whole so that it can be sent again.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query, from `/v1/...`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// Reads `path`, in this format.
    pub(crate) fn get(path: String, accept: HeaderValue) -> Call {
        let headers = [(ACCEPT, accept)].into_iter().collect();
        Call { method: Method::GET, path, headers, body: Bytes::new() }
    }
}

/// Escapes one path segment or query value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn an_id_with_slashes_stays_one_path_segment() {
        assert_eq!(escape("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
