//! Gathers what many requests ask of one shard into few calls.
//!
//! 1. [`fair_queue`]: what waits, taken in turns by source.
//! 2. [`submission`]: what one request handed in, and what became of each item.
//! 3. [`gatherer`]: the task of one shard and kind: few calls in flight, the next gathers.
//! 4. [`kinds`]: proposals, registers, rows.
//! 5. [`shards`]: the gatherers of all shards; [`homes`]: where listings may stand.

pub(crate) mod fair_queue;
pub(crate) mod gatherer;
pub(crate) mod homes;
pub(crate) mod kinds;
pub(crate) mod shards;
pub(crate) mod submission;

pub(crate) use fair_queue::Source;
pub(crate) use shards::Shards;
