//! Reads by id: `GET /v1/listings/{id}` and `GET /v1/listings?ids=`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::Consistency;

use super::params::{self, Segment};
use super::problem::ApiError;
use super::rendering::Rendering;
use super::writes::etag;
use crate::app::App;
use crate::read::by_id::{Found, read};
use crate::read::encoding::Encoding;
use crate::read::etag::matches;
use crate::read::fields::Fields;
use crate::read::render::Format;
use crate::read::scan::ScannedRow;

/// What both reads may be asked beside the ids.
struct IdQuery {
    consistency: Consistency,
    fields: Option<Fields>,
}

impl IdQuery {
    fn parse(uri: &Uri, also: Option<&str>) -> Result<IdQuery, ApiError> {
        let mut query = IdQuery { consistency: Consistency::Linearizable, fields: None };
        for (name, value) in params::query(uri)? {
            match name.as_str() {
                "consistency" => query.consistency = params::consistency(Some(&value))?,
                "fields" => query.fields = Some(Fields::parse(&value)),
                other if Some(other) == also => {}
                other => {
                    let detail = format!("there is no parameter `{other}`");
                    return Err(ApiError::new(Code::BadQuery, detail));
                }
            }
        }
        Ok(query)
    }

    /// The listing, decompressed.
    async fn body(&self, app: &Arc<App>, id: &str, frame: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let row = ScannedRow { id: id.to_string().into(), frame: frame.into() };
        let (format, fields) = (Format::Ndjson, self.fields.clone());
        let mut rendering = Rendering::try_new(app.clone(), format, fields, Encoding::Identity)?;
        let mut line = Vec::from(rendering.rows(vec![row]).await?);
        // One line; its line feed belongs to the format, not to the listing.
        line.pop();
        Ok(line)
    }
}

/// `GET /v1/listings/{id}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let id = params::listing_id(&id)?;
    let query = IdQuery::parse(&uri, None)?;
    app.map(deadline).await?;
    let source = app.source();
    let found = read(app.shards.clone(), source, query.consistency, id.clone(), deadline).await?;
    let Some(Found { zip, revision, frame }) = found else {
        return Err(ApiError::new(Code::ListingNotFound, format!("no listing has the id `{id}`")));
    };
    let tag = etag(revision);
    let known = params::text(&headers, header::IF_NONE_MATCH.as_str())?;
    let is_known = known.is_some_and(|known| tag.to_str().is_ok_and(|tag| matches(known, tag)));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => json(query.body(&app, id.as_str(), frame).await?),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(zip) = HeaderValue::from_str(zip.as_str()) {
        headers.insert("platbook-zip", zip);
    }
    headers.insert("platbook-revision", HeaderValue::from(revision.0));
    Ok(response)
}

/// `GET /v1/listings?ids=a,b,c`: in the order asked, `null` for what does not exist.
pub(crate) async fn compare(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let query = IdQuery::parse(&uri, Some("ids"))?;
    let Some(raw) = params::raw_value(&uri, "ids").filter(|raw| !raw.is_empty()) else {
        return Err(ApiError::new(Code::BadQuery, "the parameter `ids` names no id"));
    };
    // Split before it is decoded, so that an id may hold a comma.
    let parts: Vec<&str> = raw.split(',').collect();
    if parts.len() > app.limits.ids_max {
        let detail = format!("{} ids, the limit is {}", parts.len(), app.limits.ids_max);
        return Err(ApiError::new(Code::TooManyIds, detail));
    }
    let ids = parts.into_iter().map(|part| params::listing_id(&params::decode(part)?));
    let ids = ids.collect::<Result<Vec<_>, ApiError>>()?;
    app.map(deadline).await?;
    let source = app.source();
    let bodies = ids.into_iter().map(|id| {
        let (app, query) = (&app, &query);
        async move {
            let shards = app.shards.clone();
            match read(shards, source, query.consistency, id.clone(), deadline).await? {
                Some(found) => query.body(app, id.as_str(), found.frame).await,
                None => Ok::<_, ApiError>(b"null".to_vec()),
            }
        }
    });
    let bodies = try_join_all(bodies).await?;
    Ok(json([b"[", &bodies.join(&b","[..])[..], b"]"].concat()))
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, Format::Json.media_type())], body).into_response()
}
