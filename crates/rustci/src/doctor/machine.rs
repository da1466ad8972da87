//! What a runner, and `rustci run`, need of this machine.

use std::env;
use std::fs;
use std::path::Path;

use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};

use super::Check;

/// Fewer descriptors than that run out when a few hundred runners or jobs are there.
const NOFILE_MIN: u64 = 4_096;

/// All checks of this machine.
pub(crate) fn checks() -> Vec<Check> {
    vec![
        program("git", "sources of a server are fetched with git"),
        program("bash", "steps run with `sh -e` instead, and miss pipefail"),
        files(),
        kernel(),
    ]
}

fn program(name: &'static str, without: &str) -> Check {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    match found {
        Some(file) => Check::ok(name, file.display().to_string()),
        None => Check::warn(
            name,
            format!("{name} is not on the PATH: {without}"),
            format!("install {name}"),
        ),
    }
}

fn files() -> Check {
    let limit = getrlimit(Resource::Nofile);
    let shown =
        |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let message = format!(
        "{} open files, at most {}",
        shown(limit.current),
        shown(limit.maximum)
    );
    if limit.current.is_some_and(|current| current < NOFILE_MIN) {
        return Check::warn(
            "nofile",
            message,
            format!("raise it with `ulimit -n {NOFILE_MIN}` or LimitNOFILE="),
        );
    }
    Check::ok("nofile", message)
}

/// What of the kernel holds the processes of a job together. The runner works with what there is.
fn kernel() -> Check {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    let cgroup = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let spaces = number("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0);
    let word = |has: bool| if has { "yes" } else { "no" };
    let message = format!(
        "child subreaper: yes, pidfd: {}, cgroup v2: {}, user namespaces: {}",
        word(pidfd),
        word(cgroup),
        word(spaces)
    );
    if !pidfd {
        return Check::warn(
            "kernel",
            message,
            "Linux 5.3 and newer have all that jobs are held with",
        );
    }
    Check::ok("kernel", message)
}
