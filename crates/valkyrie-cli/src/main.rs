//! The `valkyrie` program: looks at frames, and talks to servers by hand.

mod args;
mod capture;
mod command;
mod decode;
mod demo;
mod exit;
mod explain;
mod failure;
mod output;
mod peer;
mod proto;
mod screen;
mod signals;
mod spread;
mod style;
mod watch;
mod wire;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, complain};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::new(&cli.output);
    match perform(&cli.command, &mut out) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            report(&failure);
            Exit::from(&failure).into()
        }
    }
}

fn perform(command: &Command, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        Command::Ping(args) => wait(command::ping::ping(args, out)),
        Command::Health(args) => wait(command::health::health(args, out)),
        Command::Call(args) => wait(command::call::call(args, out)),
        Command::Serve(args) => wait(command::serve::serve(args, out)),
        Command::Bench(args) => wait(command::bench::bench(args, out)),
        Command::Top(args) => wait(command::top::top(args, out)),
        Command::Decode(args) => command::decode::decode(args, out),
        Command::Capture(args) => wait(command::capture::capture(args, out)),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "valkyrie", &mut text);
            out.bytes(&text).map(|()| Exit::Success)
        }
    }
}

/// Runs a command's future on this thread, which becomes a shard.
fn wait(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    valkyrie::block_on(work).map_err(Failure::io("start the runtime"))?
}

/// Says on standard error what went wrong and what to do.
fn report(failure: &Failure) {
    if matches!(failure, Failure::OutputClosed) {
        return;
    }
    complain(&format!("error: {failure}\n"));
    if let Some(hint) = failure.hint() {
        complain(&format!("hint: {hint}\n"));
    }
}
