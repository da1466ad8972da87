//! `rustci tests`.

use clap::Args;

use super::place::PlaceArgs;

/// `rustci tests`.
#[derive(Debug, Args)]
pub(crate) struct TestsArgs {
    /// The run's number; default: the newest
    pub(crate) run: Option<u64>,
    /// Show every test of the run, not only those that failed
    #[arg(long, conflicts_with_all = ["history", "flaky", "slowest"])]
    pub(crate) all: bool,
    /// How one test came out from run to run; part of its name is enough
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pub(crate) history: Option<String>,
    /// The project's tests that change their mind about the same commit
    #[arg(long, conflicts_with_all = ["run", "history"])]
    pub(crate) flaky: bool,
    /// The project's slowest tests
    #[arg(long, conflicts_with_all = ["run", "history", "flaky"])]
    pub(crate) slowest: bool,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
    /// Where the runs are.
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}
