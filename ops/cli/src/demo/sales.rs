//! The real sales that the demonstration replays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::GzDecoder;

/// One sale as recorded by the county.
#[derive(Clone, Debug)]
pub(super) struct Sale {
    /// The county's number of the house: our listing id.
    pub(super) id: String,
    /// `20141013T000000`: sorts by time.
    pub(super) date: String,
    /// Dollars.
    pub(super) price: u64,
    pub(super) bedrooms: u64,
    /// In quarters: a toilet with a basin is a half.
    pub(super) bathrooms: f64,
    /// Square feet.
    pub(super) living_area: u64,
    /// Square feet.
    pub(super) lot: u64,
    pub(super) floors: String,
    pub(super) waterfront: bool,
    /// 0 to 4.
    pub(super) view: u64,
    /// 1 to 5.
    pub(super) condition: u64,
    /// 1 to 13.
    pub(super) grade: u64,
    /// Square feet.
    pub(super) basement: u64,
    pub(super) built: u64,
    /// Year, 0 where never.
    pub(super) renovated: u64,
    pub(super) zip: String,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

/// All sales in order of date, and the city of each ZIP.
pub(super) struct Sales {
    pub(super) sales: Vec<Sale>,
    pub(super) cities: BTreeMap<String, String>,
}

impl Sales {
    /// Reads both files of the data directory.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Sales> {
        let path = dir.join("king-county-sales.csv.gz");
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let mut text = String::new();
        GzDecoder::new(BufReader::new(file))
            .read_to_string(&mut text)
            .with_context(|| format!("reading {}", path.display()))?;
        let mut sales = Vec::new();
        for (at, line) in text.lines().enumerate().skip(1) {
            let sale = parse(line).with_context(|| format!("line {} of the sales", at + 1))?;
            sales.push(sale);
        }
        sales.sort_by(|a, b| (&a.date, &a.id).cmp(&(&b.date, &b.id)));

        let path = dir.join("king-county-cities.csv");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let pairs = text.lines().skip(1).filter_map(|line| line.split_once(','));
        let cities = pairs.map(|(zip, city)| (zip.to_string(), city.to_string())).collect();
        Ok(Sales { sales, cities })
    }
}

fn parse(line: &str) -> anyhow::Result<Sale> {
    let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
    let field = |at: usize| fields.get(at).copied().context("a field is missing");
    // Some prices are written as 1.225e+006.
    let number = |at: usize| -> anyhow::Result<f64> {
        field(at)?.parse().with_context(|| format!("field {} is no number", at + 1))
    };
    let whole = |at: usize| -> anyhow::Result<u64> { Ok(number(at)? as u64) };
    Ok(Sale {
        id: field(0)?.to_string(),
        date: field(1)?.to_string(),
        price: whole(2)?,
        bedrooms: whole(3)?,
        bathrooms: number(4)?,
        living_area: whole(5)?,
        lot: whole(6)?,
        floors: field(7)?.to_string(),
        waterfront: whole(8)? == 1,
        view: whole(9)?,
        condition: whole(10)?,
        grade: whole(11)?,
        basement: whole(13)?,
        built: whole(14)?,
        renovated: whole(15)?,
        zip: field(16)?.to_string(),
        latitude: number(17)?,
        longitude: number(18)?,
    })
}

#[cfg(test)]
pub(super) fn for_tests() -> Sales {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/data");
    Sales::read(&dir).expect("the data is part of the repository")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_data_has_the_size_that_its_source_states() {
        let Sales { sales, cities } = for_tests();
        let ids: BTreeSet<&str> = sales.iter().map(|sale| sale.id.as_str()).collect();
        let zips: BTreeSet<&str> = sales.iter().map(|sale| sale.zip.as_str()).collect();
        assert_eq!((sales.len(), ids.len(), zips.len()), (21_613, 21_436, 70));
        assert!(zips.iter().all(|zip| cities.contains_key(*zip)));
        let first = sales.iter().find(|sale| sale.id == "7129300520").expect("the first line");
        assert_eq!((first.price, first.zip.as_str(), first.bedrooms), (221_900, "98178", 3));
        assert!(sales.iter().all(|sale| sale.price > 10_000), "1.225e+006 is read as a number");
    }
}
