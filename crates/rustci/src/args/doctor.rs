//! `rustci doctor`.

use std::path::PathBuf;

use clap::Args;

use super::place::ServerArgs;

/// `rustci doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The server to check; without one, this machine.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// A data directory to check
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Read everything in the data directory: catalogue, logs with their hash chains, blobs
    #[arg(long, requires = "data_dir")]
    pub(crate) deep: bool,
    /// Print index and digests of the durable state, as a backup does, and nothing else
    #[arg(long, conflicts_with = "deep")]
    pub(crate) digest: bool,
}
