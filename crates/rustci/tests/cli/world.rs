//! A home of its own for each test, and the program in it.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A directory with a project and a home in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("project")).unwrap();
        Self { dir }
    }

    /// With a project that has this pipeline.
    pub(crate) fn with_pipeline(text: &str) -> Self {
        let world = Self::new();
        world.write(".rustci.yaml", text);
        world
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The program with `args`, not started yet, in the project's directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustci"));
        command
            .args(args)
            .current_dir(self.project())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["RUSTCI_", "OTEL_", "TRACEPARENT"]
                .iter()
                .any(|own| name.starts_with(own))
            {
                command.env_remove(&*name);
            }
        }
        command
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env_remove("NO_COLOR");
        command
    }

    /// Runs the program to its end. What it says must never hold an escape sequence: it is a pipe.
    pub(crate) fn rustci(&self, args: &[&str]) -> Said {
        let said = Said::from(self.command(args).output().unwrap());
        assert!(!said.out.contains('\u{1b}'), "{}", said.out);
        assert!(!said.err.contains('\u{1b}'), "{}", said.err);
        said
    }

    /// Runs the program to its end with `input` on its standard input.
    pub(crate) fn rustci_reading(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that refuses its arguments may end before it reads.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Said::from(child.wait_with_output().unwrap())
    }

    /// Every byte of every file below `path`.
    pub(crate) fn bytes_below(path: &Path) -> Vec<u8> {
        let mut open = vec![path.to_owned()];
        let mut bytes = Vec::new();
        while let Some(path) = open.pop() {
            let Ok(kind) = fs::symlink_metadata(&path) else {
                continue;
            };
            if kind.is_dir() {
                open.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else if kind.is_file() {
                // A file may go while a server works beside the test.
                bytes.extend(fs::read(&path).unwrap_or_default());
            }
        }
        bytes
    }

    /// Starts the program and reads its lines while it runs.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running {
            child,
            lines: Some(lines),
        }
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Fails with everything that was said unless the program ended with `code`.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    pub(crate) fn has_lines(&self, lines: &[&str]) {
        for line in lines {
            assert!(
                self.out.lines().any(|said| said == *line),
                "no line {line:?} in\n{}",
                self.out
            );
        }
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        assert!(self.out.contains(text), "no {text:?} in\n{}", self.out);
    }

    #[track_caller]
    pub(crate) fn complains(&self, text: &str) {
        assert!(self.err.contains(text), "no {text:?} in\n{}", self.err);
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A program that runs beside the test; killed with it.
pub(crate) struct Running {
    child: Child,
    /// None once nobody reads them.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Running {
    /// Reads on to the first line with `text` in it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.iter_mut().flatten() {
            let line = line.unwrap();
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("ended without {text:?}:\n{}", seen.join("\n"));
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// SIGKILL, and until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the pipe that the program writes to and gives its exit code.
    pub(crate) fn stop_reading(mut self) -> Option<i32> {
        self.lines = None;
        self.child.wait().unwrap().code()
    }

    /// Reads to the end and gives the exit code.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self
            .lines
            .iter_mut()
            .flatten()
            .map(Result::unwrap)
            .collect();
        (self.child.wait().unwrap().code(), rest.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of `examples/`, copied, so that tests leave nothing behind in it.
pub(crate) fn example(world: &World, name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    let to = world.path(name);
    let status = Command::new("cp").arg("-r").arg(&from).arg(&to).status();
    assert!(status.unwrap().success());
    to
}

/// Whether some process has `text` in its command line.
pub(crate) fn is_running(text: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines =
        processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines.any(|line| String::from_utf8_lossy(&line).contains(text))
}
