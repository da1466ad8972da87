//! Where servers and local runs keep their data.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::project::Project;

/// How many local runs of one project may go on at the same time.
const LOCAL_RUNS_MAX: u32 = 64;

/// The directory of `rustci serve`: the one given, that of `RUSTCI_DATA`, or the default.
pub(crate) fn server_data(given: Option<&Path>) -> PathBuf {
    let named = given
        .map(Path::to_owned)
        .or_else(|| env::var_os("RUSTCI_DATA").map(PathBuf::from));
    named.unwrap_or_else(|| state_home().join("server"))
}

/// The key of a server's secrets when it is not in the data directory: the one given, or the
/// systemd credential.
pub(crate) fn secrets_key(given: Option<&Path>) -> Option<PathBuf> {
    let credential = || {
        let dir = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)?;
        Some(dir.join("rustci-secrets-key")).filter(|key| key.exists())
    };
    given.map(Path::to_owned).or_else(credential)
}

/// The state directory of `rustci runner` under `name`.
pub(crate) fn runner_state(given: Option<&Path>, name: &str) -> PathBuf {
    given.map_or_else(|| state_home().join("runner").join(name), Path::to_owned)
}

/// The directories that local runs of `project` may have used, those that exist, in order.
pub(crate) fn local_data_all(project: &Project) -> Vec<PathBuf> {
    (1..=LOCAL_RUNS_MAX)
        .map(|n| local_data(project, n))
        .filter(|dir| dir.is_dir())
        .collect()
}

/// A directory for a local run of `project` that no other process uses: the one given, or the first
/// free one.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn local_data_free(project: &Project, given: Option<&Path>) -> Result<PathBuf, Failure> {
    let numbered = (1..=LOCAL_RUNS_MAX).map(|n| local_data(project, n));
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => numbered
            .into_iter()
            .find(|dir| is_free(dir))
            .ok_or_else(|| Failure::Usage {
                message: format!("{LOCAL_RUNS_MAX} runs of this project are going on already"),
                hint: "wait for one of them, or pass --data-dir".to_owned(),
            })?,
    };
    match fs::create_dir_all(&dir) {
        Ok(()) => Ok(dir),
        Err(cause) => Err(Failure::DataDir { path: dir, cause }),
    }
}

/// `path` with the home directory as `~`.
pub(crate) fn tilde(path: &Path) -> String {
    let home = env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.as_os_str() != "/");
    match home
        .as_deref()
        .and_then(|home| path.strip_prefix(home).ok())
    {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

/// Where the secrets of local runs of `project` are kept.
pub(crate) fn local_secrets(project: &Project) -> PathBuf {
    state_home().join("secrets").join(local_name(project))
}

/// The directory of the `number`th local run of `project` at the same time, from 1.
pub(crate) fn local_data(project: &Project, number: u32) -> PathBuf {
    let suffix = if number > 1 {
        format!(".{number}")
    } else {
        String::new()
    };
    state_home()
        .join("local")
        .join(local_name(project) + &suffix)
}

/// A name that no other project has.
fn local_name(project: &Project) -> String {
    let hash = blake3::hash(project.root.as_os_str().as_encoded_bytes()).to_hex();
    let short: String = hash.chars().take(8).collect();
    format!("{}-{short}", project.name)
}

/// Whether no process holds the lock file of `dir`. The server takes the lock itself; between this
/// look and that, another process may be faster, and then the server says so.
fn is_free(dir: &Path) -> bool {
    match File::open(dir.join("lock")) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => true,
    }
}

fn state_home() -> PathBuf {
    let given = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    given
        .or_else(home)
        .unwrap_or_else(env::temp_dir)
        .join("rustci")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_is_not_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_free(dir.path()));
        let lock = File::create(dir.path().join("lock")).unwrap();
        assert!(is_free(dir.path()));
        lock.lock().unwrap();
        assert!(!is_free(dir.path()));
    }
}
