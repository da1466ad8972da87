//! `rustci pipelines`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::ServerArgs;
use super::{pair, variable};

/// `rustci pipelines`.
#[derive(Debug, Args)]
pub(crate) struct PipelinesArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) command: PipelinesCommand,
    /// The server that keeps them.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The commands of `rustci pipelines`.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelinesCommand {
    /// Register a pipeline file, or change the one of that name
    Add {
        /// The pipeline file
        file: PathBuf,
        /// Its name on the server; made of the pipeline's own name without it
        #[arg(long)]
        name: Option<String>,
        /// The project of its runs; the name without it
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// The repository of its runs
        #[arg(long, value_name = "URL")]
        git: Option<String>,
        /// The branch, tag or commit of it
        #[arg(
            long = "ref",
            value_name = "REF",
            default_value = "main",
            requires = "git"
        )]
        reference: String,
        /// Environment of its runs (may be repeated)
        #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// Leave its schedules out
        #[arg(long)]
        paused: bool,
    },
    /// List registered pipelines and when they run next
    List,
    /// Show one with its file
    Show {
        /// Its name
        name: String,
    },
    /// Start a run
    Trigger {
        /// Its name
        name: String,
        /// A branch, tag or commit instead of the registered one
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// An input of the pipeline (may be repeated)
        #[arg(long = "input", value_name = "KEY=VALUE", value_parser = pair)]
        inputs: Vec<(String, String)>,
        /// Environment of this run (may be repeated)
        #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
    },
    /// Remove one; its runs stay
    Rm {
        /// Its name
        name: String,
    },
}
