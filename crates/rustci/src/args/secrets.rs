//! `rustci secrets`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::place::ServerArgs;

/// `rustci secrets`.
#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
    /// The server that has them; without one, those of this project's local runs.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// With a server: a project's name, all projects without it. Here: the project's directory
    #[arg(long, global = true, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// The data directory of a server that does not run
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The key of that directory's secrets, if it lies elsewhere
    #[arg(long, global = true, value_name = "FILE", requires = "data_dir")]
    pub(crate) secrets_key_file: Option<PathBuf>,
}

/// The commands of `rustci secrets`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// List names, versions and times; values are never shown
    List,
    /// Set a secret; its value is read from standard input
    Set {
        /// Its name: letters, digits, _ and -
        name: String,
        /// Read the value from this file instead
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
        /// Fail when there is one already
        #[arg(long)]
        new: bool,
    },
    /// Remove a secret
    Rm {
        /// Its name
        name: String,
    },
    /// Make a new key and seal every value anew
    Rekey {
        /// Seal with the key in this file, for a server whose key lies elsewhere
        #[arg(long, value_name = "FILE", requires = "data_dir")]
        new_key_file: Option<PathBuf>,
    },
}
