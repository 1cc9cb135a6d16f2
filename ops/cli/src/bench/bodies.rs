//! Listings in the shape of a real record: its field names, types and lengths, with values that
//! compress about as well as real ones. Words follow Zipf's law over a vocabulary of some hundred,
//! mixed with names and numbers; keys, phones and URLs are random.

use std::fmt::Write as _;

use anyhow::Context;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use super::drive::Listing;
use super::words::WORDS;

/// Field names, types and lengths of one real record of an MLS.
const SHAPE: &str = include_str!("shape.json");
/// ZIPs of the whole set; a third of all listings lies in a twenty-fifth of them.
const ZIPS: u32 = 2_000;
/// Prices are spread evenly over these thousands.
const PRICES: std::ops::Range<u64> = 90..2_500;
/// Terms of features, as enumerations of the RESO Data Dictionary look.
const TERMS: [&str; 24] = [
    "Ceiling Fan(s)",
    "Central Air",
    "Forced Air",
    "Double Pane Windows",
    "Walk-In Closet(s)",
    "Granite Counters",
    "Kitchen Island",
    "Fireplace(s)",
    "Composition",
    "Slab",
    "Brick Veneer",
    "Wood",
    "Covered",
    "Driveway",
    "Attached",
    "Public Sewer",
    "Electricity Available",
    "Cable Connected",
    "Level",
    "Trees-Large (Over 40 Ft)",
    "None",
    "See Remarks",
    "Sidewalks",
    "Carpet",
];

/// Makes listings from a seed.
pub(super) struct Bodies {
    shape: Map<String, Value>,
    words: Vec<&'static str>,
    random: StdRng,
    bytes: usize,
}

impl Bodies {
    /// Listings of about `bytes` each.
    pub(super) fn try_new(seed: u64, bytes: usize) -> anyhow::Result<Bodies> {
        let shape = serde_json::from_str(SHAPE).context("the shape of a listing")?;
        let words = WORDS.split(' ').collect();
        Ok(Bodies { shape, words, random: StdRng::seed_from_u64(seed), bytes })
    }

    /// The listings `first..first + count`, spread over the ZIPs with a heavy tail.
    pub(super) fn many(&mut self, first: usize, count: usize) -> Vec<Listing> {
        let one = |at| {
            let zip = zip_of_rank(f64::from(ZIPS) * self.random.random::<f64>().powi(3));
            self.one(at, &zip)
        };
        (first..first + count).map(one).collect()
    }

    /// One listing in `zip`.
    pub(super) fn one(&mut self, number: usize, zip: &str) -> Listing {
        let id = format!("ACT{number:09}");
        let mut fields = Map::new();
        fields.insert("ListingKey".into(), json!(id));
        fields.insert("PostalCode".into(), json!(zip));
        fields.insert("ModificationTimestamp".into(), json!(self.timestamp()));
        let price = self.random.random_range(PRICES) * 1_000;
        fields.insert("ListPrice".into(), json!(price));
        fields.insert("StandardStatus".into(), json!("Active"));
        // Half of the bytes are for the fields of the record, the rest for text and pictures.
        let mut left = (self.bytes / 2) as isize;
        for (name, shape) in std::mem::take(&mut self.shape) {
            if left > 0 && !fields.contains_key(&name) && !name.ends_with("Remarks") {
                let value = self.value(&name, &shape);
                left -= (name.len() + value.to_string().len() + 4) as isize;
                fields.insert(name.clone(), value);
            }
            self.shape.insert(name, shape);
        }
        let left = self.bytes.saturating_sub(Value::Object(fields.clone()).to_string().len());
        let text = self.prose(left.saturating_sub(24).min(1_200));
        let mut left = left.saturating_sub(text.len() + 24);
        fields.insert("PublicRemarks".into(), json!(text));
        let mut media = Vec::new();
        loop {
            let picture = self.picture(&id, media.len());
            let Some(rest) = left.checked_sub(picture.to_string().len() + 1) else { break };
            left = rest;
            media.push(picture);
        }
        fields.insert("Media".into(), json!(media));
        let body = Bytes::from(Value::Object(fields).to_string());
        Listing { id, zip: zip.to_string(), price, body }
    }

    fn value(&mut self, name: &str, shape: &Value) -> Value {
        match shape["type"].as_str() {
            Some("number") => match name {
                "Latitude" | "Longitude" => {
                    json!(self.random.random_range(300_000..480_000) as f64 / 1e4)
                }
                _ if name.contains("Total") || name.contains("Bath") => {
                    json!(self.random.random_range(0..6))
                }
                _ => json!(self.random.random_range(0..9_000)),
            },
            Some("boolean") => json!(self.random.random::<bool>()),
            Some("array") => {
                let items = shape["items"].as_u64().unwrap_or(1);
                json!((0..items).map(|_| self.term()).collect::<Vec<_>>())
            }
            _ => json!(self.text(name, shape["length"].as_u64().unwrap_or(8) as usize)),
        }
    }

    fn text(&mut self, name: &str, length: usize) -> String {
        let is = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if is(&["Timestamp"]) {
            return self.timestamp();
        }
        if is(&["Date"]) {
            return self.timestamp()[..10].to_string();
        }
        if name.contains("URL") {
            return format!("https://tours.example.com/{}", self.hex(length.saturating_sub(26)));
        }
        if is(&["Key", "Id", "Number", "Phone", "Taxes"]) {
            return (0..length)
                .map(|_| char::from(self.random.random_range(b'0'..=b'9')))
                .collect();
        }
        if length > 40 {
            return self.prose(length);
        }
        match length {
            0..=2 => ["Y", "N", "2"][self.random.random_range(0..3)].to_string(),
            3..=8 => self.term().split(' ').next().unwrap_or_default().to_string(),
            _ => format!("{} {}", self.name(), self.name()),
        }
    }

    fn term(&mut self) -> &'static str {
        TERMS[self.random.random_range(0..TERMS.len())]
    }

    fn timestamp(&mut self) -> String {
        let mut part = |range: std::ops::Range<u32>| self.random.random_range(range);
        let (day, hour, minute) = (part(1..29), part(0..24), part(0..60));
        format!("2026-11-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", part(0..60), part(0..1000))
    }

    fn hex(&mut self, length: usize) -> String {
        let digit = |_| char::from(b"0123456789abcdef"[self.random.random_range(0..16)]);
        (0..length).map(digit).collect()
    }

    /// A proper name that is in no vocabulary.
    fn name(&mut self) -> String {
        const ONSETS: [&str; 12] = ["B", "Cr", "D", "F", "Gr", "H", "K", "L", "M", "Pr", "St", "W"];
        const RHYMES: [&str; 12] =
            ["al", "arn", "ed", "ell", "im", "ing", "ol", "or", "um", "ath", "ey", "ow"];
        let mut name = ONSETS[self.random.random_range(0..12)].to_string();
        for _ in 0..self.random.random_range(1..=3) {
            name.push_str(RHYMES[self.random.random_range(0..12)]);
        }
        name
    }

    /// Sentences of about `length` bytes.
    fn prose(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length + 16);
        let mut in_sentence = 0;
        while text.len() < length {
            match self.random.random_range(0..100) {
                0..84 => {
                    // By Zipf's law the logarithm of the rank is about uniform.
                    let rank = (self.words.len() as f64).powf(self.random.random::<f64>()) as usize;
                    text.push_str(self.words[rank.saturating_sub(1)]);
                }
                84..92 => text.push_str(&self.name()),
                // Writing to a string cannot fail.
                _ => drop(write!(text, "{}", self.random.random_range(1..4_000))),
            }
            in_sentence += 1;
            match in_sentence > self.random.random_range(6..18) {
                true => {
                    text.push_str(". ");
                    in_sentence = 0;
                }
                false => text.push(' '),
            }
        }
        text
    }

    fn picture(&mut self, id: &str, order: usize) -> Value {
        let url = format!("https://media.example.com/{id}/{}.jpg", self.hex(64));
        json!({"Order": order, "MediaCategory": "Photo", "MediaURL": url})
    }
}

/// The price that one listing in a hundred reaches.
pub(super) fn dear() -> u64 {
    (PRICES.end - (PRICES.end - PRICES.start) / 100) * 1_000
}

/// Five digits; the same for the same rank.
fn zip_of_rank(rank: f64) -> String {
    // The multiplier shares no factor with the range, so that ranks do not collide.
    format!("{:05}", 10_000 + (rank as u64 * 7_919) % 89_999)
}

/// How many times smaller zstd makes all of these together (level 1, no dictionary, one by one).
pub(super) fn compression(listings: &[Listing]) -> anyhow::Result<f64> {
    let mut packer = zstd::bulk::Compressor::new(1).context("starting zstd")?;
    let (mut before, mut after) = (0, 0);
    for listing in listings {
        before += listing.body.len();
        after += packer.compress(&listing.body).context("compressing a listing")?.len();
    }
    Ok(before as f64 / after.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_have_the_size_that_was_asked_for_and_compress_like_text() {
        for bytes in [3_500, 14_000] {
            let listings = Bodies::try_new(1, bytes).unwrap().many(0, 200);
            let mean = listings.iter().map(|listing| listing.body.len()).sum::<usize>() / 200;
            assert!((bytes * 9 / 10..bytes * 11 / 10).contains(&mean), "{mean} bytes");
            let ratio = compression(&listings).unwrap();
            assert!((1.6..3.2).contains(&ratio), "{bytes} bytes compress {ratio} times");
        }
    }

    #[test]
    fn the_seed_decides_and_the_tail_is_heavy() {
        let ids = |seed| Bodies::try_new(seed, 900).unwrap().many(0, 500);
        let bodies = |seed| ids(seed).into_iter().map(|l| l.body).collect::<Vec<_>>();
        assert_eq!(bodies(7), bodies(7));
        assert_ne!(bodies(7), bodies(8));
        let zips: std::collections::BTreeSet<String> =
            (0..ZIPS).map(|rank| zip_of_rank(f64::from(rank))).collect();
        assert_eq!(zips.len(), ZIPS as usize);
    }
}
