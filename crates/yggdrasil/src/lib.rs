//! Yggdrasil: token buckets that take 16 bytes and well under a microsecond, and keys with values.
//!
//! [`Buckets`] is a table of them, by key; [`Limit`] says how many tokens come and how many are
//! saved up; [`Decision`] what came of asking, with how long to wait. [`step`] is the arithmetic of
//! one bucket for whoever keeps it elsewhere. [`CompactBuckets`] take half the memory and see further
//! bounds; [`Policies`] have limits by key and prefix, which change while they are used.
//!
//! [`Keyspace`] has what else is kept for many: bytes and counters with an end, leases with fencing
//! numbers, limited places. There is no I/O here and no clock.

mod buckets;
mod compact;
mod gcra;
mod kept;
mod keyspace;
mod limit;
mod many;
mod place;
mod policy;
mod prefetch;
mod probe;
mod seed;
mod slot;

#[cfg(test)]
mod edges;
#[cfg(test)]
mod model;
#[cfg(test)]
mod oracle;

pub use buckets::Buckets;
pub use compact::{CompactBuckets, CompactLimit};
pub use gcra::step;
pub use kept::KeptBucket;
pub use keyspace::{
    Acquired, Beyond, Blob, Cause, Condition, Counts, Entry, Eviction, Held, IfEnd, Increment,
    Incremented, KEY_BYTES_MAX, Key, KeyError, Keyspace, KeyspaceConfig, Lease, Leased, Lifetime,
    Observer, Permit, RECORD_OVERHEAD_BYTES, RecordError, STEPS_MAX, Shard, ShardGuard, Step,
    Transacted, VALUE_BYTES_MAX, Value, Written,
};
pub use limit::{Decision, Limit, LimitError, LimitTextError, Outcome};
pub use many::Together;
pub use policy::{POLICIES_MAX, POLICY_NAME_BYTES_MAX, Pattern, Policies, Policy, PolicyError};
pub use probe::Crowded;
pub use seed::Seed;
