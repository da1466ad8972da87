//! `rustci completions`.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Prints the script by which a shell completes commands and options.
///
/// # Errors
/// When nobody reads the output.
pub(crate) fn completions(shell: Shell, out: &mut Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "rustci", &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
