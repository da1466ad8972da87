//! Yggdrasil: token buckets that take 16 bytes and well under a microsecond, and keys with values.
//!
//! [`Buckets`] is a table of them, by key; [`Limit`] says how many tokens come and how many are
//! saved up; [`Decision`] what came of asking, with how long to wait. [`step`] is the arithmetic of
//! one bucket for whoever keeps it elsewhere.
//!
//! [`Keyspace`] has what else is kept for many: bytes and counters with an end, leases with fencing
//! numbers, limited places. There is no I/O here and no clock.

mod buckets;
mod gcra;
mod keyspace;
mod limit;
mod prefetch;
mod probe;
mod slot;

#[cfg(test)]
mod model;

pub use buckets::Buckets;
pub use gcra::step;
pub use keyspace::{
    Acquired, Beyond, Blob, Cause, Condition, Counts, Entry, Eviction, Held, IfEnd, Increment,
    Incremented, KEY_BYTES_MAX, Key, KeyError, Keyspace, KeyspaceConfig, Lease, Leased, Lifetime,
    Observer, Permit, RECORD_OVERHEAD_BYTES, RecordError, Shard, ShardGuard, VALUE_BYTES_MAX,
    Value, Written,
};
pub use limit::{Decision, Limit, LimitError, Outcome};
pub use probe::Crowded;
