//! `rustci backup` and `rustci restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::ServerArgs;

/// `rustci backup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    /// Something else than making one.
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
    /// Where the backup goes
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Put the key of the secrets into it: whoever has the file can then read them
    #[arg(long)]
    pub(crate) with_keys: bool,
    /// Replace the file if there is one
    #[arg(long)]
    pub(crate) force: bool,
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The commands of `rustci backup`.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Read a backup to its end and check everything in it
    Verify {
        /// The backup
        file: PathBuf,
    },
}

/// `rustci restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// The data directory to make; it must be missing or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}
