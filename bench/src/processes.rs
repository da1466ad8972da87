//! The real programs, started and watched from outside.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The `rustci` program: the one that `RUSTCI_BENCH_PROGRAM` names, or one built beside this.
pub(crate) fn rustci() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("RUSTCI_BENCH_PROGRAM") {
        return Ok(program.into());
    }
    build(&["-p", "rustci"])?;
    beside("rustci")
}

/// The `yggdrasil` program: the one that `YGGDRASIL_BENCH_PROGRAM` names, or one built beside this.
pub(crate) fn yggdrasil() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("YGGDRASIL_BENCH_PROGRAM") {
        return Ok(program.into());
    }
    build(&["-p", "yggdrasil-cli"])?;
    beside("yggdrasil")
}

/// The program of this package that counts allocations, built with the features that this one has.
pub(crate) fn allocations() -> Result<PathBuf> {
    let name = "rustci-bench-allocations";
    let mut arguments = vec!["-p", "rustci-bench", "--bin", name];
    if !cfg!(feature = "peers") {
        arguments.push("--no-default-features");
    }
    build(&arguments)?;
    beside(name)
}

fn build(what: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet"])
        .args(what)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "cargo build {} failed", what.join(" "));
    Ok(())
}

/// A program in the directory of this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing", path.display());
    Ok(path)
}

/// A process that ends with its handle.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[&str], directory: &Path) -> Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .env("XDG_STATE_HOME", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(child))
    }

    /// Resident memory in MB.
    pub(crate) fn rss_mb(&self) -> Result<f64> {
        Ok(self.rss_kib()? * 1024.0 / 1e6)
    }

    /// Processor time of its main thread in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.0.id()))?;
        let nanos = stat.split_whitespace().next().context("no schedstat")?;
        Ok(nanos.parse::<f64>()? / 1e3)
    }

    /// Processor time of all its threads in microseconds.
    pub(crate) fn all_cpu_us(&self) -> Result<f64> {
        let mut nanos = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let run = stat.split_whitespace().next().context("no schedstat")?;
            nanos += run.parse::<f64>()?;
        }
        Ok(nanos / 1e3)
    }

    /// Processor time that it spent outside of the kernel, in microseconds, by the kernel's ticks.
    pub(crate) fn user_us(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The name of the program, in parentheses, may have spaces.
        let (_, fields) = stat.rsplit_once(')').context("no stat")?;
        let ticks = fields.split_whitespace().nth(11).context("no utime")?;
        let each = 1e6 / rustix::param::clock_ticks_per_second() as f64;
        Ok(ticks.parse::<f64>()? * each)
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Tries until `probe` gives true.
pub(crate) fn wait_for(what: &str, mut probe: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !probe() {
        if Instant::now() > deadline {
            bail!("{what} did not happen within 10 s");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
