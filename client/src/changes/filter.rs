//! Which changes a reader wants to be told.

use platbook_protocol::{ShardId, Zip};

use crate::error::ArgumentError;

/// Which changes are told. The default is all; each call narrows it, and several ZIPs, or shards,
/// widen each other.
///
/// ```
/// use platbook_client::changes::Filter;
/// let cheap = Filter::new().zip("98103").zip("98107").max_price(400_000).status("Active");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    zips: Vec<Zip>,
    shards: Vec<ShardId>,
    min_price: Option<u64>,
    max_price: Option<u64>,
    status: Option<String>,
    op: Option<&'static str>,
    wrong: Option<ArgumentError>,
}

impl Filter {
    /// All changes.
    pub fn new() -> Filter {
        Filter::default()
    }

    /// Changes of this ZIP.
    #[must_use]
    pub fn zip<Z>(mut self, zip: Z) -> Filter
    where
        Z: TryInto<Zip, Error: Into<ArgumentError>>,
    {
        match zip.try_into() {
            Ok(zip) => self.zips.push(zip),
            Err(error) => self.wrong = Some(error.into()),
        }
        self
    }

    /// Changes of this shard.
    #[must_use]
    pub fn shard(mut self, shard: ShardId) -> Filter {
        self.shards.push(shard);
        self
    }

    /// Not below this price, in whole currency units.
    #[must_use]
    pub fn min_price(self, price: u64) -> Filter {
        Filter { min_price: Some(price), ..self }
    }

    /// Not above this price.
    #[must_use]
    pub fn max_price(self, price: u64) -> Filter {
        Filter { max_price: Some(price), ..self }
    }

    /// With exactly this status.
    #[must_use]
    pub fn status(self, status: impl Into<String>) -> Filter {
        Filter { status: Some(status.into()), ..self }
    }

    /// Only listings that came or changed, none that left.
    #[must_use]
    pub fn upserts(self) -> Filter {
        Filter { op: Some("upsert"), ..self }
    }

    /// Only listings that left a ZIP: deleted ones, and with [`What::MovedTo`] those that moved.
    ///
    /// [`What::MovedTo`]: super::What::MovedTo
    #[must_use]
    pub fn deletes(self) -> Filter {
        Filter { op: Some("delete"), ..self }
    }

    /// Whether it chooses whole ZIPs, and leaves out nothing of those.
    pub(super) fn takes_whole_zips(&self) -> bool {
        let Filter { min_price, max_price, status, op, .. } = self;
        min_price.is_none() && max_price.is_none() && status.is_none() && op.is_none()
    }

    /// Parameters of the request.
    pub(super) fn pairs(&self) -> Result<Vec<(&'static str, String)>, ArgumentError> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let zips = self.zips.iter().map(|zip| ("zip", zip.to_string()));
        let shards = self.shards.iter().map(|shard| ("shard", shard.to_string()));
        let single = [
            ("min_price", self.min_price.map(|price| price.to_string())),
            ("max_price", self.max_price.map(|price| price.to_string())),
            ("status", self.status.clone()),
            ("op", self.op.map(str::to_string)),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(zips.chain(shards).chain(single).collect())
    }
}
