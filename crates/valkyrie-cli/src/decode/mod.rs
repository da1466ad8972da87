//! From the bytes of a capture to explained frames.

mod connections;
mod report;
mod track;

pub(crate) use connections::Connections;
pub(crate) use report::{Details, Report, Wanted};
pub(crate) use track::Track;
