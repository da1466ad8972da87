//! The `rustci` program: arguments, wiring, exit codes.

mod api;
mod args;
mod command;
mod context;
mod dirs;
mod doctor;
mod engine;
mod event;
mod exit;
mod failure;
mod output;
mod project;
mod render;
mod server;
mod signals;
mod snapshot;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, complain};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::new(&cli.output);
    match perform(&cli.command, &mut out) {
        Ok(code) => code,
        Err(failure) => {
            drop(out);
            report(&failure);
            Exit::from(&failure).into()
        }
    }
}

fn perform(command: &Command, out: &mut Output) -> Result<ExitCode, Failure> {
    let exit = match command {
        Command::Lint(args) => command::lint::lint(args, out),
        Command::OpenApi => out
            .text(&rustci_server::api::openapi())
            .map(|()| Exit::Success),
        Command::Pipelines(args) => wait(command::pipelines::pipelines(args, out)),
        Command::Plan(args) => command::plan::plan(args, out),
        Command::Schema => out
            .text(&format!("{:#}\n", rustci_pipeline::schema()))
            .map(|()| Exit::Success),
        Command::Run(args) => wait(command::run::run(args, out)),
        Command::Runs(args) => wait(command::runs::runs(args, out)),
        Command::Artifacts(args) => wait(command::artifacts::artifacts(args, out)),
        Command::Cache(args) => wait(command::cache::cache(args, out)),
        Command::Tests(args) => wait(command::reports::tests(args, out)),
        Command::Secrets(args) => wait(command::secrets::secrets(args, out)),
        Command::Backup(args) => wait(command::backup::backup(args, out)),
        Command::Restore(args) => command::backup::restore(args, out),
        Command::Explain(args) => wait(command::explain::explain(args, out)),
        Command::Queue(args) => wait(command::queue::queue(args, out)),
        Command::Runners(args) => wait(command::runners::runners(args, out)),
        Command::Store(args) => wait(command::store::store(args, out)),
        Command::Doctor(args) => wait(command::doctor::doctor(args, out)),
        Command::Notify(args) => wait(command::notify::notify(args, out)),
        Command::Completions { shell } => command::completions::completions(*shell, out),
        Command::Context(args) => command::context::context(args, out),
        Command::Serve(args) => wait(command::serve::serve(args, out)),
        Command::Runner(args) => command::runner::runner(args, out),
        Command::Job { dir } => return Ok(rustci_runner::job::main(dir)),
    };
    exit.map(ExitCode::from)
}

/// Runs a command's future on a thread of its own making: this one.
fn wait(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(Failure::io("start the runtime"))?
        .block_on(work)
}

/// Says on standard error what went wrong and what to do.
fn report(failure: &Failure) {
    if matches!(failure, Failure::OutputClosed | Failure::Abandoned) {
        return;
    }
    complain(&format!("error: {failure}\n"));
    if let Some(hint) = failure.hint() {
        complain(&format!("hint: {hint}\n"));
    }
}
