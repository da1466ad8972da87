//! `rustci explain`, `rustci queue`, `rustci runners`.

use clap::{Args, Subcommand};

use super::place::{PlaceArgs, ServerArgs};

/// `rustci explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The run's number, or RUN/JOB for one of its jobs; default: the newest run
    #[arg(value_name = "RUN[/JOB]")]
    pub(crate) what: Option<String>,
    /// Where the run is.
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// `rustci queue`.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) command: QueueCommand,
    /// Whose queue it is.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The commands of `rustci queue`.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show what waits, for what and since when
    List {
        /// How many jobs, at most 200
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        /// Only jobs of this project
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Go on where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Hand out no jobs until `resume`; running ones go on
    Pause,
    /// Hand out jobs again
    Resume,
    /// Show, set or remove what a project may have
    ///
    /// Figures that are not given keep what they were.
    Quota {
        /// The project; without one, everything that was set is listed
        project: Option<String>,
        /// Of all projects that have nothing of their own
        #[arg(long, conflicts_with = "project")]
        default: bool,
        /// Jobs that run at once; 0 for no bound of its own
        #[arg(long, value_name = "JOBS")]
        running: Option<u32>,
        /// Jobs that wait; 0 for no bound of its own
        #[arg(long, value_name = "JOBS")]
        queued: Option<u32>,
        /// Share of the runners relative to other projects; 0 for none of its own
        #[arg(long, value_name = "WEIGHT")]
        weight: Option<u32>,
        /// Remove what was set
        #[arg(long, conflicts_with_all = ["running", "queued", "weight"])]
        remove: bool,
    },
}

/// `rustci runners`.
#[derive(Debug, Args)]
pub(crate) struct RunnersArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) command: RunnersCommand,
    /// Whose runners they are.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The commands of `rustci runners`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunnersCommand {
    /// List the runners that are connected, and those that were
    List,
    /// Give a runner nothing new, also when it comes back; what it has goes on
    Drain {
        /// Its name or number
        runner: String,
    },
    /// Give a runner jobs again
    Undrain {
        /// Its name or number
        runner: String,
    },
    /// Forget a runner that is away and has no jobs
    Rm {
        /// Its name or number
        runner: String,
    },
}
