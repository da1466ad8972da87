//! Registered pipelines: files that the server keeps and runs when somebody asks, or when it is
//! time.

mod cron;
pub(crate) mod git;
mod registered;
mod start;
mod time;

pub use cron::CronClock;
pub(crate) use cron::{CronThread, Schedules};
pub(crate) use registered::{Registered, slug};
pub(crate) use start::{Trigger, new_run};
pub(crate) use time::rfc3339;
