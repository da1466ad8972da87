//! The `yggdrasil` program: serves token buckets and keys, and looks into servers.

mod args;
mod bench;
mod client;
mod cluster;
mod failure;
mod flood;
mod inspect;
mod output;
mod policies;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Serve(args) => serve::serve(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Bench(args) => bench::bench(args),
        Command::Cluster(command) => cluster::cluster(command),
        Command::Snapshot(args) => inspect::snapshot(args),
        Command::Commands => output::commands(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "yggdrasil", &mut text);
            output::print(&text)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            failure.exit_code().into()
        }
    }
}
