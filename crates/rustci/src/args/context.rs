//! `rustci context`.

use std::path::PathBuf;

use clap::Subcommand;

/// The commands of `rustci context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Remember a server; its token is read from standard input, unless that is a terminal
    Add {
        /// What to call it
        name: String,
        /// Where it is, such as http://127.0.0.1:8000
        #[arg(long, value_name = "URL")]
        server: String,
        /// Read the token from this file
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Read no token: that of the environment or of a server on this machine is used
        #[arg(long, conflicts_with = "token_file")]
        no_token: bool,
    },
    /// Use a server for all commands that follow; `local` goes back to this machine
    Use {
        /// Its name, or `local`
        name: String,
    },
    /// List the servers
    List,
    /// Show which server commands use now, and why
    Show,
    /// Forget a server
    Rm {
        /// Its name
        name: String,
    },
}
