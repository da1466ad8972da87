//! Stands between two sides and records what they say.

mod proxy;
mod recorder;

pub(crate) use proxy::{Proxy, run};
pub(crate) use recorder::{Recorder, Summary};
