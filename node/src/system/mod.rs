//! The cluster as a whole: how it is formed, how its map is followed and changed.

pub(crate) mod follow;
pub(crate) mod formation;
pub(crate) mod replace;
