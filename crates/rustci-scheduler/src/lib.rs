//! The scheduler as a deterministic state machine: queue, leases with fencing, placement, retries.
//!
//! [`Scheduler::handle`] takes a [`Command`] and the time, and gives [`Output`]: records for the
//! journal, and effects that the caller releases once the records are durable. Records are the only
//! way in which durable state changes, so [`Scheduler::replay`] of the journal gives the same
//! state. Connected runners and deadlines are soft state: a restart begins without them.
//!
//! The life of a job stands at [`Phase`]. A lease gives it to a runner under a fencing number that
//! strictly grows; every message names its lease and is refused when another is in force. A lost
//! runner's job goes back to the front of the queue, at most
//! [`requeues_max`](SchedulerConfig::requeues_max) times; execution is at least once, completion
//! exactly once.
//!
//! ```
//! use std::sync::Arc;
//! use rustci_scheduler::{Command, Now, Output, Reply, Scheduler, SchedulerConfig, StoredPlan};
//!
//! let json = r#"{"version":1,"name":"ci","file":"ci.yaml","jobs":[{"key":"a","id":"a","name":"a",
//!     "timeout_ms":1000,"continue_on_error":"","steps":[]}]}"#;
//! let plan = Arc::new(StoredPlan::from_json(json)?);
//! let mut scheduler = Scheduler::new(SchedulerConfig::default());
//! let mut out = Output::default();
//! let submit = Command::Submit { plan, meta: Default::default() };
//! let Reply::Run(run) = scheduler.handle(Now::default(), submit, &mut out)? else { panic!() };
//! let job = scheduler.run(run).unwrap().first_job;
//! assert_eq!(scheduler.waiting(job).unwrap().to_string(), "no runner is connected");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod command;
mod config;
mod contexts;
mod decide;
mod ids;
pub mod limits;
mod plan;
mod pool;
mod quota;
pub mod record;
mod scheduler;
mod state;
mod view;

pub use command::{
    AttemptResult, Command, Drain, Effect, Output, Pause, Refused, Reply, RunnerUp, cause_from_wire,
};
pub use config::SchedulerConfig;
pub use contexts::contexts_json;
pub use ids::{AttemptToken, Fence, JobId, Now, RunId, RunnerId};
pub use plan::StoredPlan;
pub use quota::Quota;
pub use scheduler::Scheduler;
pub use state::{
    Answer, Approval, Attempt, AttemptEnd, Job, KnownRunner, Phase, ReplayError, Run, SlotUse,
    Stopping, Verdict,
};
pub use view::{
    Ahead, ClassView, Counts, Holder, ProjectView, QueueView, Reasons, RunnerView, Waiting,
};
