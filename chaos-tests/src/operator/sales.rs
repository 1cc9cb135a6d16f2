//! The real sales that the demonstration replays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::Error;

/// One sale as recorded by the county.
#[derive(Clone, Debug)]
pub(crate) struct Sale {
    /// The county's number of the house: our listing id.
    pub(crate) id: String,
    /// `20141013T000000`: sorts by time.
    pub(crate) date: String,
    /// Dollars.
    pub(crate) price: u64,
    pub(crate) bedrooms: u64,
    /// In quarters: a toilet with a basin is a half.
    pub(crate) bathrooms: f64,
    /// Square feet.
    pub(crate) living_area: u64,
    /// Square feet.
    pub(crate) lot: u64,
    pub(crate) floors: String,
    pub(crate) waterfront: bool,
    /// 0 to 4.
    pub(crate) view: u64,
    /// 1 to 5.
    pub(crate) condition: u64,
    /// 1 to 13.
    pub(crate) grade: u64,
    /// Square feet.
    pub(crate) basement: u64,
    pub(crate) built: u64,
    /// Year, 0 where never.
    pub(crate) renovated: u64,
    pub(crate) zip: String,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// All sales in order of date, and the city of each ZIP.
#[derive(Clone, Debug)]
pub struct Sales {
    pub(crate) sales: Vec<Sale>,
    pub(crate) cities: BTreeMap<String, String>,
}

impl Sales {
    /// Reads both files of the data directory.
    pub fn read(dir: &Path) -> Result<Sales, Error> {
        let path = dir.join("king-county-sales.csv.gz");
        let unread = |source| Error::File { path: path.clone(), source };
        let file = File::open(&path).map_err(unread)?;
        let mut text = String::new();
        GzDecoder::new(BufReader::new(file)).read_to_string(&mut text).map_err(unread)?;
        let mut sales = Vec::new();
        for (at, line) in text.lines().enumerate().skip(1) {
            let what = || format!("line {} of the sales", at + 1);
            let sale = parse(line).map_err(|reason| Error::Malformed { what: what(), reason })?;
            sales.push(sale);
        }
        sales.sort_by(|a, b| (&a.date, &a.id).cmp(&(&b.date, &b.id)));

        let path = dir.join("king-county-cities.csv");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::File { path: path.clone(), source })?;
        let pairs = text.lines().skip(1).filter_map(|line| line.split_once(','));
        let cities = pairs.map(|(zip, city)| (zip.to_string(), city.to_string())).collect();
        Ok(Sales { sales, cities })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sales.len()
    }

    /// The ZIPs of the county.
    pub fn zips(&self) -> Vec<String> {
        self.cities.keys().cloned().collect()
    }
}

fn parse(line: &str) -> Result<Sale, String> {
    let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
    let field = |at: usize| fields.get(at).copied().ok_or("a field is missing");
    // Some prices are written as 1.225e+006.
    let number = |at: usize| -> Result<f64, String> {
        field(at)?.parse().map_err(|_| format!("field {} is no number", at + 1))
    };
    let whole = |at: usize| -> Result<u64, String> { Ok(number(at)? as u64) };
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
pub(crate) fn for_tests() -> Sales {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/demo/data");
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
