//! Message attributes: checks, checksums, and which of them a receiver asked for.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::service_error::ServiceError;

/// Most attributes of a message.
const ATTRIBUTES_MAX: usize = 10;
/// Longest attribute name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Attributes by name, in the order that their checksum is computed in.
pub(super) type Attributes = BTreeMap<String, Attribute>;

/// One attribute as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attribute {
    pub(super) data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) string_value: Option<String>,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) binary_value: Option<String>,
}

/// MD5, as SQS computes it over everything.
pub(super) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// An MD5 as text.
pub(super) fn hex(digest: &[u8; 16]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks attributes; gives their checksum and the bytes that count for the message's size.
pub(super) fn check(attributes: &Attributes) -> Result<([u8; 16], usize), ServiceError> {
    if attributes.len() > ATTRIBUTES_MAX {
        let reason = format!("Number of message attributes [{}] exceeds 10", attributes.len());
        return Err(ServiceError::invalid(reason));
    }
    let mut digest = Md5::new();
    let mut bytes = 0;
    let mut part = |digest: &mut Md5, part: &[u8]| {
        digest.update((part.len() as u32).to_be_bytes());
        digest.update(part);
        bytes += part.len();
    };
    for (name, attribute) in attributes {
        let (transport, value) = value_of(name, attribute)?;
        part(&mut digest, name.as_bytes());
        part(&mut digest, attribute.data_type.as_bytes());
        digest.update([transport]);
        part(&mut digest, &value);
    }
    Ok((digest.finalize().into(), bytes))
}

/// The value's bytes behind the number of its transport type: 1 for text, 2 for binary.
fn value_of(name: &str, attribute: &Attribute) -> Result<(u8, Vec<u8>), ServiceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_reserved = ["aws.", "amazon."].iter().any(|p| name.to_lowercase().starts_with(p));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) || is_reserved {
        let reason = format!("The message attribute name '{name}' is invalid");
        return Err(ServiceError::invalid(reason));
    }
    let base_type = attribute.data_type.split('.').next().unwrap_or_default();
    let value = match (base_type, &attribute.string_value, &attribute.binary_value) {
        ("String" | "Number", Some(text), None) => (1, text.clone().into_bytes()),
        ("Binary", None, Some(text)) => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => (2, bytes),
            Err(e) => return Err(ServiceError::invalid(format!("attribute '{name}': {e}"))),
        },
        ("String" | "Number" | "Binary", _, _) => {
            let reason = format!("The message attribute '{name}' must contain one value");
            return Err(ServiceError::invalid(reason));
        }
        (_, _, _) => {
            let reason = format!("The type of message attribute '{name}' is invalid");
            return Err(ServiceError::invalid(reason));
        }
    };
    if value.1.is_empty() {
        let reason = format!("The message attribute '{name}' must contain a non-empty value");
        return Err(ServiceError::invalid(reason));
    }
    let number = attribute.string_value.as_deref().map(str::parse::<f64>);
    if base_type == "Number" && !matches!(number, Some(Ok(_))) {
        let reason = format!("Can't cast the value of message attribute '{name}' to a number");
        return Err(ServiceError::invalid(reason));
    }
    Ok(value)
}

/// Whether a receiver that asked for `names` gets the attribute `name`.
pub(super) fn is_wanted(names: &[String], name: &str) -> bool {
    names.iter().any(|wanted| match wanted.strip_suffix(".*") {
        Some(prefix) => name.starts_with(prefix),
        None => wanted == "All" || wanted == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data_type: &str, value: &str) -> Attribute {
        let string_value = Some(value.to_string());
        Attribute { data_type: data_type.to_string(), string_value, binary_value: None }
    }

    #[test]
    fn prefixes_and_all_are_understood() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(is_wanted(&names(&["All"]), "sequence"));
        assert!(is_wanted(&names(&[".*"]), "sequence"));
        assert!(is_wanted(&names(&["seq.*"]), "sequence"));
        assert!(is_wanted(&names(&["x", "sequence"]), "sequence"));
        assert!(!is_wanted(&names(&["seq"]), "sequence"));
        assert!(!is_wanted(&[], "sequence"));
    }

    #[test]
    fn a_value_that_is_missing_or_of_another_type_is_refused() {
        let refused = |name: &str, attribute| {
            check(&Attributes::from([(name.to_string(), attribute)])).is_err()
        };
        assert!(!refused("sequence", text("Number.long", "7")));
        assert!(refused("sequence", text("Number", "seven")));
        assert!(refused("sequence", text("Number", "")));
        assert!(refused("sequence", text("Binary", "AA==")));
        assert!(refused("sequence", text("Blob", "7")));
        assert!(refused("aws.x", text("String", "7")));
        assert!(refused("a b", text("String", "7")));
    }
}
