//! The calls of services: one listing, a ZIP, many writes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use platbook_protocol::problem::Code;
use platbook_protocol::{ListingId, Revision, Zip};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::admin::Admin;
use crate::builder::ClientBuilder;
use crate::bulk::BulkBuilder;
use crate::changes::ChangesBuilder;
use crate::error::{ArgumentError, AttemptError, Error, Unknown, WriteError};
use crate::listing::{Listing, Versioned};
use crate::post::PostRequest;
use crate::transport::{Answer, Call, Transport, escape};
use crate::write::{Write, WriteRequest, Written};
use crate::zip::ZipRead;

pub(crate) const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A handle on a Platbook cluster. Cheap to clone; all clones share their connections.
///
/// Every call has a deadline and is tried again, with growing and spread pauses, until it is
/// answered or the deadline passes: there is no need for another retry around it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) transport: Transport,
}

impl Client {
    /// A client of the router at `url`, with default settings.
    pub fn new(url: impl Into<String>) -> Result<Client, ArgumentError> {
        Client::builder(url).build()
    }

    /// Settings for a client of the router at `url`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// The same client with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client { transport: self.transport.with_deadline(deadline) }
    }

    /// The listings of a ZIP: five digits, ZIP+4, or `unknown`.
    pub fn zip<Z>(&self, zip: Z) -> ZipRead
    where
        Z: TryInto<Zip, Error: Into<ArgumentError>>,
    {
        ZipRead::new(self.clone(), zip.try_into().map_err(Into::into))
    }

    /// One listing with its revision; `None` where there is none. Linearizable.
    pub async fn get<I>(&self, id: I) -> Result<Option<Versioned>, Error>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        let id = id.try_into().map_err(Into::into)?;
        let call = Call::get(listing_path(&id), JSON);
        match self.transport.read(&call).await {
            Err(Error::Refused(problem)) if problem.is(Code::ListingNotFound) => Ok(None),
            answer => versioned(id, answer?).map(Some),
        }
    }

    /// Up to 100 listings side by side, in the order of `ids`; `None` for a missing one.
    pub async fn compare<I, Id>(&self, ids: I) -> Result<Vec<Option<Listing>>, Error>
    where
        I: IntoIterator<Item = Id>,
        Id: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        let escaped = |id: Id| Ok(escape(id.try_into().map_err(Into::into)?.as_str()));
        let ids: Vec<String> =
            ids.into_iter().map(escaped).collect::<Result<_, ArgumentError>>()?;
        let path = format!("/v1/listings?ids={}", ids.join(","));
        let found: Vec<Option<Box<RawValue>>> = self.read_json(path).await?;
        let listing =
            |body: Box<RawValue>| Listing::new(Box::<str>::from(body).into_string().into());
        Ok(found.into_iter().map(|body| body.map(listing)).collect())
    }

    /// Puts a listing, a JSON document, under `id`. `.await` makes it, once, however often it has
    /// to be sent.
    ///
    /// ```no_run
    /// # async fn f(client: platbook_client::Client) -> Result<(), platbook_client::WriteError> {
    /// let seen = client.get("7129300520").await?;
    /// let body = r#"{"ListingKey":"7129300520","PostalCode":"98178","ListPrice":221900}"#;
    /// let mut put = client.put("7129300520", body);
    /// if let Some(seen) = seen {
    ///     put = put.if_match(seen.revision); // refused if somebody was faster
    /// }
    /// println!("{:?}", put.await?.outcome);
    /// # Ok(()) }
    /// ```
    pub fn put<I>(&self, id: I, listing: impl Into<Bytes>) -> WriteRequest
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        WriteRequest::new(self.clone(), Write::put(id, listing))
    }

    /// As [`Client::put`], from a value that serialises to a listing.
    pub fn put_json<I, T>(&self, id: I, listing: &T) -> WriteRequest
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
        T: Serialize + ?Sized,
    {
        let body = serde_json::to_vec(listing).map_err(|e| ArgumentError::Serialise(e.into()));
        WriteRequest::new(self.clone(), body.and_then(|body| Write::put(id, body)))
    }

    /// Deletes a listing. `.await` makes it.
    pub fn delete<I>(&self, id: I) -> WriteRequest
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        WriteRequest::new(self.clone(), Write::delete(id))
    }

    /// Makes a write that the caller keeps, for instance in a table of its own until it is done, or
    /// one whose outcome was unknown.
    pub async fn send(&self, write: &Write) -> Result<Written, WriteError> {
        let answer = self.transport.write(&write.call()).await;
        answer.and_then(|answer| written(&answer)).map_err(|error| error.about(write))
    }

    /// Many writes: batched, several requests under way, no more held than a limit.
    pub fn bulk(&self) -> BulkBuilder {
        BulkBuilder::new(self.clone())
    }

    /// Posts messages as they stand on the queue, one a line, as one request: for callers that
    /// batch by themselves. See [`PostRequest`] for what makes it safe to repeat.
    pub fn post(&self, lines: impl Into<Bytes>) -> PostRequest {
        PostRequest::new(self.clone(), lines.into())
    }

    /// Every change, to be followed: present state first, then each change as it happens.
    pub fn changes(&self) -> ChangesBuilder {
        ChangesBuilder::new(self.clone())
    }

    /// Calls of operators.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    pub(crate) async fn read_json<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        let answer = self.transport.read(&Call::get(path, JSON)).await?;
        serde_json::from_slice(&answer.body).map_err(Error::bad_answer)
    }

    pub(crate) async fn write_json<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<T, WriteError> {
        let answer = self.transport.write(call).await?;
        written(&answer)
    }
}

/// It was answered as done; if what was done is not readable, nobody knows.
fn written<T: DeserializeOwned>(answer: &Answer) -> Result<T, WriteError> {
    serde_json::from_slice(&answer.body).map_err(|source| {
        let last = AttemptError::BadAnswer { source: crate::error::source(source) };
        Unknown { attempts: 1, last, write: None }.into()
    })
}

fn versioned(id: ListingId, answer: Answer) -> Result<Versioned, Error> {
    let header = |name: &'static str| {
        let text = answer.headers.get(name).and_then(|value| value.to_str().ok());
        text.ok_or_else(|| Error::bad_answer(format!("no header {name}")))
    };
    let revision = header("platbook-revision")?.parse().map(Revision).map_err(Error::bad_answer)?;
    let zip = header("platbook-zip")?.parse().map_err(Error::bad_answer)?;
    Ok(Versioned { id, zip, revision, listing: Listing::new(answer.body.clone()) })
}

pub(crate) fn listing_path(id: &ListingId) -> String {
    format!("/v1/listings/{}", escape(id.as_str()))
}

/// Whether an error says that there is no such thing.
pub(crate) fn is_not_found(error: &Error) -> bool {
    error.problem().is_some_and(|problem| problem.status == StatusCode::NOT_FOUND.as_u16())
}
