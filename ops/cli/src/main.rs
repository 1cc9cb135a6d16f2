//! The `platbook` command.

fn main() {}
