//! A RustCI runner: it connects out, gets jobs by push, and runs each in a process of its own.
//!
//! - [`run`] is the runner: link, attempts, results. It holds no job itself.
//! - [`job::main`] is the job process: steps, masking, spool, and the end of everything it started.
//!   The program that calls [`run`] also has to call this when it is started as `__job DIR`.
//! - [`log`], [`process`] and [`limits`] are what both share; [`report`] reads test reports.
//!
//! What a job sees, and how processes are held, is described in `docs/runners.md`.
//!
//! ```no_run
//! use rustci_runner::{RunnerConfig, Stop};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = "valkyrie+unix:///run/rustci/rustci.sock".parse()?;
//! let config = RunnerConfig::new("builder-1", endpoint, "/var/lib/rustci/runner");
//! let (stop, stopped) = tokio::sync::watch::channel(Stop::No);
//! // Somewhere else: stop.send(Stop::Drain).
//! valkyrie::block_on(rustci_runner::run(config, stopped))??;
//! # drop(stop);
//! # Ok(())
//! # }
//! ```

pub mod job;
pub mod limits;
pub mod log;
pub mod process;
pub mod report;
mod runner;

pub use runner::{
    JobProgram, RunnerConfig, RunnerError, Stop, default_labels, host_environment, reclaim, run,
};
