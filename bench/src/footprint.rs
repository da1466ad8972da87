//! What the programs cost while they have nothing to do, and what `rustci run` adds to a step.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::processes::{Process, free_port, rustci, wait_for};
use crate::report::{Report, percentile};

const RUNS: usize = 15;
/// Memory is read after the programs had this long to come to rest.
const REST: Duration = Duration::from_secs(2);

const PIPELINE: &str = "version: 1
name: one
on: { manual: {} }
jobs:
  one:
    steps: [{ run: sleep 0.1 }]
";

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let program = rustci()?;
    let home = tempfile::tempdir()?;
    memory(&program, home.path(), report)?;
    overhead(&program, home.path(), report)
}

fn memory(program: &Path, home: &Path, report: &mut Report) -> Result<()> {
    let http = format!("127.0.0.1:{}", free_port()?);
    let data = home.join("server");
    let socket = data.join("rustci.sock");
    let endpoint = format!("valkyrie+unix://{}", socket.display());
    let arguments = [
        "serve",
        "--http",
        &http,
        "--valkyrie",
        &endpoint,
        "--data-dir",
        &data.to_string_lossy(),
    ];
    let server = Process::start(program, &arguments, home)?;
    wait_for("the socket of the server", || socket.exists())?;
    let state = home.join("runner").to_string_lossy().into_owned();
    let arguments = [
        "runner",
        "--connect",
        &endpoint,
        "--name",
        "bench",
        "--state-dir",
        &state,
    ];
    let runner = Process::start(program, &arguments, home)?;
    std::thread::sleep(REST);
    report.ours("server_idle_rss_mb", server.rss_mb()?, "MB", "< 40");
    report.ours("runner_idle_rss_mb", runner.rss_mb()?, "MB", "< 15");
    Ok(())
}

fn overhead(program: &Path, home: &Path, report: &mut Report) -> Result<()> {
    let project = home.join("project");
    std::fs::create_dir_all(&project)?;
    std::fs::write(project.join(".rustci.yaml"), PIPELINE)?;
    let mut ours = Vec::new();
    let mut raw = Vec::new();
    for _ in 0..RUNS {
        raw.push(timed(Command::new("bash").args([
            "-eo",
            "pipefail",
            "-c",
            "sleep 0.1",
        ]))?);
        let mut run = Command::new(program);
        run.arg("run").arg(&project).env("XDG_STATE_HOME", home);
        ours.push(timed(&mut run)?);
    }
    let raw = percentile(&mut raw, 0.5);
    report.ours(
        "run_overhead_ms",
        percentile(&mut ours, 0.5) - raw,
        "ms",
        "< 150",
    );
    report.peer("bash", "step_ms", raw, "ms");
    Ok(())
}

/// Milliseconds that a command takes; it has to succeed.
fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
