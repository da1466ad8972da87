//! The job process as a program of its own: what `rustci __job DIR` does, and nothing else.
//!
//! A program that embeds a runner and is not `rustci` can ship this next to itself and name it in
//! `RunnerConfig::job_program`. The tests of this crate use it, too.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().next_back().map(PathBuf::from) {
        Some(dir) if dir.is_dir() => rustci_runner::job::main(&dir),
        _ => ExitCode::from(2),
    }
}
