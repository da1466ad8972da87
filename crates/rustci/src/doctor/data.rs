//! The data directory of a server.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustci_server::inspect;
use rustci_server::secrets::{KEY_FILE, KeyPlace, SECRETS_DIR, SecretStore};
use rustci_server::token::TOKEN_FILE;
use rustix::fs::statvfs;

use super::Check;

/// Less free space than that ends soon.
const FREE_BYTES_WARN: u64 = 1 << 30;
/// Less than that does not hold the next journal segments.
const FREE_BYTES_FAIL: u64 = 64 << 20;
/// Fewer free inodes than this share of all, in percent, end soon.
const FREE_INODES_PERCENT: u64 = 5;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The journal.
    Quick,
    /// Everything.
    Deep,
}

/// All checks of the data directory `dir`.
pub(crate) fn checks(dir: &Path, depth: Depth) -> Vec<Check> {
    if !dir.join("journal").is_dir() {
        let message = format!("{} has no journal", dir.display());
        let hint = "name the directory that `rustci serve` prints as `data`";
        return vec![Check::fail("data_dir", message, hint)];
    }
    let mut checks = vec![permissions(dir), disk(dir), inodes(dir)];
    match holder(dir) {
        Some(pid) => {
            let message = format!("process {pid} runs a server on it, so its journal is not read");
            checks.push(Check::ok("journal", message));
            checks.push(catalogue(dir, None));
        }
        None => {
            let (check, index) = journal(dir);
            checks.push(check);
            checks.push(catalogue(dir, index));
        }
    }
    checks.push(secrets(dir));
    if depth == Depth::Deep {
        let logs = inspect::logs(dir);
        checks.push(files(
            "logs",
            logs,
            "logs",
            "somebody changed them, or the disk did",
        ));
        let blobs = inspect::blobs(dir);
        checks.push(files("blobs", blobs, "blobs", "restore them from a backup"));
    }
    checks
}

/// The process that has the directory.
fn holder(dir: &Path) -> Option<String> {
    let path = dir.join("lock");
    let file = File::open(&path).ok()?;
    match file.try_lock() {
        Ok(()) => None,
        Err(_) => Some(
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned(),
        ),
    }
}

/// Directory, token and key are for their owner only.
fn permissions(dir: &Path) -> Check {
    let paths = [dir.to_owned(), dir.join(TOKEN_FILE), dir.join(KEY_FILE)];
    for path in paths.iter().filter(|path| path.exists()) {
        let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode());
        if mode & 0o077 != 0 {
            let message = format!("others can use {}", path.display());
            let hint = format!("chmod go= {}", path.display());
            return Check::warn("permissions", message, hint);
        }
    }
    Check::ok("permissions", "for their owner only")
}

fn disk(dir: &Path) -> Check {
    let Ok(disk) = statvfs(dir) else {
        return Check::fail(
            "disk",
            "the file system does not answer",
            "look at the machine's log",
        );
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let message = format!("{} MiB free", free >> 20);
    let hint = "free space; the server stops taking work when it cannot write";
    match free {
        free if free < FREE_BYTES_FAIL => Check::fail("disk", message, hint),
        free if free < FREE_BYTES_WARN => Check::warn("disk", message, hint),
        _ => Check::ok("disk", message),
    }
}

fn inodes(dir: &Path) -> Check {
    let Ok(disk) = statvfs(dir) else {
        return Check::fail(
            "inodes",
            "the file system does not answer",
            "look at the machine's log",
        );
    };
    if disk.f_files == 0 {
        return Check::ok("inodes", "not limited");
    }
    let percent = disk.f_favail.saturating_mul(100) / disk.f_files;
    let message = format!("{percent} % free");
    if percent < FREE_INODES_PERCENT {
        return Check::warn(
            "inodes",
            message,
            "remove small files; each log and each chunk takes one",
        );
    }
    Check::ok("inodes", message)
}

fn journal(dir: &Path) -> (Check, Option<u64>) {
    match inspect::journal(dir) {
        Ok(facts) => {
            let message = format!("index {}, {} runs in its state", facts.index, facts.runs);
            (Check::ok("journal", message), Some(facts.index))
        }
        Err(error) => (
            Check::fail("journal", error, "restore a backup into a new directory"),
            None,
        ),
    }
}

fn catalogue(dir: &Path, journal: Option<u64>) -> Check {
    let hint = "delete catalogue.sqlite; the next start rebuilds what the journal has";
    match inspect::catalogue(dir) {
        Ok(facts) if journal.is_some_and(|index| facts.applied > index) => {
            let message = format!(
                "it knows index {}, which the journal has not",
                facts.applied
            );
            Check::warn("catalogue", message, "the next start rebuilds it")
        }
        Ok(facts) => Check::ok("catalogue", format!("whole, index {}", facts.applied)),
        Err(error) => Check::fail("catalogue", error, hint),
    }
}

fn secrets(dir: &Path) -> Check {
    let opened = SecretStore::open(&dir.join(SECRETS_DIR), KeyPlace::Own(dir.join(KEY_FILE)));
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            return Check::warn(
                "secrets",
                error.to_string(),
                "a key elsewhere is not looked for here",
            );
        }
    };
    let list = store.list();
    let projects = list
        .iter()
        .map(|one| one.scope.project().unwrap_or_default());
    let bad = projects
        .into_iter()
        .find_map(|project| store.values(project).err());
    match bad {
        Some(error) => Check::fail("secrets", error.to_string(), "set the secrets again"),
        None => Check::ok("secrets", format!("{} kept, all can be opened", list.len())),
    }
}

fn files(
    id: &'static str,
    checked: Result<(usize, Vec<String>), String>,
    what: &str,
    hint: &str,
) -> Check {
    match checked {
        Ok((count, bad)) if bad.is_empty() => {
            Check::ok(id, format!("{count} {what} are what they were"))
        }
        Ok((count, bad)) => {
            let shown: Vec<&str> = bad.iter().take(3).map(String::as_str).collect();
            let message = format!(
                "{} of {count} {what} were changed: {}",
                bad.len(),
                shown.join(", ")
            );
            Check::fail(id, message, hint)
        }
        Err(error) => Check::fail(id, error, "look at the disk"),
    }
}
