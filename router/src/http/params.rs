//! What requests carry in headers, paths and queries, read once and checked.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use http::{HeaderMap, Uri};
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::Consistency;
use platbook_protocol::{ListingId, Revision, Zip};
use tokio::time::Instant;

use super::problem::ApiError;
use crate::config::Limits;

/// Header with the milliseconds that a client waits.
pub(crate) const DEADLINE: &str = "x-deadline-ms";

/// A header as text; an error if it is not text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let not_text = |_| ApiError::new(Code::BadHeader, format!("{name} is not ASCII text"));
    value.to_str().map(|text| Some(text.trim())).map_err(not_text)
}

/// A header as a number.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let bad = |_| ApiError::new(Code::BadHeader, format!("{name}: `{text}` is not a number"));
    text.parse().map(Some).map_err(bad)
}

/// When the request gives up, counted from now.
pub(crate) fn deadline(headers: &HeaderMap, limits: &Limits) -> Result<Instant, ApiError> {
    let asked = number(headers, DEADLINE)?.unwrap_or(limits.deadline_ms);
    Ok(Instant::now() + Duration::from_millis(asked.min(limits.deadline_ms_max)))
}

/// The parameters of a query, percent-decoded.
pub(crate) fn query(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    match Query::<Vec<(String, String)>>::try_from_uri(uri) {
        Ok(Query(pairs)) => Ok(pairs),
        Err(error) => Err(ApiError::new(Code::BadQuery, error.body_text())),
    }
}

/// The value of a parameter as it stands in the URL, not decoded.
pub(crate) fn raw_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// Percent-decodes a part of a query.
pub(crate) fn decode(raw: &str) -> Result<String, ApiError> {
    let bad = || ApiError::new(Code::BadQuery, format!("`{raw}` is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
                let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
                rest = tail;
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// The one variable segment of a path, percent-decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Segment, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Segment(text)),
            Err(rejection) => Err(ApiError::new(Code::BadId, rejection.body_text())),
        }
    }
}

/// A listing id from a path or query.
pub(crate) fn listing_id(text: &str) -> Result<ListingId, ApiError> {
    use platbook_protocol::id::BadListingId;
    ListingId::try_new(text).map_err(|error| {
        let code = match error {
            BadListingId::Empty | BadListingId::Control { .. } => Code::BadId,
            BadListingId::TooLong { .. } => Code::IdTooLong,
        };
        ApiError::new(code, error.to_string())
    })
}

/// A ZIP from a path.
pub(crate) fn zip(text: &str) -> Result<Zip, ApiError> {
    Zip::try_parse(text).ok_or_else(|| {
        let detail = format!("`{text}` is neither five digits nor ZIP+4 nor `unknown`");
        ApiError::new(Code::BadZip, detail)
    })
}

/// `?consistency=`.
pub(crate) fn consistency(text: Option<&str>) -> Result<Consistency, ApiError> {
    match text {
        None | Some("linearizable") => Ok(Consistency::Linearizable),
        Some("lease") => Ok(Consistency::Lease),
        Some(other) => {
            let detail = format!("consistency `{other}` is neither `linearizable` nor `lease`");
            Err(ApiError::new(Code::BadQuery, detail))
        }
    }
}

/// The revision in an entity tag, as `GET /v1/listings/{id}` gives it: `"123"` or `W/"123"`.
pub(crate) fn revision_of_etag(tag: &str) -> Option<Revision> {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let number = tag.strip_prefix('"')?.strip_suffix('"')?;
    number.parse().ok().map(Revision)
}

/// `If-Match`: the one revision that the caller wants to replace.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Revision>, ApiError> {
    let Some(tag) = text(headers, "if-match")? else { return Ok(None) };
    match revision_of_etag(tag) {
        Some(revision) => Ok(Some(revision)),
        None => {
            let detail = format!("if-match: `{tag}` is not one entity tag of a listing");
            Err(ApiError::new(Code::BadHeader, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_of_listings_are_revisions() {
        assert_eq!(revision_of_etag("\"12\""), Some(Revision(12)));
        assert_eq!(revision_of_etag("W/\"12\""), Some(Revision(12)));
        for bad in ["12", "\"12", "*", "\"a\"", "\"1\", \"2\"", ""] {
            assert_eq!(revision_of_etag(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_list_in_a_query_is_split_before_it_is_decoded() {
        let uri: Uri = "/v1/listings?x=1&ids=a%2Cb,c%20d+e".parse().unwrap();
        let raw = raw_value(&uri, "ids").unwrap();
        let ids: Vec<String> = raw.split(',').map(|part| decode(part).unwrap()).collect();
        assert_eq!(ids, ["a,b", "c d e"]);
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(bad).unwrap_err().code(), Code::BadQuery, "{bad}");
        }
    }

    #[test]
    fn a_deadline_is_never_greater_than_the_limit() {
        let limits = Limits::default();
        let mut headers = HeaderMap::new();
        headers.insert(DEADLINE, "99999999999".parse().unwrap());
        let limit = Instant::now() + Duration::from_millis(limits.deadline_ms_max + 1_000);
        assert!(deadline(&headers, &limits).unwrap() < limit);
        headers.insert(DEADLINE, "soon".parse().unwrap());
        assert_eq!(deadline(&headers, &limits).unwrap_err().code(), Code::BadHeader);
    }
}
