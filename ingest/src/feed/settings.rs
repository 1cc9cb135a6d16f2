//! The attributes of a queue: which there are, their defaults and limits.

use std::collections::BTreeMap;

use super::service_error::{Code, ServiceError};

/// Values as text, as clients set them.
pub(super) type Given = BTreeMap<String, String>;

/// Largest message, in bytes.
pub(super) const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// What can be set on a queue; times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) visibility_timeout: u64,
    pub(super) retention: u64,
    pub(super) delay: u64,
    pub(super) wait: u64,
    pub(super) message_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            visibility_timeout: 30,
            retention: 345_600,
            delay: 0,
            wait: 0,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

impl Settings {
    /// These settings with `given` put over them.
    pub(super) fn try_with(mut self, given: &Given) -> Result<Settings, ServiceError> {
        for (name, value) in given {
            let (place, min, max) = match name.as_str() {
                "VisibilityTimeout" => (&mut self.visibility_timeout, 0, 43_200),
                "MessageRetentionPeriod" => (&mut self.retention, 60, 1_209_600),
                "DelaySeconds" => (&mut self.delay, 0, 900),
                "ReceiveMessageWaitTimeSeconds" => (&mut self.wait, 0, 20),
                "MaximumMessageSize" => (&mut self.message_bytes_max, 1_024, MESSAGE_BYTES_MAX),
                // Taking a setting that does nothing would be a lie: dead-letter queues, FIFO
                // and encryption are not this server's.
                _ => {
                    let message = format!("Unknown Attribute {name}.");
                    return Err(ServiceError::new(Code::InvalidAttributeName, message));
                }
            };
            match value.parse() {
                Ok(number) if (min..=max).contains(&number) => *place = number,
                _ => {
                    let message = format!("Invalid value for the parameter {name}.");
                    return Err(ServiceError::new(Code::InvalidAttributeValue, message));
                }
            }
        }
        Ok(self)
    }

    /// All settings as attributes.
    pub(super) fn to_attributes(self) -> Given {
        let pairs = [
            ("VisibilityTimeout", self.visibility_timeout),
            ("MessageRetentionPeriod", self.retention),
            ("DelaySeconds", self.delay),
            ("ReceiveMessageWaitTimeSeconds", self.wait),
            ("MaximumMessageSize", self.message_bytes_max),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_as_attributes_and_limits_hold() {
        let given = |name: &str, value: &str| Given::from([(name.into(), value.into())]);
        let set = Settings::default().try_with(&given("VisibilityTimeout", "7")).expect("valid");
        assert_eq!(Settings::default().try_with(&set.to_attributes()), Ok(set));
        for (name, value) in [("VisibilityTimeout", "43201"), ("DelaySeconds", "x")] {
            let error = Settings::default().try_with(&given(name, value)).expect_err("too much");
            assert_eq!(error.code, Code::InvalidAttributeValue);
        }
        let error = Settings::default().try_with(&given("RedrivePolicy", "{}"));
        assert_eq!(error.expect_err("unsupported").code, Code::InvalidAttributeName);
    }
}
