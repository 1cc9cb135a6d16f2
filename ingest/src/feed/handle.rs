//! Receipt handles: which copy of which queue, and which of its deliveries.

use super::record::{Copy, Key, Location};
use super::service_error::{Code, ServiceError};

/// A handle, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) queue: u32,
    pub(super) key: Key,
    /// Deliveries of the copy when the handle was given out.
    pub(super) count: u32,
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Location { segment, offset } = self.key.location;
        write!(f, "PB1{:08x}{segment:08x}{offset:08x}", self.queue)?;
        write!(f, "{:02x}{:08x}", self.key.copy as u8, self.count)
    }
}

impl Handle {
    /// Reads a handle of the queue numbered `queue`.
    pub(super) fn try_parse(text: &str, queue: u32) -> Result<Handle, ServiceError> {
        let invalid = || {
            let message = format!("The input receipt handle \"{text}\" is not a valid handle.");
            ServiceError::new(Code::ReceiptHandleIsInvalid, message)
        };
        let digits = text.strip_prefix("PB1").filter(|d| d.len() == 34 && d.is_ascii());
        let digits = digits.ok_or_else(invalid)?;
        let number = |from, to| u32::from_str_radix(&digits[from..to], 16).map_err(|_| invalid());
        let location = Location { segment: number(8, 16)?, offset: number(16, 24)? };
        let copy = Copy::try_from_index(number(24, 26)? as u8).ok_or_else(invalid)?;
        let handle =
            Handle { queue: number(0, 8)?, key: Key { location, copy }, count: number(26, 34)? };
        if handle.queue == queue { Ok(handle) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_back_and_garbage_or_another_queues_is_not() {
        let location = Location { segment: 3, offset: u32::MAX };
        let handle = Handle { queue: 7, key: Key { location, copy: Copy::Second }, count: 9 };
        let text = handle.to_string();
        assert_eq!(Handle::try_parse(&text, 7), Ok(handle));
        assert!(Handle::try_parse(&text, 8).is_err());
        assert!(Handle::try_parse(&text[1..], 7).is_err());
        assert!(Handle::try_parse(&text.replace("PB1", "PB1é"), 7).is_err());
        assert!(Handle::try_parse("garbage", 7).is_err());
        assert!(Handle::try_parse("", 7).is_err());
    }
}
