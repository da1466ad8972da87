//! The scheduler as a deterministic state machine: queue, leases with fencing, placement, retries.

mod command;
mod ids;
mod plan;
pub mod record;

pub use command::{
    AttemptResult, Command, Drain, Effect, Output, Pause, Refused, Reply, RunnerUp, cause_from_wire,
};
pub use ids::{AttemptToken, Fence, JobId, Now, RunId, RunnerId};
pub use plan::StoredPlan;
