//! What people and scripts read: pure functions from what is known to text.

pub(crate) mod board;
pub(crate) mod data;
pub(crate) mod explain;
pub(crate) mod job;
pub(crate) mod live;
pub(crate) mod plain;
mod plan;
pub(crate) mod queue;
pub(crate) mod reports;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod sarif;
pub(crate) mod style;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod text;
