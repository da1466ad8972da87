//! The smallest program that is a runner: `runner ENDPOINT STATE_DIR [NAME]`.
//!
//! It starts itself as `runner __job DIR` for every job. The tests of this crate use it as a process
//! that can be killed. SIGTERM drains it, a second one stops it at once.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use rustci_pipeline::Executor;
use rustci_runner::{RunnerConfig, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["__job", dir] => rustci_runner::job::main(Path::new(dir)),
        [endpoint, state_dir] => run("example", endpoint, state_dir),
        [endpoint, state_dir, name] => run(name, endpoint, state_dir),
        _ => ExitCode::from(2),
    }
}

fn run(name: &str, endpoint: &str, state_dir: &str) -> ExitCode {
    let ran = valkyrie::block_on(serve(name, endpoint, state_dir));
    match ran.map_err(Into::into).and_then(|ended| ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one thing this program ever says.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(name: &str, endpoint: &str, state_dir: &str) -> Result<(), Box<dyn Error>> {
    let mut config = RunnerConfig::new(name, endpoint.parse()?, state_dir);
    config.executors = vec![Executor::Native, Executor::Dummy];
    let (stop, stopped) = watch::channel(Stop::No);
    let mut terminate = signal(SignalKind::terminate())?;
    let running = tokio::task::spawn_local(rustci_runner::run(config, stopped));
    tokio::task::spawn_local(async move {
        for wanted in [Stop::Drain, Stop::Now] {
            terminate.recv().await;
            stop.send_replace(wanted);
        }
        std::future::pending::<()>().await;
    });
    Ok(running.await??)
}
