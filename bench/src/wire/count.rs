//! What a round trip asks of the kernel: how often a thread of ours went to sleep, and how many
//! system calls were made.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

/// How often a thread of this process has slept so far; each time something woke it.
pub(crate) fn wake_ups() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.voluntary_context_switches())
}

const FEW: usize = 1_000;
const MANY: usize = 4_000;

/// System calls of a round trip of `case`, both ends: what many need more than few, which leaves
/// out what starting and ending take.
pub(crate) fn system_calls(case: &str) -> Result<f64> {
    let more = calls_of(case, MANY)?.saturating_sub(calls_of(case, FEW)?);
    Ok(more as f64 / (MANY - FEW) as f64)
}

fn calls_of(case: &str, rounds: usize) -> Result<u64> {
    let summary = tempfile::NamedTempFile::new()?;
    let status = Command::new("strace")
        .args(["--follow-forks", "--summary-only", "--output"])
        .arg(summary.path())
        .arg(std::env::current_exe()?)
        .args(["__wire", "rounds", case, &rounds.to_string()])
        .stdin(Stdio::null())
        .status()
        .context("cannot start strace; install it with: apt-get install strace")?;
    ensure!(status.success(), "strace of {rounds} round trips: {status}");
    total(&std::fs::read_to_string(summary.path())?)
}

/// The number of calls in the last line of a summary: share, seconds, us/call, calls.
fn total(summary: &str) -> Result<u64> {
    let line = summary.lines().rfind(|line| line.ends_with(" total"));
    let calls = line.and_then(|line| line.split_whitespace().nth(3));
    calls
        .and_then(|calls| calls.parse().ok())
        .context("strace gave no summary")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_the_column_of_calls() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            59.09    0.012168           3      4001           sendto\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.020592           2      8123        12 total\n";
        assert_eq!(total(summary).unwrap(), 8123);
        assert!(total("").is_err());
    }
}
