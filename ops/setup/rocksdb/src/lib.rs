//! Empty on purpose: building this package compiles the RocksDB archive that the workspace links.
