//! The log of one attempt: masked, cut into records, spooled on disk before anything else happens.

mod lines;
mod mask;
mod spool;

pub(crate) use lines::Lines;
pub use mask::{MASK, Masker, Patterns, forms};
pub use spool::SpoolReader;
pub(crate) use spool::SpoolWriter;
