//! Where a command finds what it is about: a server, or this machine.

use std::path::PathBuf;

use clap::Args;

/// Which server to ask.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// A control plane, such as http://127.0.0.1:8000 [env: RUSTCI_SERVER]
    #[arg(long, global = true, value_name = "URL", conflicts_with = "context")]
    pub(crate) server: Option<String>,
    /// Its token; default: the token file of a server on this machine [env: RUSTCI_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// A server that `rustci context add` knows, or `local` [env: RUSTCI_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// Where runs are looked for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where the runs are")]
pub(crate) struct PlaceArgs {
    /// The server; without one, this project's own runs.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// With a server: only runs of the project with this name. Here: the project's directory
    #[arg(long, global = true, value_name = "PROJECT")]
    pub(crate) project: Option<PathBuf>,
    /// A data directory to read instead
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
