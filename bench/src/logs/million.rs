//! One step that prints a million lines, run by the program as a person would.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use valkyrie_frame::{LogChannel, LogRecords};

use crate::disk::scratch;
use crate::processes::rustci;
use crate::report::{Report, percentile};

const LINES: usize = 1_000_000;
const ROUNDS: usize = 3;
const SCRIPT: &str = "seq 1 1000000";

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let program = rustci()?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let directory = scratch()?;
        raw.push(bash(directory.path())?);
        ours.push(once(&program, directory.path())?);
    }
    report.ours("million_lines_s", percentile(&mut ours, 0.5), "s", "< 5");
    report.peer(
        "bash",
        "million_lines_to_file_s",
        percentile(&mut raw, 0.5),
        "s",
    );
    Ok(())
}

/// Seconds of a whole `rustci run`, its log compared afterwards.
fn once(program: &Path, directory: &Path) -> Result<f64> {
    let project = directory.join("project");
    std::fs::create_dir(&project)?;
    let pipeline = format!(
        "version: 1\nname: million\non: {{ manual: {{}} }}\njobs:\n  print:\n    steps: [{{ run: {SCRIPT} }}]\n"
    );
    std::fs::write(project.join(".rustci.yaml"), pipeline)?;
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg(&project)
        .env("XDG_STATE_HOME", directory.join("state"));
    let elapsed = timed(command.stdout(File::create(directory.join("printed"))?))?;
    check(&log(&directory.join("state"))?)?;
    Ok(elapsed)
}

/// Seconds that bash takes to print the same into a file that is then synced.
fn bash(directory: &Path) -> Result<f64> {
    let script = format!("{SCRIPT} > plain && sync plain");
    timed(
        Command::new("bash")
            .args(["-eo", "pipefail", "-c", &script])
            .current_dir(directory),
    )
}

fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(start.elapsed().as_secs_f64())
}

/// The one log under a state directory.
fn log(state: &Path) -> Result<PathBuf> {
    let mut open = vec![state.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with("1.1.log") {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("there is no log under {}", state.display())
}

/// Every line once, in order, nothing else.
fn check(log: &Path) -> Result<()> {
    let bytes = std::fs::read(log)?;
    let (mut got, mut wanted) = (blake3::Hasher::new(), blake3::Hasher::new());
    let mut lines = 0;
    for record in LogRecords::new(&bytes) {
        let record = record.context("the log is damaged")?;
        if record.channel == LogChannel::STDOUT {
            got.update(record.bytes).update(b"\n");
            lines += 1;
        }
    }
    for line in 1..=LINES {
        wanted.update(format!("{line}\n").as_bytes());
    }
    ensure!(lines == LINES, "{lines} of {LINES} lines are in the log");
    ensure!(
        got.finalize() == wanted.finalize(),
        "the lines are not those that were printed"
    );
    Ok(())
}
