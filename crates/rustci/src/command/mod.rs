//! What each command does.

pub(crate) mod approval;
pub(crate) mod artifacts;
pub(crate) mod backup;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod explain;
pub(crate) mod lint;
pub(crate) mod pipelines;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod reports;
pub(crate) mod rerun;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod runners;
pub(crate) mod runs;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod store;
pub(crate) mod summary;
pub(crate) mod tails;
pub(crate) mod watch;
