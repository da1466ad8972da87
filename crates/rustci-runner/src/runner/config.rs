//! Settings of a runner.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustci_pipeline::Executor;
use telemetry::Metrics;
use valkyrie::Endpoint;

use crate::limits::{CHUNK_CACHE_BYTES_MAX, LOG_BYTES_MAX, SOURCE_CACHE_BYTES_MAX};

/// Settings of a runner. [`RunnerConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// Unique name; a second live runner under it takes the first one's place.
    pub name: String,
    /// What jobs ask for in `runs-on`. Default: [`default_labels`].
    pub labels: Vec<String>,
    /// Jobs run at once, at least 1. Default: the number of processors.
    pub capacity: u32,
    /// Where the server is.
    pub endpoint: Endpoint,
    /// Spools, workspaces and the source cache; for this runner alone. Made if missing.
    pub state_dir: PathBuf,
    /// Executors offered. Default: native.
    pub executors: Vec<Executor>,
    /// What runs a job. Default: this very program with `__job`.
    pub job_program: JobProgram,
    /// What a job gets to end by itself when its time is up. Default: 10 s.
    pub grace: Duration,
    /// Largest log of one attempt, in bytes. Default: 1 GiB.
    pub log_bytes_max: u64,
    /// Largest cache of source archives, in bytes; the one in use is always kept. Default: 2 GiB.
    pub source_cache_bytes: u64,
    /// Largest cache of chunks of artifacts and caches, in bytes; what a job is about to use is
    /// always kept. Default: 5 GiB.
    pub chunk_cache_bytes: u64,
    /// What every job finds in its environment from this machine. Default:
    /// [`host_environment`].
    pub host_env: Vec<(String, String)>,
    /// Where workspaces are moved to when their attempt is over, as `<job>.<attempt>`, on the file
    /// system of `state_dir`; they are deleted by default. Nobody but the caller ever deletes them then.
    pub keep_workspaces: Option<PathBuf>,
    /// Where the connection is counted, and what the server is told of; not at all by default.
    pub metrics: Option<Metrics>,
    /// How often the server is told how busy this runner is, and what it counts. Default: 15 s.
    pub report_every: Duration,
}

/// A program that runs one job: called with the job's directory as its last argument, it calls
/// [`job::main`](crate::job::main).
#[derive(Clone, Debug)]
pub struct JobProgram {
    /// The program.
    pub path: PathBuf,
    /// Arguments in front of the directory.
    pub args: Vec<OsString>,
}

impl Default for JobProgram {
    /// The running program itself, even when its file was replaced meanwhile: runner and job process
    /// have to be of one version.
    fn default() -> Self {
        Self {
            path: PathBuf::from("/proc/self/exe"),
            args: vec!["__job".into()],
        }
    }
}

impl RunnerConfig {
    /// A native runner with the defaults.
    pub fn new(name: impl Into<String>, endpoint: Endpoint, state_dir: impl Into<PathBuf>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name: name.into(),
            labels: default_labels(),
            capacity: u32::try_from(processors).unwrap_or(1),
            endpoint,
            state_dir: state_dir.into(),
            executors: vec![Executor::Native],
            job_program: JobProgram::default(),
            grace: Duration::from_secs(10),
            log_bytes_max: LOG_BYTES_MAX,
            source_cache_bytes: SOURCE_CACHE_BYTES_MAX,
            chunk_cache_bytes: CHUNK_CACHE_BYTES_MAX,
            host_env: host_environment(),
            keep_workspaces: None,
            metrics: None,
            report_every: Duration::from_secs(15),
        }
    }
}

/// The labels a runner has without being told: operating system and processor. The server adds
/// `executor=..` for each executor.
pub fn default_labels() -> Vec<String> {
    vec![
        "os=linux".to_owned(),
        format!("arch={}", crate::job::arch()),
    ]
}

/// What jobs get of this process's environment: where programs are, and nothing else.
///
/// `PATH` and `USER`; `RUSTUP_HOME` (or `~/.rustup` where it exists), `GOROOT` and `JAVA_HOME`,
/// without which programs on the `PATH` do not work under the job's own `HOME`.
pub fn host_environment() -> Vec<(String, String)> {
    let var = |name: &str| env::var(name).ok().map(|value| (name.to_owned(), value));
    let mut found: Vec<(String, String)> = ["PATH", "USER", "RUSTUP_HOME", "GOROOT", "JAVA_HOME"]
        .into_iter()
        .filter_map(var)
        .collect();
    if let Some((_, home)) = var("HOME").filter(|_| env::var_os("RUSTUP_HOME").is_none()) {
        let rustup = Path::new(&home).join(".rustup");
        if rustup.is_dir() {
            found.push((
                "RUSTUP_HOME".to_owned(),
                rustup.to_string_lossy().into_owned(),
            ));
        }
    }
    found
}
