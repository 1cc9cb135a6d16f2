//! A listing as it is read.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use platbook_protocol::{ListingId, Revision, Zip};
use serde::de::DeserializeOwned;

/// A listing: the JSON as the operator sent it, minified. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing {
    body: Bytes,
}

impl Listing {
    pub(crate) fn new(body: Bytes) -> Listing {
        Listing { body }
    }

    /// The JSON.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The JSON, taken out.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// Reads it as a type of the caller's; fields that the type does not name are skipped.
    ///
    /// ```
    /// # fn f(listing: platbook_client::Listing) -> Result<(), serde_json::Error> {
    /// #[derive(serde::Deserialize)]
    /// #[serde(rename_all = "PascalCase")]
    /// struct Card {
    ///     listing_key: String,
    ///     list_price: Option<f64>,
    /// }
    /// let card: Card = listing.json()?;
    /// # Ok(()) }
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

impl AsRef<[u8]> for Listing {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a body.
        f.debug_struct("Listing").field("bytes", &self.body.len()).finish()
    }
}

/// A listing that was read by its id, with what a conditional write needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned {
    /// Its id.
    pub id: ListingId,
    /// The ZIP under which it is stored.
    pub zip: Zip,
    /// Its revision, for [`crate::Write::if_match`].
    pub revision: Revision,
    /// The listing.
    pub listing: Listing,
}

impl Deref for Versioned {
    type Target = Listing;

    fn deref(&self) -> &Listing {
        &self.listing
    }
}
