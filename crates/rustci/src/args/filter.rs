//! Which runs are meant.

use clap::{Args, ValueEnum};

/// The values of `--status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunStatus {
    /// No job has begun.
    Queued,
    /// Going on.
    Running,
    /// Over, however it ended.
    Finished,
}

impl RunStatus {
    /// The name used by the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
        }
    }
}

/// Runs that have everything that is named.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only runs in this state
    #[arg(long, value_enum)]
    pub(crate) status: Option<RunStatus>,
    /// Only runs of this event
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// Only runs of this branch
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Only runs of the pipeline with this name
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
}

impl FilterArgs {
    /// What is named, as parameters of a query.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, &str)> {
        let status = self.status.map(RunStatus::as_str);
        let all = [
            ("status", status),
            ("event", self.event.as_deref()),
            ("branch", self.branch.as_deref()),
            ("pipeline", self.pipeline.as_deref()),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}
