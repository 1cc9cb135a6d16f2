//! A ZIP, or a shard, as a stream of listings, one at a time, in the router's order.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use platbook_protocol::Zip;

use crate::client::{Client, NDJSON};
use crate::config::STREAM_IDLE;
use crate::error::{ArgumentError, Error};
use crate::lines::LineBody;
use crate::listing::Listing;
use crate::token::Token;
use crate::transport::{Call, escape};

/// Which listings of a ZIP, and how much of them. The default is all of everything.
#[derive(Clone, Debug, Default)]
pub struct ZipQuery {
    /// Most listings.
    pub limit: Option<u64>,
    /// Go on behind this [`ZipListings::next_cursor`].
    pub cursor: Option<String>,
    /// Least price, whole currency units.
    pub min_price: Option<u64>,
    /// Greatest price.
    pub max_price: Option<u64>,
    /// Least number of bedrooms.
    pub min_beds: Option<u16>,
    /// Exact status.
    pub status: Option<String>,
    /// Exact property type.
    pub property_type: Option<String>,
    /// Names of the fields wanted.
    pub fields: Vec<String>,
}

/// A read of a ZIP about to be made.
///
/// ```no_run
/// # async fn f(client: platbook_client::Client) -> Result<(), platbook_client::Error> {
/// let mut cheap = client.zip("98103").max_price(400_000).status("Active").stream().await?;
/// while let Some(listing) = cheap.try_next().await? {
///     println!("{:?}", listing.body());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing is read before `stream` or `collect`"]
pub struct ZipRead {
    client: Client,
    zip: Result<Zip, ArgumentError>,
    query: ZipQuery,
}

impl ZipRead {
    pub(crate) fn new(client: Client, zip: Result<Zip, ArgumentError>) -> ZipRead {
        ZipRead { client, zip, query: ZipQuery::default() }
    }

    /// Everything at once.
    pub fn query(self, query: ZipQuery) -> ZipRead {
        ZipRead { query, ..self }
    }

    /// At most so many listings.
    pub fn limit(mut self, limit: u64) -> ZipRead {
        self.query.limit = Some(limit);
        self
    }

    /// Behind a [`ZipListings::next_cursor`].
    pub fn cursor(mut self, cursor: impl Into<String>) -> ZipRead {
        self.query.cursor = Some(cursor.into());
        self
    }

    /// Not below this price, in whole currency units.
    pub fn min_price(mut self, price: u64) -> ZipRead {
        self.query.min_price = Some(price);
        self
    }

    /// Not above this price.
    pub fn max_price(mut self, price: u64) -> ZipRead {
        self.query.max_price = Some(price);
        self
    }

    /// With at least so many bedrooms.
    pub fn min_beds(mut self, beds: u16) -> ZipRead {
        self.query.min_beds = Some(beds);
        self
    }

    /// With exactly this status.
    pub fn status(mut self, status: impl Into<String>) -> ZipRead {
        self.query.status = Some(status.into());
        self
    }

    /// With exactly this property type.
    pub fn property_type(mut self, property_type: impl Into<String>) -> ZipRead {
        self.query.property_type = Some(property_type.into());
        self
    }

    /// Only these fields of each listing.
    pub fn fields<T: Into<String>>(mut self, fields: impl IntoIterator<Item = T>) -> ZipRead {
        self.query.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// The listings, while they arrive: one state, as it was at one moment.
    pub async fn stream(self) -> Result<ZipListings, Error> {
        let response = self.open(None).await?;
        Ok(ZipListings::new(response))
    }

    /// The listings, unless the ZIP is still as it was at this [`ZipListings::etag`]: then `None`,
    /// at the cost of one small read.
    pub async fn stream_if_changed(self, etag: &str) -> Result<Option<ZipListings>, Error> {
        let response = self.open(Some(etag)).await?;
        let is_unchanged = response.status() == StatusCode::NOT_MODIFIED;
        Ok((!is_unchanged).then(|| ZipListings::new(response)))
    }

    /// All listings at once.
    pub async fn collect(self) -> Result<Vec<Listing>, Error> {
        self.stream().await?.collect().await
    }

    async fn open(self, etag: Option<&str>) -> Result<Response<Incoming>, Error> {
        let zip = self.zip?;
        let path = format!("/v1/zips/{zip}/listings{}", self.query.encode());
        let mut call = Call::get(path, NDJSON);
        if let Some(etag) = etag {
            // A tag that is no header text is none of ours, and matches nothing.
            let etag = HeaderValue::from_str(etag).ok();
            call.headers.extend(etag.map(|etag| (IF_NONE_MATCH, etag)));
        }
        self.client.transport.open(&call).await
    }
}

impl ZipQuery {
    fn encode(&self) -> String {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let fields = (!self.fields.is_empty()).then(|| self.fields.join(","));
        let pairs = [
            ("limit", number(self.limit)),
            ("cursor", self.cursor.clone()),
            ("min_price", number(self.min_price)),
            ("max_price", number(self.max_price)),
            ("min_beds", number(self.min_beds.map(u64::from))),
            ("status", self.status.clone()),
            ("type", self.property_type.clone()),
            ("fields", fields),
        ];
        let mut out = String::new();
        for (name, value) in pairs {
            if let Some(value) = value {
                out.push(if out.is_empty() { '?' } else { '&' });
                out.push_str(&format!("{name}={}", escape(&value)));
            }
        }
        out
    }
}

/// Listings of one state, while they arrive. A [`Stream`], and usable without one.
#[derive(Debug)]
pub struct ZipListings {
    headers: HeaderMap,
    lines: LineBody,
}

impl ZipListings {
    pub(crate) fn new(response: Response<Incoming>) -> ZipListings {
        let (parts, body) = response.into_parts();
        ZipListings { headers: parts.headers, lines: LineBody::new(body, STREAM_IDLE) }
    }

    /// Live listings of the ZIP, before filters and limit.
    pub fn count(&self) -> Option<u64> {
        self.header("platbook-count")?.parse().ok()
    }

    /// Where the change stream stands at exactly this state: follow from here, and nothing is
    /// missing and nothing comes twice.
    pub fn token(&self) -> Option<Token> {
        self.header("platbook-token").map(Token::from)
    }

    /// For [`ZipRead::stream_if_changed`].
    pub fn etag(&self) -> Option<&str> {
        self.header("etag")
    }

    /// Cursor behind the last listing, where a limit cut the answer.
    pub fn next_cursor(&self) -> Option<&str> {
        self.header("platbook-next")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next listing; `None` at the end. An answer that breaks off is an error, never an end.
    pub async fn try_next(&mut self) -> Result<Option<Listing>, Error> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.transpose()
    }

    /// All that is left, at once.
    pub async fn collect(mut self) -> Result<Vec<Listing>, Error> {
        let mut listings = Vec::new();
        while let Some(listing) = self.try_next().await? {
            listings.push(listing);
        }
        Ok(listings)
    }
}

impl Stream for ZipListings {
    type Item = Result<Listing, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = self.get_mut().lines.poll_line(cx);
        line.map(|line| line.map(|line| line.map(Listing::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::ZipQuery;

    #[test]
    fn a_query_is_escaped_and_empty_when_nothing_is_asked() {
        assert_eq!(ZipQuery::default().encode(), "");
        let query = ZipQuery {
            min_price: Some(1),
            status: Some("Active Under".into()),
            fields: vec!["a".into(), "b".into()],
            ..ZipQuery::default()
        };
        assert_eq!(query.encode(), "?min_price=1&status=Active%20Under&fields=a%2Cb");
    }
}
