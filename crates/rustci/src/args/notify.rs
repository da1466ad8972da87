//! `rustci notify`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `rustci notify`.
#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: NotifyCommand,
}

/// The commands of `rustci notify`.
#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test message to everybody in a file, and print what each of them answered
    Test {
        /// The YAML file with the section `notifications`
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
