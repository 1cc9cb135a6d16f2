//! The register's rule, the rows' rule, `If-Match` and the coordinator, each on its own.

mod coordination;
mod if_match;
mod join;
mod row;
mod universe;
