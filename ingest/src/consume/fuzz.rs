//! What a fuzzer gives to an ingester: the body of a message.

use platbook_protocol::TimeMs;
use platbook_protocol::listing::Parser;

use super::message::{self, Content};
use crate::queue::Received;

/// A body becomes one line that the router's parser reads, or is refused with a reason.
pub fn body(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let received = Received {
        message_id: "m".to_string(),
        receipt_handle: "h".to_string(),
        body: text.to_string(),
        sent: TimeMs(7),
        receive_count: 1,
        attributes: Vec::new(),
    };
    match message::read(&Parser::default(), &received, input, None) {
        Ok(Content::Line(line)) => {
            let newlines = line.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(newlines, 1, "a message is one line");
            serde_json::from_slice::<&serde_json::value::RawValue>(&line).expect("a line is JSON");
        }
        Ok(Content::Pointer { .. }) => {}
        Err(error) => assert!(!error.detail().is_empty(), "a refusal says why"),
    }
}
