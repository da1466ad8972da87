//! Every `sh` block of README.md and docs/*.md runs as written.
//!
//! The blocks of a document are one script, run from top to bottom: what an earlier block sets or
//! makes is there for the later ones. They run in a home of their own, in a git repository `demo`
//! with a pipeline, beside a server with seven finished runs, a runner that is connected and one,
//! `red`, that is not. `$RUSTCI_SERVER` and `$RUSTCI_TOKEN_FILE` name that server; commands find it
//! by themselves only in the documents of [`ABOUT_SERVERS`]. What a step of a job sees, such as
//! `$CI_OUTPUT`, is there too. A block that is an illustration only has another fence.

#![cfg(test)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Documents whose commands ask the server without being told to.
const ABOUT_SERVERS: [&str; 4] = [
    "docs/api.md",
    "docs/explain.md",
    "docs/operations.md",
    "docs/queue.md",
];

const PIPELINE: &str = r#"
name: shop
jobs:
  test: { steps: [{ run: echo testing }] }
  build: { needs: [test], steps: [{ run: echo building }] }
"#;

/// An answer that is an error is an error of the block. What a script leaves running ends with it:
/// it would hold the pipes that its output is read from.
const PRELUDE: &str = "trap 'kill $(jobs -p) 2> /dev/null || :' EXIT
curl() { command curl -fsS \"$@\"; }
";

/// Seconds until a script that waits for something that does not come is ended.
const LIMIT: &str = "240";

/// Runs that are there before the documents begin: some of them speak of run 7.
const RUNS: usize = 7;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The directory with the program that the tests are about.
fn program_dir() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let dir = root().join(target).join("debug");
    for (program, package) in [
        ("rustci", "rustci"),
        ("valkyrie", "valkyrie-cli"),
        ("yggdrasil", "yggdrasil-cli"),
    ] {
        assert!(
            dir.join(program).is_file(),
            "{} is not built; run: cargo build -p {package}",
            dir.join(program).display()
        );
    }
    dir
}

/// A block: the line it begins at, and its text.
struct Block {
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let fence = line.trim_start();
        match (inside, fence.starts_with("```")) {
            (true, true) => inside = false,
            (true, false) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            (false, _) if fence == "```sh" => {
                inside = true;
                let text = String::new();
                blocks.push(Block {
                    line: number + 1,
                    text,
                });
            }
            (false, _) => {}
        }
    }
    blocks
}

/// What a command of a document asks when it names no server.
#[derive(Clone, Copy)]
enum Asks {
    /// The one beside it.
    TheServer,
    /// This machine, unless it says otherwise.
    WhatItSays,
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A home with a project, and a server beside it.
struct Sandbox {
    home: PathBuf,
    url: String,
    _server: Running,
    _runner: Running,
}

impl Sandbox {
    fn new() -> Self {
        let home = std::env::temp_dir().join(format!("documents-{}", std::process::id()));
        fs::create_dir_all(home.join("demo")).unwrap();
        fs::write(home.join("demo/.rustci.yaml"), PIPELINE).unwrap();
        let mut serve = rustci(&home);
        let socket = format!("valkyrie+unix://{}", home.join("s").display());
        serve.args([
            "serve",
            "--json",
            "--http",
            "127.0.0.1:0",
            "--valkyrie",
            &socket,
        ]);
        let log = fs::File::create(home.join("server.log")).unwrap();
        let mut server = Running(serve.stdout(Stdio::piped()).stderr(log).spawn().unwrap());
        let mut line = String::new();
        let mut lines = BufReader::new(server.0.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let red = start_runner(&home, &socket, "red");
        drop(red);
        let sandbox = Self {
            url: ready["http"].as_str().unwrap().to_owned(),
            _runner: start_runner(&home, &socket, "one"),
            _server: server,
            home,
        };
        sandbox.prepare();
        sandbox
    }

    fn prepare(&self) {
        let script = "git init -q -b main . && git add -A \
            && git -c user.name=d -c user.email=d@example.org commit -qm first";
        self.run(
            "a git repository",
            &format!("set -e\n{script}\n"),
            Asks::WhatItSays,
        );
        let run = "rustci run --server \"$RUSTCI_SERVER\" > /dev/null\n".repeat(RUNS);
        self.run("finished runs", &format!("set -e\n{run}"), Asks::WhatItSays);
    }

    /// Runs a script in the project. Everything that it says is shown when it fails.
    fn run(&self, what: &str, script: &str, asks: Asks) {
        let work = self.home.join("step");
        fs::create_dir_all(&work).unwrap();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT, "bash"]);
        command.env_clear().current_dir(self.home.join("demo"));
        let path = format!(
            "{}:{}",
            program_dir().display(),
            std::env::var("PATH").unwrap()
        );
        command.env("PATH", path).env("HOME", &self.home);
        for name in [
            "CI_OUTPUT",
            "CI_ENV",
            "CI_PATH",
            "CI_STEP_SUMMARY",
            "CI_MASK",
        ] {
            command.env(name, work.join(name));
        }
        command.env("CI_WORKSPACE", self.home.join("demo"));
        let token = self.home.join(".local/state/rustci/server/token");
        let export = match asks {
            Asks::TheServer => "export ",
            Asks::WhatItSays => "",
        };
        let names = format!(
            "{export}RUSTCI_SERVER={}\nRUSTCI_TOKEN_FILE={}\n{PRELUDE}",
            self.url,
            token.display()
        );
        let output = command
            .args(["-euo", "pipefail", "-c", &format!("{names}{script}")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let place = said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("::block "));
        assert!(
            output.status.success(),
            "{}: {}\n{said}\n{}",
            place.unwrap_or(what),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// The program in a home of its own.
fn rustci(home: &Path) -> Command {
    let mut command = Command::new(program_dir().join("rustci"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var("PATH").unwrap());
    command.stdin(Stdio::null());
    command
}

fn start_runner(home: &Path, socket: &str, name: &str) -> Running {
    let mut command = rustci(home);
    command.args(["runner", "--connect", socket, "--name", name]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so in its log once the server knows it.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let registered = lines.any(|line| line.unwrap().contains("registered"));
    assert!(registered, "runner {name} did not register");
    std::thread::spawn(move || lines.for_each(drop));
    Running(child)
}

fn documents() -> Vec<String> {
    let list = Command::new("git")
        .args(["ls-files", "README.md", "docs/*.md"])
        .current_dir(root())
        .output()
        .unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    names.lines().map(str::to_owned).collect()
}

#[test]
fn every_block_of_the_documents_runs() {
    let sandbox = Sandbox::new();
    for name in documents() {
        let text = fs::read_to_string(root().join(&name)).unwrap();
        let blocks = blocks(&text);
        let script: String = blocks
            .iter()
            .map(|block| format!("echo '::block {name}:{}'\n{}", block.line, block.text))
            .collect();
        if !script.is_empty() {
            let asks = match ABOUT_SERVERS.contains(&name.as_str()) {
                true => Asks::TheServer,
                false => Asks::WhatItSays,
            };
            sandbox.run(&name, &script, asks);
        }
    }
}

#[test]
fn blocks_are_found_with_their_lines() {
    let text = "a\n```sh\none\ntwo\n```\n```json\n{}\n```\n```sh\nthree\n```\n";
    let found: Vec<_> = blocks(text)
        .into_iter()
        .map(|block| (block.line, block.text))
        .collect();
    assert_eq!(
        found,
        [(3, "one\ntwo\n".to_owned()), (10, "three\n".to_owned())]
    );
}
