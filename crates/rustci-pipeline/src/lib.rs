//! Pipeline files to one canonical plan: parsing with positions, expressions, matrix, conditions.
//!
//! [`parse`] reads a file and tells everything that is wrong with it at once; [`plan`](plan())
//! turns the result into a [`Plan`] for an event. The scheduler uses [`condition`] and [`labels`],
//! the runner [`template`] and [`condition`]; both see values through [`expr::Contexts`]. [`v1`]
//! has the messages between control plane and runner.

mod canonical;
mod codes;
pub mod condition;
mod cron;
mod decode;
pub mod diagnostic;
mod duration;
mod expand;
pub mod expr;
pub mod glob;
pub mod labels;
pub mod limits;
mod matrix;
mod matrix_value;
mod native;
mod nearest;
mod pipeline;
mod plan;
mod planner;
mod report;
mod shape;
pub mod template;
pub mod v1;
mod yaml;

pub use cron::{Cron, CronError, Zone};

pub use decode::{Decoded, decode};
pub use diagnostic::{Code, Colour, Diagnostic, Severity, Span};
pub use expand::{ExpandError, Expanded, expand};
pub use matrix_value::{MatrixError, matrix_value};
pub use native::{
    Files, habits, included, is_template, lint, lint_template, lint_with, parse, parse_with, schema,
};
pub use pipeline::Pipeline;
pub use plan::{
    Access, Approval, Artifact, Cache, CachePolicy, Concurrency, Download, DynamicMatrix,
    Environment, Executor, IfMissing, Job, MatrixGroup, PLAN_VERSION, Plan, PlanDigest, PlanError,
    Report, ReportKind, Retry, RetryOn, RunsOn, Step, When,
};
pub use planner::{
    EVENTS, PlanRefused, PlanRequest, Planned, compile, compile_with, plan, skip_marker,
};
pub use shape::values::is_variable_name;

/// What came out of reading a pipeline file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The pipeline; none when there are errors.
    pub pipeline: Option<Pipeline>,
    /// Everything found, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}
