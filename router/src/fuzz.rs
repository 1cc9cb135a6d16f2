//! What a fuzzer gives to a router: the text of queries.

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::changes::query::ChangesQuery;
use crate::http::params;
use crate::read::query::ZipQuery;

/// One line of headers that choose a format, then a query; refused or read, for a list and for
/// changes.
pub fn query(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (accept, query) = text.split_once('\n').unwrap_or(("", text));
    let Ok(uri) = Uri::try_from(format!("/v1/changes?{query}")) else { return };
    let mut headers = HeaderMap::new();
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::ACCEPT, accept.clone());
        headers.insert(header::ACCEPT_ENCODING, accept);
    }
    if let Ok(query) = ZipQuery::parse(&uri, &headers) {
        assert!(!query.spelling().is_empty(), "what is cached has a name");
    }
    if let Ok(pairs) = params::query(&uri) {
        drop(ChangesQuery::parse(pairs, &headers));
    }
}
