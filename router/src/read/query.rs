//! What is asked of a ZIP: parsed and checked, with one spelling for each meaning.

use std::sync::Arc;

use http::{HeaderMap, Uri, header};
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::{Consistency, Filter};

use super::cursor;
use super::encoding::Encoding;
use super::fields::Fields;
use super::render::Format;
use crate::http::params;
use crate::http::problem::ApiError;

/// Everything that a read of a ZIP is asked for, but the ZIP.
#[derive(Clone, Debug)]
pub(crate) struct ZipQuery {
    /// How listings stand in the response.
    pub(crate) format: Format,
    /// How the response is coded.
    pub(crate) encoding: Encoding,
    /// Which listings.
    pub(crate) filter: Filter,
    /// Which members of them.
    pub(crate) fields: Option<Fields>,
    /// Most listings.
    pub(crate) limit: Option<u64>,
    /// Start behind this id.
    pub(crate) after: Option<String>,
    /// How fresh.
    pub(crate) consistency: Consistency,
}

impl ZipQuery {
    /// Reads the query of `uri` and the headers that choose the format.
    pub(crate) fn parse(uri: &Uri, headers: &HeaderMap) -> Result<ZipQuery, ApiError> {
        let accept = params::text(headers, header::ACCEPT.as_str())?;
        let accepted_codings = params::text(headers, header::ACCEPT_ENCODING.as_str())?;
        let mut query = ZipQuery {
            format: format(accept)?,
            encoding: Encoding::negotiate(accepted_codings),
            filter: Filter::default(),
            fields: None,
            limit: None,
            after: None,
            consistency: Consistency::Linearizable,
        };
        for (name, value) in params::query(uri)? {
            query.set(&name, value)?;
        }
        Ok(query)
    }

    /// One text for everything that the content of the response depends on.
    pub(crate) fn spelling(&self) -> Arc<str> {
        let ZipQuery { format, filter, fields, limit, after, .. } = self;
        format!("{:?}", (format, filter, fields, limit, after)).into()
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ApiError> {
        match name {
            "min_price" => self.filter.min_price = Some(number(name, &value)?),
            "max_price" => self.filter.max_price = Some(number(name, &value)?),
            "min_beds" => self.filter.min_beds = Some(number(name, &value)?),
            "status" => self.filter.status = Some(value),
            "type" => self.filter.property_type = Some(value),
            "fields" => self.fields = Some(Fields::parse(&value)),
            "limit" => {
                let limit: u64 = number(name, &value)?;
                if limit == 0 {
                    return Err(bad_query("limit must be at least 1".to_string()));
                }
                self.limit = Some(limit);
            }
            "cursor" => self.after = Some(cursor_key(&value)?),
            "consistency" => self.consistency = params::consistency(Some(&value))?,
            _ => return Err(bad_query(format!("there is no parameter `{name}`"))),
        }
        Ok(())
    }
}

/// The key in a cursor that a client sent back.
pub(crate) fn cursor_key(text: &str) -> Result<String, ApiError> {
    cursor::decode(text).ok_or_else(|| {
        ApiError::new(Code::BadCursor, format!("`{text}` was not given as a cursor"))
    })
}

/// A parameter as a number.
pub(crate) fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| bad_query(format!("{name}: `{value}` is not a number in range")))
}

fn bad_query(detail: String) -> ApiError {
    ApiError::new(Code::BadQuery, detail)
}

/// The format that `Accept` prefers; JSON where it leaves a choice.
pub(crate) fn format(accept: Option<&str>) -> Result<Format, ApiError> {
    let Some(accept) = accept.filter(|accept| !accept.is_empty()) else {
        return Ok(Format::Json);
    };
    let mut best: Option<(f32, Format)> = None;
    for part in accept.split(',') {
        let mut parameters = part.split(';').map(str::trim);
        let format = match parameters.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/x-ndjson" | "application/ndjson" => Format::Ndjson,
            _ => continue,
        };
        let quality = parameters.find_map(|p| p.strip_prefix("q="));
        let quality: f32 = quality.map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, format));
        }
    }
    match best {
        Some((_, format)) => Ok(format),
        None => {
            let detail = "application/json and application/x-ndjson are offered";
            Err(ApiError::new(Code::NotAcceptable, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<ZipQuery, Code> {
        let uri: Uri = format!("/v1/zips/94110/listings{query}").parse().unwrap();
        ZipQuery::parse(&uri, &HeaderMap::new()).map_err(|error| error.code())
    }

    #[test]
    fn parameters_are_read_and_unknown_ones_refused() {
        let query =
            parse("?min_price=5&max_price=9&min_beds=2&status=A%20B&type=Land&limit=3").unwrap();
        let expected = Filter {
            min_price: Some(5),
            max_price: Some(9),
            min_beds: Some(2),
            status: Some("A B".to_string()),
            property_type: Some("Land".to_string()),
        };
        assert_eq!((query.filter, query.limit), (expected, Some(3)));
        for bad in ["?min_price=x", "?limit=0", "?colour=red", "?consistency=maybe", "?min_beds=-1"]
        {
            assert_eq!(parse(bad).unwrap_err(), Code::BadQuery, "{bad}");
        }
        assert_eq!(parse("?cursor=x").unwrap_err(), Code::BadCursor);
    }

    #[test]
    fn the_spelling_tells_queries_apart_but_not_their_order() {
        let spelling = |query: &str| parse(query).unwrap().spelling();
        assert_eq!(spelling("?min_price=5&limit=3"), spelling("?limit=3&min_price=5"));
        assert_ne!(spelling("?min_price=5"), spelling("?max_price=5"));
        assert_eq!(spelling("?consistency=lease"), spelling(""));
    }

    #[test]
    fn json_is_the_default_and_quality_decides() {
        let cases = [
            (None, Ok(Format::Json)),
            (Some("*/*"), Ok(Format::Json)),
            (Some("text/html, */*;q=0.1"), Ok(Format::Json)),
            (Some("application/x-ndjson"), Ok(Format::Ndjson)),
            (Some("application/json;q=0.5, application/x-ndjson"), Ok(Format::Ndjson)),
            (Some("application/json, application/x-ndjson"), Ok(Format::Json)),
            (Some("text/html"), Err(Code::NotAcceptable)),
            (Some("application/json;q=0"), Err(Code::NotAcceptable)),
        ];
        for (accept, expected) in cases {
            assert_eq!(format(accept).map_err(|error| error.code()), expected, "{accept:?}");
        }
    }
}
