//! A ZIP, or a shard, as a stream of lines, one listing each, in the router's order, with flat
//! memory.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::config::STREAM_IDLE;
use crate::error::Error;
use crate::transport::chain;

/// Every listing of a ZIP, while it arrives.
#[derive(Debug)]
pub struct ZipListings {
    headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
    is_at_end: bool,
}

impl ZipListings {
    pub(crate) fn new(response: Response<Incoming>) -> ZipListings {
        let (parts, body) = response.into_parts();
        let buffer = BytesMut::new();
        ZipListings { headers: parts.headers, body, buffer, searched: 0, is_at_end: false }
    }

    /// Live listings of the ZIP, before filters and limit.
    pub fn count(&self) -> Option<u64> {
        self.header("platbook-count")?.parse().ok()
    }

    /// Position in the change stream of exactly this state.
    pub fn token(&self) -> Option<&str> {
        self.header("platbook-token")
    }

    /// For `If-None-Match`.
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

    /// The next listing as sent, minified; `None` at the end. An answer that breaks off is an
    /// error, never an end.
    pub async fn try_next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            self.searched = self.buffer.len();
            if self.is_at_end {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(broken("the last line has no end".to_string())),
                };
            }
            match timeout(STREAM_IDLE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(error))) => return Err(broken(chain(&error))),
                Ok(None) => self.is_at_end = true,
                Err(_) => return Err(broken(format!("nothing came for {STREAM_IDLE:?}"))),
            }
        }
    }

    /// All listings at once.
    pub async fn try_collect(mut self) -> Result<Vec<Bytes>, Error> {
        let mut listings = Vec::new();
        while let Some(listing) = self.try_next().await? {
            listings.push(listing);
        }
        Ok(listings)
    }
}

fn broken(reason: String) -> Error {
    Error::BrokenStream { reason }
}
