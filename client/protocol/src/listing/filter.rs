//! Matching summaries: a filter is made ready once and then asked for every row.

use super::summary::{Coded, Encoded};
use crate::rpc::Filter;

/// A [`Filter`] made ready. A bound is not met by a listing without a value to compare.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    min_price: Option<u64>,
    max_price: Option<u64>,
    min_beds: Option<u16>,
    status: Option<TextTest>,
    property_type: Option<TextTest>,
}

/// Equality without case. Standard values always stand as codes, so a code is compared with codes
/// only and a text with texts only.
#[derive(Clone, Debug)]
enum TextTest {
    Code(u8),
    /// Lower case.
    Text(String),
}

impl Matcher {
    /// Makes `filter` ready.
    pub fn new(filter: &Filter) -> Matcher {
        let status = Coded::of_status(filter.status.as_deref());
        let property_type = Coded::of_property_type(filter.property_type.as_deref());
        Matcher {
            min_price: filter.min_price,
            max_price: filter.max_price,
            min_beds: filter.min_beds,
            status: TextTest::new(status),
            property_type: TextTest::new(property_type),
        }
    }

    /// Whether everything passes.
    pub fn passes_all(&self) -> bool {
        let Matcher { min_price, max_price, min_beds, status, property_type } = self;
        min_price.is_none()
            && max_price.is_none()
            && min_beds.is_none()
            && status.is_none()
            && property_type.is_none()
    }

    /// Whether the listing with this encoded summary passes. One that cannot be read has no values.
    pub fn matches(&self, summary: &[u8]) -> bool {
        if self.passes_all() {
            return true;
        }
        let Ok(summary) = Encoded::parse(summary) else { return false };
        self.min_price.is_none_or(|min| summary.price.is_some_and(|price| price >= min))
            && self.max_price.is_none_or(|max| summary.price.is_some_and(|price| price <= max))
            && self.min_beds.is_none_or(|min| summary.beds.is_some_and(|beds| beds >= min))
            && self.status.as_ref().is_none_or(|test| test.passes(summary.status))
            && self.property_type.as_ref().is_none_or(|test| test.passes(summary.property_type))
    }
}

/// Whether the listing with this encoded summary passes; for many, make a [`Matcher`] once.
pub fn matches(filter: &Filter, summary: &[u8]) -> bool {
    Matcher::new(filter).matches(summary)
}

impl TextTest {
    fn new(wanted: Coded<'_>) -> Option<TextTest> {
        match wanted {
            Coded::Absent => None,
            Coded::Code(code) => Some(TextTest::Code(code)),
            Coded::Inline(text) => Some(TextTest::Text(text.to_lowercase())),
        }
    }

    fn passes(&self, found: Coded<'_>) -> bool {
        match (self, found) {
            (TextTest::Code(wanted), Coded::Code(found)) => *wanted == found,
            (TextTest::Text(wanted), Coded::Inline(found)) if found.is_ascii() => {
                wanted.eq_ignore_ascii_case(found)
            }
            (TextTest::Text(wanted), Coded::Inline(found)) => *wanted == found.to_lowercase(),
            (TextTest::Code(_) | TextTest::Text(_), Coded::Absent)
            | (TextTest::Code(_), Coded::Inline(_))
            | (TextTest::Text(_), Coded::Code(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listing::Summary;

    #[test]
    fn a_listing_without_the_value_meets_no_bound() {
        let empty = Summary::default().encode();
        assert!(matches(&Filter::default(), &empty));
        assert!(matches(&Filter::default(), b"garbage"));
        for filter in [
            Filter { min_price: Some(0), ..Filter::default() },
            Filter { max_price: Some(u64::MAX), ..Filter::default() },
            Filter { min_beds: Some(0), ..Filter::default() },
            Filter { status: Some(String::new()), ..Filter::default() },
            Filter { property_type: Some("Land".to_string()), ..Filter::default() },
        ] {
            assert!(!matches(&filter, &empty), "{filter:?}");
            assert!(!matches(&filter, b"garbage"), "{filter:?}");
        }
    }

    #[test]
    fn texts_are_compared_whole_and_without_case() {
        let cases = [
            ("Active", "aCTIVE", true),
            ("Active", "Active Under Contract", false),
            ("ActiveUnderContract", "Active Under Contract", false),
            ("activeundercontract", "ActiveUnderContract", true),
            ("À Vendre", "à vendre", true),
            ("À Vendre", "a vendre", false),
            ("Sold!", "sold!", true),
        ];
        for (status, wanted, expected) in cases {
            let summary = Summary { status: Some(status), ..Summary::default() }.encode();
            let filter = Filter { status: Some(wanted.to_string()), ..Filter::default() };
            assert_eq!(matches(&filter, &summary), expected, "{status} {wanted}");
        }
    }

    fn text() -> impl Strategy<Value = Option<&'static str>> {
        let texts =
            [None, Some("Active"), Some("PENDING"), Some("pending"), Some("Odd"), Some("ODD")];
        proptest::sample::select(texts.to_vec())
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_reading_of_the_filter(
            price in proptest::option::of(0u64..6), beds in proptest::option::of(0u16..4),
            status in text(), wanted in text(),
            min_price in proptest::option::of(0u64..6), max_price in proptest::option::of(0u64..6),
            min_beds in proptest::option::of(0u16..4),
        ) {
            let summary = Summary { price, beds, status, ..Summary::default() }.encode();
            let filter = Filter {
                min_price, max_price, min_beds,
                status: wanted.map(str::to_string), property_type: None,
            };
            let expected = min_price.is_none_or(|m| price >= Some(m))
                && max_price.is_none_or(|m| price.is_some() && price <= Some(m))
                && min_beds.is_none_or(|m| beds >= Some(m))
                && (wanted.is_none()
                    || wanted.map(str::to_lowercase) == status.map(str::to_lowercase));
            prop_assert_eq!(matches(&filter, &summary), expected);
        }
    }
}
