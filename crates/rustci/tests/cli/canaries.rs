//! Secrets that are printed, handed on and failed with in every way, and then looked for in
//! everything that is left: they are nowhere.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustci_runner::log::forms;

use crate::http::Http;
use crate::world::{Said, World};

/// Values with something for every encoding to change; one has several lines.
const CANARIES: [(&str, &str); 3] = [
    ("PLAIN", "cnry-7f3a9c01-plain-value"),
    ("ODD", "cnry 5d/+e=\"q\" 'x'\\y&<z>%{#}~$P"),
    ("LINES", "cnry-first-5521-line\ncnry-second-8812-line"),
];

/// What a step finds out by itself.
const FOUND: &str = "cnry-found-out-4410";

/// Prints the canaries as programs do.
const PRINT: &str = include_str!("canaries.py");

fn pipeline() -> String {
    let print = PRINT.trim_end().replace('\n', "\n          ");
    format!(
        r#"
name: canaries
jobs:
  leak:
    secrets: [PLAIN, ODD, LINES]
    outputs:
      plain: ${{{{ steps.print.outputs.plain }}}}
      lines: "x ${{{{ steps.print.outputs.lines }}}}"
      found: ${{{{ steps.print.outputs.found }}}}
    reports: {{ junit: junit.xml }}
    cache: {{ key: "canaries-${{{{ hashFiles('junit.xml') }}}}", paths: [cached], when: always }}
    artifacts:
      - {{ name: kept, paths: ["kept/**"], when: always }}
      - {{ name: named, paths: ["named/**"], when: always }}
    steps:
      - id: print
        shell: python
        run: |
          {print}
      - name: step ${{{{ steps.print.outputs.plain }}}}
        run: |
          mkdir kept named cached
          echo ok | tee kept/ok cached/ok
          echo "in a name" > "named/$PLAIN"
          set -x; echo "$ODD"; "$PLAIN"
        continue-on-error: true
      - run: cd "$LINES"
        continue-on-error: true
      - working-directory: no/${{{{ steps.print.outputs.found }}}}
        run: echo
        continue-on-error: true
      - run: echo "a line of more than sixty characters, in which it is cut $PLAIN" >> "$CI_OUTPUT"
        continue-on-error: true
      - run: echo "relative/$ODD" >> "$CI_PATH"; echo "CI_X=$PLAIN" >> "$CI_ENV"
        continue-on-error: true
      - name: fails with ${{{{ steps.print.outputs.found }}}}
        run: exit 9
  after:
    needs: [leak]
    if: always()
    env: {{ GOT: "${{{{ needs.leak.outputs.plain }}}} ${{{{ needs.leak.outputs.found }}}}" }}
    steps:
      - run: echo "got $GOT"
"#
    )
}

/// What must not be found anywhere.
fn hunted() -> BTreeSet<Vec<u8>> {
    let values = CANARIES.iter().map(|(_, value)| *value).chain([FOUND]);
    let mut all: BTreeSet<Vec<u8>> = values.flat_map(|value| forms(value.as_bytes())).collect();
    // Pieces that no encoding of these forms leaves whole, in case the forms themselves are wrong.
    let pieces = [
        "7f3a9c01",
        "5d/+e=",
        "first-5521",
        "second-8812",
        "out-4410",
        "NWQvK2U9",
        "35642f2b653d",
    ];
    all.extend(pieces.map(|piece| piece.as_bytes().to_vec()));
    all
}

#[track_caller]
fn check_clean(what: &str, bytes: &[u8]) {
    if let Some((at, form)) = Hunt::new().find(bytes) {
        let around = &bytes[at.saturating_sub(80)..(at + form.len() + 40).min(bytes.len())];
        panic!(
            "{what} holds {:?}: ...{}...",
            String::from_utf8_lossy(&form),
            String::from_utf8_lossy(around)
        );
    }
}

/// All forms at once, by their first two bytes: preallocated files are large.
struct Hunt(Vec<Vec<Vec<u8>>>);

impl Hunt {
    fn new() -> Self {
        let mut by_start = vec![Vec::new(); 1 << 16];
        for form in hunted() {
            by_start[usize::from(u16::from_be_bytes([form[0], form[1]]))].push(form);
        }
        Self(by_start)
    }

    fn find(&self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        const BLOCK: usize = 4096;
        let empty = [0; BLOCK];
        for (number, block) in bytes.chunks(BLOCK).enumerate() {
            if block == &empty[..block.len()] {
                continue;
            }
            for at in number * BLOCK..number * BLOCK + block.len() {
                let Some([first, second]) = bytes.get(at..at + 2) else {
                    continue;
                };
                let forms = &self.0[usize::from(u16::from_be_bytes([*first, *second]))];
                let found = forms.iter().find(|form| bytes[at..].starts_with(form));
                if let Some(form) = found {
                    return Some((at, form.clone()));
                }
            }
        }
        None
    }
}

#[track_caller]
fn check_said(what: &str, said: &Said) {
    check_clean(what, said.out.as_bytes());
    check_clean(what, said.err.as_bytes());
}

/// Looks at every process of the machine, again and again, until it is told to stop.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !seen.load(Ordering::Relaxed) {
                looks += look_at_processes();
                std::thread::sleep(Duration::from_millis(20));
            }
            looks
        });
        Self { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.thread.join().expect("no canary in a process list") > 0);
    }
}

/// No command line has a canary, and no environment but that of the steps, which asked for them.
fn look_at_processes() -> usize {
    let mut looked = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let is_step = environment.windows(11).any(|name| name == b"CI_STEP_TRY")
            && !line.windows(5).any(|word| word == b"__job");
        let known = CANARIES
            .iter()
            .flat_map(|(_, value)| value.lines())
            .chain([FOUND]);
        for value in known {
            let holds = |bytes: &[u8]| bytes.windows(value.len()).any(|w| w == value.as_bytes());
            assert!(
                !holds(&line),
                "a command line: {}",
                String::from_utf8_lossy(&line)
            );
            assert!(
                is_step || !holds(&environment),
                "the environment of {}",
                String::from_utf8_lossy(&line)
            );
        }
        looked += 1;
    }
    looked
}

fn world() -> World {
    let world = World::with_pipeline(&pipeline());
    fs::create_dir(world.path("tmp")).unwrap();
    world
}

/// The program with its temporary files in the world.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.env("TMPDIR", world.path("tmp"));
    command
}

fn set_secrets(world: &World, place: &[&str]) {
    for (name, value) in CANARIES {
        let args = [&["secrets", "set", name], place].concat();
        world.rustci_reading(&args, value).ended_with(0);
    }
}

/// The run went as it should: otherwise nothing could have leaked.
fn check_run(world: &World, place: &[&str]) {
    let rustci = |args: &[&str]| {
        let args = [args, place].concat();
        let said = world.rustci(&args).ended_with(0);
        check_said(&args.join(" "), &said);
        said
    };
    let view = rustci(&["runs", "view", "1", "--json"]).json().remove(0);
    let leak = &view["jobs"][0];
    assert_eq!(leak["outputs"]["plain"], "***");
    assert_eq!(leak["outputs"]["lines"], "x ***\n***");
    assert_eq!(leak["steps"][1]["name"], "step ***");
    assert_eq!(leak["steps"][6]["message"], "exit code 9");
    let ended = |at: usize| leak["steps"][at]["message"].as_str().unwrap().to_owned();
    assert!(
        ended(1).contains("127") && ended(3).contains("no/***"),
        "{leak}"
    );
    assert!(ended(4).contains("it is cut ***"), "{}", ended(4));
    let log = rustci(&["runs", "logs", "1"]).out;
    assert!(log.matches("***").count() > 100, "{log}");
    assert!(
        log.contains("got *** ***") && log.contains("+ echo '***'"),
        "{log}"
    );
    for args in [
        &["runs", "list"][..],
        &["runs", "view", "1"],
        &["runs", "logs", "1", "--json"],
        &["runs", "summary", "1"],
        &["runs", "summary", "1", "--json"],
        &["tests", "1"],
        &["tests", "1", "--all", "--json"],
        &["tests", "--slowest", "--json"],
        &["secrets", "list", "--json"],
        &["explain", "1"],
        &["explain", "1", "--json"],
        &["artifacts", "list", "1"],
        &["artifacts", "list", "1", "--json"],
        &["cache", "list", "--json"],
    ] {
        rustci(args);
    }
}

#[test]
fn a_local_run_leaves_no_canary_anywhere() {
    let world = world();
    set_secrets(&world, &[]);
    let watch = Watch::start();
    for args in [&["run"][..], &["run", "--json"]] {
        let said = Said::from(command(&world, args).output().unwrap()).ended_with(1);
        check_said(&args.join(" "), &said);
    }
    watch.finish();
    check_run(&world, &[]);
    check_clean("the files", &World::bytes_below(&world.path("")));
}

/// A program of the control plane, its words in a file of the world.
struct Service(std::process::Child);

impl Service {
    fn start(world: &World, name: &str, args: &[&str]) -> Self {
        let said = |ending: &str| File::create(world.path(&format!("{name}.{ending}"))).unwrap();
        let child = command(world, args)
            .env("RUSTCI_LOG", "debug")
            .stdout(Stdio::from(said("out")))
            .stderr(Stdio::from(said("err")))
            .spawn();
        Self(child.unwrap())
    }

    fn end(mut self) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every answer of the server that has to do with the run.
fn check_answers(http: &Http) {
    let paths = [
        "/api/v1/runs",
        "/api/v1/runs/1",
        "/api/v1/runs/1/events",
        "/api/v1/runs/1/tests?limit=200",
        "/api/v1/runs/1/summaries",
        "/api/v1/runs/1/explain",
        "/api/v1/runs/1/artifacts",
        "/api/v1/artifacts/1",
        "/api/v1/artifacts/1/files/kept/ok",
        "/api/v1/artifacts/1/archive?format=tar",
        "/api/v1/artifacts/1/archive?format=zip",
        "/api/v1/caches",
        "/api/v1/queue",
        "/api/v1/state",
        "/api/v1/runs/1/jobs/1/log",
        "/api/v1/runs/1/jobs/1/log?tail=50",
        "/api/v1/projects/project/tests",
        "/api/v1/projects/project/tests/1",
        "/api/v1/secrets",
        "/api/v1/runners",
        "/metrics",
    ];
    for path in paths {
        let (status, body) = http.ask("GET", path, "").unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        check_clean(path, &body);
    }
}

#[test]
fn a_server_and_a_runner_keep_no_canary_anywhere() {
    let world = world();
    let socket = format!("valkyrie+unix://{}", world.path("rustci.sock").display());
    let watch = Watch::start();
    let serve = [
        "serve",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--valkyrie",
        &socket,
    ];
    let server = Service::start(&world, "server", &serve);
    let url = wait_for(|| address(&world.path("server.out")));
    let runner = Service::start(
        &world,
        "runner",
        &["runner", "--connect", &socket, "--name", "one"],
    );
    let place = ["--server", url.as_str()];
    set_secrets(&world, &place);
    for args in [&["run"][..], &["run", "--json"]] {
        let args = [args, &place].concat();
        let said = Said::from(command(&world, &args).output().unwrap()).ended_with(1);
        check_said(&args.join(" "), &said);
    }
    check_run(&world, &place);
    let token = fs::read_to_string(world.path("state/rustci/server/token")).unwrap();
    check_answers(&Http {
        url: url.clone(),
        token: token.trim().to_owned(),
    });
    // The files of running jobs are gone with them, also before the programs end.
    check_clean("the files", &World::bytes_below(&world.path("")));
    runner.end();
    server.end();
    watch.finish();
    check_clean("the files afterwards", &World::bytes_below(&world.path("")));
}

/// The address in what the server said first.
fn address(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.contains("\"http\""))?;
    let ready: serde_json::Value = serde_json::from_str(line).ok()?;
    ready["http"].as_str().map(str::to_owned)
}

#[test]
fn a_canary_that_is_left_would_be_found() {
    let world = world();
    fs::write(world.path("left"), "x 636e72792035642f2b653d x").unwrap();
    let files = World::bytes_below(&world.path(""));
    assert!(std::panic::catch_unwind(|| check_clean("files", &files)).is_err());
}
