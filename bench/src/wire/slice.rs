//! One slice of a case, in a process of its own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpgrp, kill_process_group};

use super::Work;
use crate::report::note;

/// Far longer than any slice takes on a machine that works: a million connections take a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// Lets a new process measure one slice of `case`; gives its figures.
pub(crate) fn run(case: &str) -> Result<Vec<(String, f64)>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["__wire", "slice", case])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for a slice")?;
    // It lives as long as this pipe, see `end_with_parent`.
    let life = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(life);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", errors.trim());
    let figures = String::from_utf8(output.stdout)?;
    figures
        .lines()
        .map(|line| {
            let (metric, value) = line
                .split_once(' ')
                .context("a slice says what it should not")?;
            Ok((metric.to_owned(), value.parse()?))
        })
        .collect()
}

/// The other side of [`run`].
pub(crate) fn main(work: &Work, case: &str) -> Result<()> {
    std::thread::spawn(end_with_parent);
    let mut out = std::io::stdout().lock();
    for (metric, value) in work.measure(case)? {
        writeln!(out, "{metric} {value}")?;
    }
    out.flush()?;
    Ok(())
}

/// Ends this process, and the servers it started, with the one that started it, or when it hangs.
fn end_with_parent() {
    let limit = Timespec::try_from(LIMIT).ok();
    let input = std::io::stdin();
    let ended = poll(&mut [PollFd::new(&input, PollFlags::IN)], limit.as_ref());
    if ended == Ok(0) {
        note(&format!("nothing came of it in {LIMIT:?}"));
    }
    // There is nobody left to tell if it fails.
    let _ = kill_process_group(getpgrp(), Signal::KILL);
}
