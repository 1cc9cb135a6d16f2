//! What stands behind the keys: one type a value, each with a version byte in front.

pub(super) mod effects;
pub(super) mod list;
pub(super) mod map;
pub(super) mod register;
pub(super) mod row;
pub(super) mod state;

pub use effects::{Change, Effects};
