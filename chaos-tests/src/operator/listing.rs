//! A listing in the shape of the RESO Data Dictionary, 3 to 4 KB, from one sale and a seed.

use serde_json::{Map, Value, json};

use super::calendar;
use super::chance::Chance;
use super::plan::Place;
use super::sales::Sale;

/// What a listing is made from.
pub(crate) struct Facts<'a> {
    pub(crate) sale: &'a Sale,
    pub(crate) city: &'a str,
    pub(crate) place: &'a Place,
    pub(crate) price: u64,
    pub(crate) edition: u32,
    /// The operator's clock, milliseconds since 1970.
    pub(crate) modified: u64,
    pub(crate) seed: u64,
}

/// The listing as the operator sends it.
pub(crate) fn listing(facts: &Facts<'_>) -> Value {
    // The house keeps its agent and its roof from one edition to the next; the words change.
    let mut house = Chance::new(facts.seed, &facts.sale.id);
    let mut words = Chance::new(facts.seed, &format!("{}/{}", facts.sale.id, facts.edition));
    let mut fields = Map::new();
    let parts = [
        identity(facts),
        address(facts, &mut house),
        structure(facts.sale, &mut house),
        features(facts.sale, &mut house),
        agent(&mut house),
        money(facts, &mut house),
        remarks(facts, &mut words),
    ];
    for part in parts {
        let Value::Object(part) = part else { unreachable!("every part is an object") };
        fields.extend(part);
    }
    Value::Object(fields)
}

fn identity(facts: &Facts<'_>) -> Value {
    let modified = calendar::timestamp(facts.modified);
    let day = calendar::date(facts.modified);
    json!({
        "ListingKey": facts.sale.id,
        "ListingId": format!("KC{}", &facts.sale.id[facts.sale.id.len() - 8..]),
        "ModificationTimestamp": modified,
        "MajorChangeTimestamp": modified,
        "MajorChangeType": if facts.edition == 0 { "New Listing" } else { "Price Change" },
        "PhotosChangeTimestamp": modified,
        "OriginatingSystemName": "kingcounty",
        "ListingContractDate": day,
        "StandardStatus": if facts.edition % 5 == 4 { "Pending" } else { "Active" },
        "MlsStatus": "Active",
        "MlgCanView": true,
        "InternetEntireListingDisplayYN": true,
        "InternetAddressDisplayYN": true,
        "InternetAutomatedValuationDisplayYN": false,
        "SourceSystemKey": format!("sale-{}", facts.sale.date),
    })
}

fn address(facts: &Facts<'_>, chance: &mut Chance) -> Value {
    let sale = facts.sale;
    let number = 100 + chance.below(29_900);
    let street = chance.pick(&STREETS);
    let suffix = chance.pick(&["Ave", "St", "Pl", "Way", "Ct", "Dr"]);
    let direction = chance.pick(&["N", "NE", "NW", "S", "SE", "SW", "E", "W"]);
    let postal_code = match facts.place {
        Place::True => json!(sale.zip),
        Place::PlusFour => json!(format!("{}-{:04}", sale.zip, 1000 + chance.below(9000))),
        Place::Mistyped(zip) => json!(zip),
        Place::Missing => Value::Null,
    };
    json!({
        "PostalCode": postal_code,
        "City": facts.city,
        "StateOrProvince": "WA",
        "CountyOrParish": "King",
        "Country": "US",
        "StreetNumber": number.to_string(),
        "StreetNumberNumeric": number,
        "StreetName": street,
        "StreetSuffix": suffix,
        "StreetDirSuffix": direction,
        "UnparsedAddress": format!("{number} {street} {suffix} {direction}"),
        "Latitude": sale.latitude,
        "Longitude": sale.longitude,
        "SubdivisionName": format!("{} {}", chance.pick(&STREETS), chance.pick(&GROUNDS)),
        "ParcelNumber": sale.id,
        "MLSAreaMajor": (100 + chance.below(600)).to_string(),
        "ElementarySchool": format!("{} Elementary", chance.pick(&STREETS)),
        "HighSchool": format!("{} High", chance.pick(&STREETS)),
    })
}

fn structure(sale: &Sale, chance: &mut Chance) -> Value {
    let halves = (sale.bathrooms.fract() * 4.0) as u64;
    json!({
        "PropertyType": "Residential",
        "PropertySubType": if sale.grade >= 10 { "Single Family Residence" } else { "House" },
        "BedroomsTotal": sale.bedrooms,
        "MainLevelBedrooms": sale.bedrooms.min(1 + chance.below(3)),
        "BathroomsTotalInteger": sale.bathrooms.ceil() as u64,
        "BathroomsFull": sale.bathrooms as u64,
        "BathroomsHalf": u64::from(halves == 2),
        "LivingArea": sale.living_area,
        "LivingAreaSource": "Public Records",
        "BelowGradeFinishedArea": sale.basement,
        "LotSizeSquareFeet": sale.lot,
        "LotSizeAcres": (sale.lot as f64 / 43_560.0 * 1000.0).round() / 1000.0,
        "Levels": [format!("{} Story", sale.floors)],
        "YearBuilt": sale.built,
        "YearBuiltEffective": sale.renovated.max(sale.built),
        "YearBuiltSource": "Public Records",
        "GarageSpaces": chance.below(4),
        "NewConstructionYN": sale.built >= 2014,
        "PropertyCondition": [CONDITIONS[(sale.condition.clamp(1, 5) - 1) as usize]],
        "FoundationDetails": [chance.pick(&["Poured Concrete", "Block", "Slab"])],
        "ConstructionMaterials": [chance.pick(&["Wood Siding", "Brick", "Cement Planked"])],
        "Roof": [chance.pick(&["Composition", "Metal", "Cedar Shake", "Tile"])],
    })
}

fn features(sale: &Sale, chance: &mut Chance) -> Value {
    let mut some = |from: &[&'static str], most: u64| -> Vec<&'static str> {
        let mut picked: Vec<&str> = (0..=chance.below(most)).map(|_| chance.pick(from)).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    };
    json!({
        "WaterfrontYN": sale.waterfront,
        "WaterfrontFeatures": if sale.waterfront { vec!["Bank-Low"] } else { Vec::new() },
        "View": if sale.view > 0 { some(&VIEWS, 3) } else { Vec::new() },
        "Appliances": some(&["Dishwasher", "Disposal", "Microwave", "Range", "Refrigerator"], 5),
        "InteriorFeatures": some(&INTERIOR, 8),
        "ExteriorFeatures": some(&["Deck", "Patio", "Fenced-Fully", "Outbuildings"], 3),
        "Flooring": some(&["Hardwood", "Carpet", "Ceramic Tile", "Vinyl", "Laminate"], 3),
        "Heating": some(&["Forced Air", "Heat Pump", "Baseboard", "Radiant"], 2),
        "Cooling": some(&["None", "Central A/C", "Heat Pump"], 1),
        "ParkingFeatures": some(&["Attached Garage", "Detached Garage", "Driveway", "Street"], 2),
        "Sewer": some(&["Sewer Connected", "Septic"], 1),
        "WaterSource": ["Public"],
        "Utilities": some(&["Electricity", "Natural Gas", "Cable", "Fiber"], 4),
        "CommunityFeatures": some(&["Park", "Trails", "Playground", "Club House"], 2),
    })
}

fn agent(chance: &mut Chance) -> Value {
    let (first, last) = (chance.pick(&FIRST_NAMES), chance.pick(&LAST_NAMES));
    let office = chance.pick(&STREETS);
    // 555-0100 to 555-0199 is reserved for fiction.
    let phone = |chance: &mut Chance| format!("206-555-01{:02}", chance.below(100));
    json!({
        "ListAgentFullName": format!("{first} {last}"),
        "ListAgentKey": format!("A{:07}", chance.below(10_000_000)),
        "ListAgentDirectPhone": phone(chance),
        "ListAgentEmail": format!("{first}.{last}@example.com").to_lowercase(),
        "ListOfficeName": format!("{office} Realty"),
        "ListOfficeKey": format!("O{:06}", chance.below(1_000_000)),
        "ListOfficePhone": phone(chance),
        "ListAOR": "King County Example Association",
    })
}

fn money(facts: &Facts<'_>, chance: &mut Chance) -> Value {
    let original = facts.sale.price;
    json!({
        "ListPrice": facts.price,
        "OriginalListPrice": original,
        "PreviousListPrice": if facts.price == original { Value::Null } else { json!(original) },
        "TaxYear": 2014,
        "TaxAssessedValue": original / 100 * (70 + chance.below(25)),
        "AssociationYN": chance.happens(300),
        "BuyerAgencyCompensation": "2.5",
        "BuyerAgencyCompensationType": "%",
        "SpecialListingConditions": ["None"],
    })
}

fn remarks(facts: &Facts<'_>, chance: &mut Chance) -> Value {
    let sale = facts.sale;
    let mut text = format!(
        "Welcome to this {} bedroom, {} bath home of {} square feet in {}, built in {}.",
        sale.bedrooms, sale.bathrooms, sale.living_area, facts.city, sale.built
    );
    let length = 500 + chance.below(500) as usize;
    while text.len() < length {
        text.push(' ');
        text.push_str(chance.pick(&SENTENCES));
    }
    let photos: Vec<Value> = (1..=3 + chance.below(4))
        .map(|order| {
            json!({
                "Order": order,
                "MediaCategory": "Photo",
                "MediaURL": format!(
                    "https://media.example.com/kingcounty/{}/{:016x}-{order}.jpg",
                    sale.id,
                    chance.below(u64::MAX)
                ),
            })
        })
        .collect();
    json!({
        "PublicRemarks": text,
        "Directions": format!("From {} follow the signs.", chance.pick(&STREETS)),
        "PhotosCount": photos.len(),
        "Media": photos,
    })
}

const VIEWS: [&str; 4] = ["Lake", "Mountain", "Sound", "City"];
const CONDITIONS: [&str; 5] = ["Fixer", "Fair", "Average", "Good", "Very Good"];
const GROUNDS: [&str; 5] = ["Heights", "Park", "Ridge", "Meadows", "Landing"];
const STREETS: [&str; 12] = [
    "Alder",
    "Bellflower",
    "Cascade",
    "Denny",
    "Evergreen",
    "Fremont",
    "Greenlake",
    "Hemlock",
    "Juniper",
    "Madrona",
    "Rainier",
    "Sunset",
];
const FIRST_NAMES: [&str; 8] =
    ["Ada", "Ben", "Chiyo", "Dolores", "Eero", "Fatima", "Grace", "Hugo"];
const LAST_NAMES: [&str; 8] =
    ["Ashby", "Boone", "Castillo", "Duvall", "Eklund", "Fujita", "Garcia", "Hansen"];
const INTERIOR: [&str; 8] = [
    "Bath Off Primary",
    "Ceiling Fan(s)",
    "Double Pane Windows",
    "Dining Room",
    "Fireplace",
    "Loft",
    "Vaulted Ceiling(s)",
    "Walk-In Closet(s)",
];
const SENTENCES: [&str; 12] = [
    "Light pours in through tall windows all day.",
    "The kitchen opens to a deck that is made for long summer evenings.",
    "Mature trees keep the garden private.",
    "A short walk leads to shops, schools and the bus.",
    "Wood floors run through the main level.",
    "The lower level has its own entrance and room for guests.",
    "Caf\u{e9}s and a \u{201c}farmers\u{2019} market\u{201d} are around the corner.",
    "New roof, new furnace, fresh paint: move right in.",
    "The lot is level, fenced, and sunny.",
    "Quiet street, friendly neighbours \u{2014} come and see.",
    "Bring your ideas; the bones are good.",
    "Storage everywhere, including a workshop behind the garage.",
];
