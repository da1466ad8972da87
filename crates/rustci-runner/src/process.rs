//! Finding and ending processes: by descent, by a list that outlives its writer, and by a mark in
//! their environment.
//!
//! A process is named by its id *and* its start time, because ids are used again. Signals go through
//! a pidfd that was opened before the start time was compared, so they cannot hit a stranger.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The environment variable that every process of an attempt inherits; its value names the attempt.
pub const MARK: &str = "RUSTCI_JOB_MARK";

/// How long [`end_leftovers`] goes on killing before it reports failure.
const LEFTOVER_WAIT: Duration = Duration::from_secs(5);

/// One process, also after its id was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Clock ticks after boot at which it started.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this id now; `None` when there is none or only its zombie is left.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = parse_stat(&stat)?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start_ticks })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Sends a signal; nothing happens when the process is gone.
    pub fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if self.is_alive() {
            // It may have ended since; then there is nothing to end.
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }
}

/// All processes below `root`, nearest first, without `root` itself.
pub fn descendants(root: i32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut level = vec![root];
    while !level.is_empty() {
        let below: Vec<i32> = level
            .iter()
            .flat_map(|&pid| children(pid))
            .filter(|&pid| seen.insert(pid))
            .collect();
        found.extend(below.iter().filter_map(|&pid| Process::find(pid)));
        level = below;
    }
    found
}

/// All processes of this user whose environment holds the mark.
pub fn marked(mark: &str) -> Vec<Process> {
    let entry = format!("{MARK}={mark}");
    all_pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| {
                env.split(|&byte| byte == 0)
                    .any(|var| var == entry.as_bytes())
            })
        })
        .filter_map(Process::find)
        .collect()
}

/// Kills what an attempt left behind: the processes on its list, those with its mark, and whatever
/// descends from either. Blocks until they are gone, at most five seconds.
///
/// # Errors
/// The processes that are still there after that (stuck in the kernel, or another user's).
pub fn end_leftovers(mark: &str, listed: &[Process]) -> Result<usize, Vec<Process>> {
    let deadline = Instant::now() + LEFTOVER_WAIT;
    let mut ended = BTreeSet::new();
    loop {
        let left = leftovers(mark, listed);
        if left.is_empty() {
            return Ok(ended.len());
        }
        if Instant::now() > deadline {
            return Err(left.into_iter().collect());
        }
        for process in left {
            process.signal(Signal::KILL);
            ended.insert(process);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads a process list as [`write_list`] leaves it. A missing file is an empty list.
///
/// # Errors
/// What reading the file says. Lines that make no sense are skipped.
pub fn read_list(path: &Path) -> io::Result<Vec<Process>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(text.lines().filter_map(parse_entry).collect())
}

/// Replaces a process list. It has to survive the writer's death, not the machine's: no sync.
///
/// # Errors
/// What writing says.
pub fn write_list(path: &Path, processes: &[Process]) -> io::Result<()> {
    let text: String = processes
        .iter()
        .map(|process| format!("{} {}\n", process.pid, process.start_ticks))
        .collect();
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

fn leftovers(mark: &str, listed: &[Process]) -> BTreeSet<Process> {
    let mut left: BTreeSet<Process> = listed.iter().copied().filter(|p| p.is_alive()).collect();
    left.extend(marked(mark));
    let below: Vec<Process> = left
        .iter()
        .flat_map(|process| descendants(process.pid))
        .collect();
    left.extend(below);
    left
}

fn parse_entry(line: &str) -> Option<Process> {
    let (pid, start) = line.split_once(' ')?;
    Some(Process {
        pid: pid.parse().ok()?,
        start_ticks: start.parse().ok()?,
    })
}

/// State and start time. The command name in front is in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    // Field 22 of the file; the state is field 3.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // A kernel without the children file: look at everybody's parent instead.
            Err(_) if thread.path().exists() => return children_by_parent(pid),
            Err(_) => {}
        }
    }
    found
}

fn children_by_parent(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .is_some_and(|stat| {
                let ppid = stat
                    .rsplit_once(") ")
                    .and_then(|(_, fields)| fields.split(' ').nth(1));
                ppid.and_then(|ppid| ppid.parse::<i32>().ok()) == Some(parent)
            })
    };
    all_pids().filter(is_child).collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper(mark: &str) -> Child {
        let mut command = Command::new("sleep");
        command
            .arg("60")
            .env(MARK, mark)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse_the_parser() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(("S", 4242)));
    }

    #[test]
    fn marked_processes_are_found_and_ended() {
        let mark = format!("process-test-{}", std::process::id());
        let mut child = sleeper(&mark);
        let found = marked(&mark);
        assert_eq!(
            found.iter().map(|process| process.pid).collect::<Vec<_>>(),
            [child.id() as i32]
        );
        assert_eq!(end_leftovers(&mark, &[]), Ok(1));
        assert!(!child.wait().unwrap().success());
        assert_eq!(marked(&mark), []);
    }

    #[test]
    fn a_listed_process_is_ended_only_while_it_is_the_same_one() {
        let mut child = sleeper("other");
        let process = Process::find(child.id() as i32).unwrap();
        let stranger = Process {
            start_ticks: process.start_ticks + 1,
            ..process
        };
        assert_eq!(end_leftovers("no such mark", &[stranger]), Ok(0));
        assert!(process.is_alive());
        assert_eq!(end_leftovers("no such mark", &[process]), Ok(1));
        child.wait().unwrap();
    }

    #[test]
    fn descendants_reach_grandchildren() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60 & wait"])
            .spawn()
            .unwrap();
        let root = shell.id() as i32;
        while descendants(root).len() < 2 {
            thread::yield_now();
        }
        for process in descendants(root) {
            process.signal(Signal::KILL);
        }
        shell.wait().unwrap();
    }

    #[test]
    fn a_list_survives_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("processes");
        assert_eq!(read_list(&path).unwrap(), []);
        let list = [
            Process {
                pid: 7,
                start_ticks: 9,
            },
            Process {
                pid: 8,
                start_ticks: 10,
            },
        ];
        write_list(&path, &list).unwrap();
        assert_eq!(read_list(&path).unwrap(), list);
    }
}
