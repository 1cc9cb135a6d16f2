#![no_main]
#[path = "../../tests/corpora/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::run("records", input));
