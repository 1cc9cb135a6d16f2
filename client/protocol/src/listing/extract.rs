//! Where the fields stand that Platbook itself needs, and what is made of their values.

use std::borrow::Cow;

use super::ListingError;
use super::plan::Plan;
use super::scan::{Found, Value};
use super::summary::Summary;
use super::time::{parse_epoch_ms, parse_time};
use crate::{ListingId, TimeMs, Zip};

/// Most characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 64;

/// JSON pointers (RFC 6901) of the fields in a listing; the defaults are RESO names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FieldMap {
    /// The operator's listing key, a string.
    pub id: String,
    /// The postal code, a string; null, absent, garbage or a number (which cannot say 02134) make
    /// the ZIP `unknown`.
    pub zip: String,
    /// When the operator last changed it, RFC 3339 or epoch milliseconds; else `sent` counts.
    pub modified: String,
}

impl Default for FieldMap {
    fn default() -> FieldMap {
        FieldMap {
            id: "/ListingKey".to_string(),
            zip: "/PostalCode".to_string(),
            modified: "/ModificationTimestamp".to_string(),
        }
    }
}

/// A field of the configuration that is no JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} is {pointer:?}, which is not a JSON pointer to a member (\"/Name\")")]
pub struct FieldMapError {
    /// Which of [`FieldMap`]'s fields.
    pub field: &'static str,
    /// Its value.
    pub pointer: String,
}

/// A field that is extracted. The number is its slot in a plan, from a base.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Id,
    Zip,
    Modified,
    ListPrice,
    StandardStatus,
    MlsStatus,
    PropertyType,
    BedroomsTotal,
    BathroomsTotalInteger,
    BathroomsTotalDecimal,
    LivingArea,
    Latitude,
    Longitude,
}

/// Slots that the fields of one listing take.
pub(super) const FIELD_SLOTS: usize = Field::Longitude as usize + 1;

const SUMMARY_FIELDS: [(Field, &str); 10] = [
    (Field::ListPrice, "ListPrice"),
    (Field::StandardStatus, "StandardStatus"),
    (Field::MlsStatus, "MlsStatus"),
    (Field::PropertyType, "PropertyType"),
    (Field::BedroomsTotal, "BedroomsTotal"),
    (Field::BathroomsTotalInteger, "BathroomsTotalInteger"),
    (Field::BathroomsTotalDecimal, "BathroomsTotalDecimal"),
    (Field::LivingArea, "LivingArea"),
    (Field::Latitude, "Latitude"),
    (Field::Longitude, "Longitude"),
];

impl FieldMap {
    /// Adds all fields of a listing that stands at `prefix`, with slots from `base`.
    pub(super) fn add_to(
        &self,
        plan: &mut Plan,
        prefix: Option<&str>,
        base: usize,
    ) -> Result<(), FieldMapError> {
        let pointers = [
            (Field::Id, "id", &self.id),
            (Field::Zip, "zip", &self.zip),
            (Field::Modified, "modified", &self.modified),
        ];
        for (field, name, pointer) in pointers {
            let tokens = pointer_tokens(pointer)
                .ok_or_else(|| FieldMapError { field: name, pointer: pointer.clone() })?;
            let path = prefix.into_iter().chain(tokens.iter().map(|token| &**token));
            plan.add(path, base + field as usize);
        }
        for (field, name) in SUMMARY_FIELDS {
            plan.add(prefix.into_iter().chain([name]), base + field as usize);
        }
        Ok(())
    }

    /// Whether the id is a member of the listing itself.
    pub(super) fn id_is_direct(&self) -> bool {
        self.id.matches('/').count() == 1
    }
}

/// The member names and indexes of a JSON pointer; `None` where it is none, or the whole document.
fn pointer_tokens(pointer: &str) -> Option<Vec<Cow<'_, str>>> {
    let token = |text| {
        let mut tildes = str::match_indices(text, '~').map(|(at, _)| text.as_bytes().get(at + 1));
        let well_formed = tildes.all(|next| matches!(next, Some(b'0' | b'1')));
        well_formed.then(|| match text.contains('~') {
            true => Cow::Owned(text.replace("~1", "/").replace("~0", "~")),
            false => Cow::Borrowed(text),
        })
    };
    pointer.strip_prefix('/')?.split('/').map(token).collect()
}

/// The fields of one listing as they were found.
pub(super) struct Fields<'f, 'a> {
    pub(super) found: &'f Found<'a>,
    pub(super) base: usize,
}

impl<'a> Fields<'_, 'a> {
    pub(super) fn get(&self, field: Field) -> Option<Value<'a>> {
        self.found.get(self.base + field as usize)
    }

    /// The postal code as a ZIP.
    pub(super) fn zip(&self) -> Zip {
        Zip::normalise(self.get(Field::Zip).and_then(|value| value.text()).as_deref())
    }

    /// The time of the last change; `None` where it is unusable.
    pub(super) fn modified(&self) -> Option<TimeMs> {
        let value = self.get(Field::Modified)?;
        match value.text() {
            Some(text) => parse_time(&text),
            None if value.is_number() => parse_epoch_ms(value.raw),
            None => None,
        }
    }

    /// The bytes of the time of the last change as sent; empty where the field is absent.
    pub(super) fn raw_modified(&self) -> &'a [u8] {
        self.get(Field::Modified).map_or(&[], |value| value.raw.as_bytes())
    }

    /// The encoded summary.
    pub(super) fn summary(&self) -> Vec<u8> {
        let text = |field| {
            let text = self.get(field).and_then(|value| value.text());
            text.filter(|text| !text.is_empty())
        };
        let status = text(Field::StandardStatus).or_else(|| text(Field::MlsStatus));
        let property_type = text(Field::PropertyType);
        let number = |field| self.get(field).and_then(number_of);
        let baths =
            number(Field::BathroomsTotalInteger).or_else(|| number(Field::BathroomsTotalDecimal));
        let degrees = |field, limit: f64| {
            number(field).filter(|degrees| degrees.abs() <= limit).map(|d| (d * 1e7).round() as i32)
        };
        Summary {
            price: number(Field::ListPrice).filter(|n| (0.0..1e18).contains(n)).map(|n| n as u64),
            status: status.as_deref(),
            property_type: property_type.as_deref(),
            beds: number(Field::BedroomsTotal).and_then(small),
            baths_hundredths: baths.map(|n| (n * 100.0).round()).and_then(small),
            area: number(Field::LivingArea)
                .map(f64::round)
                .filter(|n| (0.0..4e9).contains(n))
                .map(|n| n as u32),
            latitude_e7: degrees(Field::Latitude, 90.0),
            longitude_e7: degrees(Field::Longitude, 180.0),
        }
        .encode()
    }
}

fn small(number: f64) -> Option<u16> {
    (0.0..65_536.0).contains(&number).then_some(number as u16)
}

/// A number, also where it was sent as text.
fn number_of(value: Value<'_>) -> Option<f64> {
    let number: f64 = match value.text() {
        Some(text) => text.trim().parse().ok()?,
        None if value.is_number() => value.raw.parse().ok()?,
        None => return None,
    };
    number.is_finite().then_some(number)
}

/// Takes `value` as the listing id that stands at the pointer `field`.
pub(super) fn id_of(value: Option<Value<'_>>, field: &str) -> Result<ListingId, ListingError> {
    let no_id = || ListingError::NoId { field: field.to_string() };
    let value = value.filter(|value| !value.is_null()).ok_or_else(no_id)?;
    let text = value.text().ok_or_else(|| bad_field(field, value, "a string"))?;
    ListingId::try_new(&text)
        .map_err(|source| ListingError::BadId { field: field.to_string(), source })
}

pub(super) fn bad_field(field: &str, value: Value<'_>, expected: &'static str) -> ListingError {
    ListingError::BadField { field: field.to_string(), found: shown(value.raw), expected }
}

/// `text`, cut after some characters.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::scan::scan;

    fn with_fields<T>(json: &str, read: impl FnOnce(Fields<'_, '_>) -> T) -> T {
        let mut plan = Plan::empty();
        FieldMap::default().add_to(&mut plan, None, 0).unwrap();
        let scanned = scan(json.as_bytes(), &plan).unwrap();
        read(Fields { found: &scanned.found, base: 0 })
    }

    #[test]
    fn only_text_is_a_postal_code() {
        let cases = [
            (r#""94110""#, "94110"),
            (r#""94110-1234""#, "94110"),
            (r#""\u00394110""#, "94110"),
            ("94110", "unknown"),
            ("null", "unknown"),
            (r#""""#, "unknown"),
            (r#"["94110"]"#, "unknown"),
        ];
        for (value, expected) in cases {
            let zip = with_fields(&format!("{{\"PostalCode\":{value}}}"), |fields| fields.zip());
            assert_eq!(zip.as_str(), expected, "{value}");
        }
        assert_eq!(with_fields("{}", |fields| fields.zip()), Zip::Unknown);
    }

    #[test]
    fn modified_is_a_time_or_nothing() {
        let cases = [
            (r#""2024-05-06T07:08:09.123Z""#, Some(1_714_979_289_123)),
            (r#""2024-05-06T07:08:09.123""#, Some(1_714_979_289_123)),
            ("1714979289123", Some(1_714_979_289_123)),
            (r#""1714979289123""#, None),
            ("null", None),
            ("true", None),
            ("-5", None),
        ];
        for (value, expected) in cases {
            let json = format!("{{\"ModificationTimestamp\":{value}}}");
            let found = with_fields(&json, |fields| fields.modified());
            assert_eq!(found, expected.map(TimeMs), "{value}");
            assert_eq!(with_fields(&json, |f| f.raw_modified().to_vec()), value.as_bytes());
        }
        assert_eq!(with_fields("{}", |fields| fields.modified()), None);
    }

    #[test]
    fn a_summary_takes_what_is_usable() {
        let json = r#"{"ListPrice":450000.99,"StandardStatus":null,"MlsStatus":"active",
            "PropertyType":"Residential","BedroomsTotal":"3","BathroomsTotalDecimal":2.5,
            "LivingArea":1999.6,"Latitude":47.5112,"Longitude":-122.257}"#;
        let bytes = with_fields(json, |fields| fields.summary());
        let expected = Summary {
            price: Some(450_000),
            status: Some("Active"),
            property_type: Some("Residential"),
            beds: Some(3),
            baths_hundredths: Some(250),
            area: Some(2_000),
            latitude_e7: Some(475_112_000),
            longitude_e7: Some(-1_222_570_000),
        };
        assert_eq!(Summary::decode(&bytes), Ok(expected));
        let garbage = r#"{"ListPrice":-1,"StandardStatus":7,"PropertyType":"","BedroomsTotal":1e9,
            "BathroomsTotalInteger":"inf","LivingArea":"NaN","Latitude":91,"Longitude":{}}"#;
        let bytes = with_fields(garbage, |fields| fields.summary());
        assert_eq!(Summary::decode(&bytes), Ok(Summary::default()));
        let both = r#"{"BathroomsTotalInteger":3,"BathroomsTotalDecimal":2.5,"MlsStatus":"Odd",
            "StandardStatus":"Closed"}"#;
        let bytes = with_fields(both, |fields| fields.summary());
        let expected =
            Summary { baths_hundredths: Some(300), status: Some("Closed"), ..Summary::default() };
        assert_eq!(Summary::decode(&bytes), Ok(expected));
    }

    #[test]
    fn what_is_no_pointer_is_refused_by_name() {
        for pointer in ["", "ListingKey", "/a~2", "/a~"] {
            let map = FieldMap { zip: pointer.to_string(), ..FieldMap::default() };
            let found = map.add_to(&mut Plan::empty(), None, 0);
            let expected = FieldMapError { field: "zip", pointer: pointer.to_string() };
            assert_eq!(found, Err(expected));
        }
        assert_eq!(
            pointer_tokens("/a~1b~01/0//"),
            Some(vec!["a/b~1", "0", "", ""].into_iter().map(Cow::from).collect())
        );
    }
}
