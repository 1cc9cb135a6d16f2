//! Compares what a router answers with what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::oracle::{self, Expected};
use crate::{Error, http};

/// Where listings without a ZIP stand.
const UNKNOWN: &str = "unknown";

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// ZIPs, also those where nothing was expected; `unknown` is compared, but none.
    pub zips: usize,
    /// Listings, byte for byte.
    pub listings: usize,
    /// Messages in quarantine.
    pub quarantined: usize,
}

/// What the messages in the queue's journal make.
pub fn expected(journal: &Path) -> Result<Expected, Error> {
    let file = |source| Error::File { path: journal.to_owned(), source };
    oracle::expected(&std::fs::read_to_string(journal).map_err(file)?)
}

/// Compares `zips`, every other ZIP in which something is expected, and the quarantine.
pub async fn compare(
    router: &str,
    zips: &[String],
    expected: &Expected,
) -> Result<Compared, Error> {
    let nothing = BTreeMap::new();
    let mut all: BTreeSet<&str> = zips.iter().map(String::as_str).collect();
    all.extend(expected.zips.keys().map(String::as_str));
    for zip in &all {
        let wanted = expected.zips.get(*zip).unwrap_or(&nothing);
        compare_zip(router, zip, wanted).await?;
    }
    let quarantined = compare_quarantine(router, expected).await?;
    let listings = expected.zips.values().map(BTreeMap::len).sum();
    let zips = all.iter().filter(|zip| **zip != UNKNOWN).count();
    Ok(Compared { zips, listings, quarantined })
}

async fn compare_zip(
    router: &str,
    zip: &str,
    wanted: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let path = format!("/v1/zips/{zip}/listings");
    let answer = http::get(router, &path, &[("accept", "application/x-ndjson")]).await?;
    if answer.status != 200 {
        let what = format!("ZIP {zip}: {} {}", answer.status, answer.text());
        return Err(Error::Violated { what });
    }
    oracle::compare(zip, wanted, &answer.text())?;
    let count = answer.headers.get("platbook-count").and_then(|count| count.to_str().ok());
    if count != Some(&wanted.len().to_string()) {
        let (count, wanted) = (count.unwrap_or("missing"), wanted.len());
        let what = format!("ZIP {zip}: Platbook-Count is {count}, there are {wanted} listings");
        return Err(Error::Violated { what });
    }
    Ok(())
}

/// Every message that nobody can apply is kept, and nothing else is.
async fn compare_quarantine(router: &str, expected: &Expected) -> Result<usize, Error> {
    let answer = http::get(router, "/v1/quarantine?limit=1000", &[]).await?;
    let found: Vec<Value> = match answer.status {
        200 => serde_json::from_slice(&answer.body).unwrap_or_default(),
        _ => Vec::new(),
    };
    let ids: BTreeSet<&str> = found.iter().filter_map(|m| m["message_id"].as_str()).collect();
    let wanted: BTreeSet<&str> = expected.quarantined.iter().map(String::as_str).collect();
    if ids != wanted {
        let (status, found) = (answer.status, answer.text());
        let what = format!("quarantine: expected {wanted:?}, the answer is {status} {found}");
        return Err(Error::Violated { what });
    }
    Ok(ids.len())
}
