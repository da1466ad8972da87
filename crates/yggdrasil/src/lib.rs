//! Yggdrasil: token buckets that take 16 bytes and well under a microsecond.
//!
//! [`Buckets`] is a table of them, by key; [`Limit`] says how many tokens come and how many are
//! saved up; [`Decision`] what came of asking, with how long to wait. [`step`] is the arithmetic of
//! one bucket for whoever keeps it elsewhere. There is no I/O here, no clock and no lock.

mod buckets;
mod gcra;
mod limit;
mod probe;
mod slot;

#[cfg(test)]
mod model;

pub use buckets::Buckets;
pub use gcra::step;
pub use limit::{Decision, Limit, LimitError, Outcome};
pub use probe::Crowded;
