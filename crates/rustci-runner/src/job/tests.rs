//! The job process from outside: orders in, reports, log and result out. Real processes throughout.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustci_pipeline::v1;
use rustci_pipeline::v1::step_event::Kind;
use valkyrie_frame::{LogChannel, LogRecords, v2};

mod files;
mod together;

use super::directory::JobDirectory;
use super::message::{
    self, Begin, Cancel, Ending, EndingKind, Failed, Identity, Order, OrderKind, Report,
    ReportKind, Upload, Uploaded,
};
use crate::process;

/// A started job process.
struct Run {
    child: Child,
    dir: JobDirectory,
    mark: String,
    received: Vec<u8>,
    _parent: tempfile::TempDir,
}

/// What was there when it had ended.
struct Outcome {
    ending: Option<Ending>,
    reports: Vec<ReportKind>,
    log: Vec<(u16, LogChannel, String)>,
    dir: JobDirectory,
    _parent: tempfile::TempDir,
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/runner");
    assert!(
        program.exists(),
        "build it: cargo build -p rustci-runner --example runner"
    );
    program
}

fn step(run: &str) -> v1::Step {
    v1::Step {
        name: "step".to_owned(),
        run: run.to_owned(),
        ..Default::default()
    }
}

fn spec(steps: impl IntoIterator<Item = v1::Step>) -> v1::JobSpec {
    let contexts_json = r#"{"matrix":{"db":"sqlite"},"event":{"name":"push"}}"#.to_owned();
    v1::JobSpec {
        run: 1,
        contexts_json,
        steps: steps.into_iter().collect(),
        ..Default::default()
    }
}

fn begin(spec: v1::JobSpec) -> Begin {
    let path = std::env::var("PATH").unwrap();
    Begin {
        attempt: Some(v2::Attempt {
            job: 7,
            number: 1,
            fence: 1,
        }),
        spec: Some(spec),
        runner: "r1".to_owned(),
        grace_ms: 2_000,
        log_bytes_max: 1 << 30,
        host_env: vec![v1::Binding {
            name: "PATH".to_owned(),
            value: path,
        }],
        ..Begin::default()
    }
}

impl Run {
    fn start(mut begin: Begin) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let dir = JobDirectory::new(parent.path().join("7.1"));
        let mark = format!("test-{}", parent.path().display());
        begin.mark.clone_from(&mark);
        dir.create(&Identity {
            attempt: begin.attempt,
            mark: mark.clone(),
        })
        .unwrap();
        let child = Command::new(program())
            .arg("__job")
            .arg(dir.path())
            .env(process::MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut run = Self {
            child,
            dir,
            mark,
            received: Vec::new(),
            _parent: parent,
        };
        run.order(OrderKind::Begin(Box::new(begin)));
        run
    }

    fn order(&mut self, kind: OrderKind) {
        let mut bytes = Vec::new();
        message::append(&Order { kind: Some(kind) }, &mut bytes);
        self.child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(&bytes)
            .unwrap();
    }

    fn cancel(&mut self, grace: Duration) {
        let grace_ms = grace.as_millis().try_into().unwrap();
        self.order(OrderKind::Cancel(Cancel {
            timed_out: false,
            grace_ms,
        }));
    }

    /// Waits until a step has printed this.
    fn await_log(&self, text: &str) {
        let is_there = |log: &[u8]| {
            LogRecords::new(log).map_while(Result::ok).any(|record| {
                record.channel.source() == LogChannel::STDOUT && record.bytes == text.as_bytes()
            })
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !std::fs::read(self.dir.log()).is_ok_and(|log| is_there(&log)) {
            assert!(Instant::now() < deadline, "{text:?} never came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads to the end, as a server would that takes whatever is uploaded.
    fn finish(mut self) -> Outcome {
        let mut stdout = self.child.stdout.take().unwrap();
        let mut reports = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            while let Some(report) = message::take::<Report>(&mut self.received, 1 << 20).unwrap() {
                let is_last = |kind| matches!(kind, &ReportKind::Upload(Upload { last: true, .. }));
                if report.kind.as_ref().is_some_and(is_last) {
                    self.order(OrderKind::Uploaded(Uploaded::default()));
                }
                reports.extend(report.kind);
            }
            match stdout.read(&mut buffer).unwrap() {
                0 => break,
                length => self.received.extend(&buffer[..length]),
            }
        }
        self.child.wait().unwrap();
        assert_eq!(process::marked(&self.mark), [], "processes are left");
        let log = std::fs::read(self.dir.log()).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let log = LogRecords::new(&log)
            .map(|record| record.unwrap())
            .map(|record| (record.step, record.channel, text(record.bytes)))
            .collect();
        let ending = self.dir.ending().unwrap();
        Outcome {
            ending,
            reports,
            log,
            dir: self.dir,
            _parent: self._parent,
        }
    }
}

impl Outcome {
    fn of(spec: v1::JobSpec) -> Self {
        Run::start(begin(spec)).finish()
    }

    fn result(&self) -> &v1::JobResult {
        match self.ending.as_ref().and_then(|ending| ending.kind.as_ref()) {
            Some(EndingKind::Completed(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn failed(&self) -> &Failed {
        match self.ending.as_ref().and_then(|ending| ending.kind.as_ref()) {
            Some(EndingKind::Failed(failed)) => failed,
            other => panic!("{other:?}"),
        }
    }

    /// Standard output of all steps.
    fn output(&self) -> Vec<&str> {
        self.lines(LogChannel::STDOUT)
    }

    fn lines(&self, channel: LogChannel) -> Vec<&str> {
        let wanted = |entry: &&(u16, LogChannel, String)| entry.1.source() == channel;
        self.log
            .iter()
            .filter(wanted)
            .map(|(_, _, text)| text.as_str())
            .collect()
    }

    fn outcomes(&self) -> Vec<v1::Outcome> {
        self.result()
            .steps
            .iter()
            .map(v1::StepFinished::outcome)
            .collect()
    }
}

#[test]
fn steps_share_a_workspace_and_a_clean_environment() {
    let secret = v1::Secret {
        name: "TOKEN".to_owned(),
        value: "s3cr3t-value".to_owned(),
    };
    let spec = v1::JobSpec {
        secrets: vec![secret],
        env: vec![v1::Binding {
            name: "DB".to_owned(),
            value: "${{ matrix.db }}".to_owned(),
        }],
        ..spec([
            step("echo one > file; pwd; echo \"$CI_EVENT $DB $TOKEN ${CARGO_MANIFEST_DIR-clean}\""),
            step("cat file; [ \"$HOME\" != /root ] && ls -A \"$HOME\" \"$TMPDIR\" | wc -w"),
        ])
    };
    let run = Outcome::of(spec);
    assert_eq!(
        run.result().outcome(),
        v1::Outcome::Success,
        "{:?}",
        run.log
    );
    let workspace = run.dir.workspace();
    let expected = [
        workspace.to_str().unwrap(),
        "push sqlite *** clean",
        "one",
        "2",
    ];
    assert_eq!(run.output(), expected);
    assert_eq!(run.lines(LogChannel::COMMAND).len(), 2);
    let started = run
        .reports
        .iter()
        .position(|r| matches!(r, ReportKind::Started(_)))
        .unwrap();
    let events = run
        .reports
        .iter()
        .filter(|r| matches!(r, ReportKind::Step(_)))
        .count();
    assert_eq!(events, 4);
    assert!(!matches!(
        run.reports[..started].last(),
        Some(ReportKind::Step(_))
    ));
}

#[test]
fn the_first_failing_command_ends_the_step_and_says_so() {
    let run = Outcome::of(spec([
        step("true | false | true\necho not reached"),
        step("echo not reached either"),
        v1::Step {
            condition: "failure()".to_owned(),
            ..step("echo cleaning up")
        },
    ]));
    use v1::Outcome::{Failure, Skipped, Success};
    assert_eq!(run.outcomes(), [Failure, Skipped, Success]);
    assert_eq!(run.result().outcome(), Failure);
    assert_eq!(run.result().message, "step 1 `step`: exit code 1");
    assert_eq!(run.output(), ["cleaning up"]);
}

#[test]
fn a_step_may_fail_and_go_on_and_may_be_tried_again() {
    let flaky = "n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; [ $n -ge 2 ] || exit 75";
    let retry = Some(v1::Retry {
        max: 5,
        exit_codes: vec![75],
    });
    let run = Outcome::of(spec([
        v1::Step {
            continue_on_error: "true".to_owned(),
            ..step("exit 3")
        },
        v1::Step {
            retry,
            ..step(flaky)
        },
    ]));
    assert_eq!(run.result().outcome(), v1::Outcome::Success);
    let [forgiven, retried] = run.result().steps.as_slice() else {
        panic!()
    };
    assert_eq!(
        (forgiven.outcome(), forgiven.conclusion()),
        (v1::Outcome::Failure, v1::Outcome::Success)
    );
    assert_eq!((retried.tries, retried.exit_code), (3, Some(0)));
    let tries = run.reports.iter().filter(|report| match report {
        ReportKind::Step(event) => matches!(event.kind, Some(Kind::Started(_))),
        _ => false,
    });
    assert_eq!(tries.count(), 4);
}

#[test]
fn a_step_over_its_time_is_ended_with_everything_it_started() {
    let slow = v1::Step {
        timeout_ms: 200,
        ..step("sleep 61 & trap '' TERM; sleep 62; sleep 63")
    };
    let mut order = begin(spec([
        slow,
        v1::Step {
            condition: "always()".to_owned(),
            ..step("echo after")
        },
    ]));
    order.grace_ms = 100;
    let begun = Instant::now();
    let run = Run::start(order).finish();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(
        run.outcomes(),
        [v1::Outcome::TimedOut, v1::Outcome::Success]
    );
    assert_eq!(run.result().steps[0].message, "timed out after 200ms");
    assert_eq!(run.result().outcome(), v1::Outcome::TimedOut);
}

#[test]
fn the_time_of_the_whole_job_is_kept() {
    let mut order = begin(spec([step("sleep 60"), step("echo never")]));
    order.timeout_ms = 200;
    let run = Run::start(order).finish();
    assert_eq!(run.result().outcome(), v1::Outcome::TimedOut);
    assert_eq!(run.output(), [] as [&str; 0]);
}

#[test]
fn cancel_is_polite_first_and_lets_cleaning_up_run() {
    let polite = step("trap 'echo bye; exit 1' TERM; echo ready; while true; do sleep 0.01; done");
    let cleanup = v1::Step {
        condition: "cancelled()".to_owned(),
        ..step("echo cleaned")
    };
    let mut run = Run::start(begin(spec([polite, step("echo never"), cleanup])));
    run.await_log("ready");
    run.cancel(Duration::from_secs(20));
    let run = run.finish();
    assert_eq!(run.output(), ["ready", "bye", "cleaned"]);
    use v1::Outcome::{Canceled, Skipped, Success};
    assert_eq!(run.outcomes(), [Canceled, Skipped, Success]);
    assert_eq!(run.result().outcome(), Canceled);
}

#[test]
fn cancel_is_not_polite_for_ever() {
    let stubborn =
        step("trap '' TERM; (trap '' TERM; sleep 60) & echo ready; while :; do sleep 0.01; done");
    let mut run = Run::start(begin(spec([stubborn])));
    run.await_log("ready");
    run.cancel(Duration::from_millis(100));
    assert_eq!(run.finish().result().outcome(), v1::Outcome::Canceled);
}

#[test]
fn background_processes_live_until_the_job_ends_and_not_longer() {
    let daemon = "(setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 0.01; done' &) ; \
                  until [ -s daemon ]; do sleep 0.01; done";
    let run = Outcome::of(spec([
        step(daemon),
        step("kill -0 $(cat daemon) && echo alive"),
    ]));
    assert_eq!(
        run.result().outcome(),
        v1::Outcome::Success,
        "{:?}",
        run.log
    );
    assert_eq!(run.output(), ["alive"]);
    let pid: i32 = std::fs::read_to_string(run.dir.workspace().join("daemon"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(process::Process::find(pid), None);
}

#[test]
fn nothing_survives_the_runner() {
    let script = "(setsid sleep 64 &); (trap '' TERM; setsid sleep 65 &); echo ready; sleep 66";
    let mut run = Run::start(begin(spec([step(script)])));
    run.await_log("ready");
    drop(run.child.stdin.take());
    let run = run.finish();
    assert!(run.ending.is_none(), "nobody asked for a result");
}

#[test]
fn a_killed_job_process_leaves_a_list_to_clean_up_with() {
    let mut run = Run::start(begin(spec([step(
        "(env -i setsid sleep 67 &); sleep 0.1; echo ready; sleep 68",
    )])));
    run.await_log("ready");
    let deadline = Instant::now() + Duration::from_secs(20);
    while run.dir.listed_processes().unwrap().len() < 4 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let listed = run.dir.listed_processes().unwrap();
    assert!(process::end_leftovers(&run.mark, &listed).unwrap() >= 3);
    assert!(listed.iter().all(|process| !process.is_alive()));
}

#[test]
fn a_step_killed_from_outside_is_reported_as_such() {
    let run = Outcome::of(spec([step("kill -KILL $$")]));
    assert_eq!(run.outcomes(), [v1::Outcome::Killed]);
    assert_eq!(run.result().message, "step 1 `step`: killed by SIGKILL");
    assert_eq!(run.result().steps[0].exit_code, None);
}

#[test]
fn outputs_reach_later_steps_and_the_result() {
    let producer =
        "echo version=1.2 >> $CI_OUTPUT\nprintf 'notes<<END\\na\\nb\\nEND\\n' >> $RUSTCI_OUTPUT";
    let spec = v1::JobSpec {
        secrets: vec![v1::Secret {
            name: "KEY".to_owned(),
            value: "hush-hush".to_owned(),
        }],
        outputs: vec![
            v1::Binding {
                name: "v".to_owned(),
                value: "v${{ steps.p.outputs.version }}".to_owned(),
            },
            v1::Binding {
                name: "n".to_owned(),
                value: "${{ steps.p.outputs.notes }}".to_owned(),
            },
            v1::Binding {
                name: "k".to_owned(),
                value: "${{ steps.q.outputs.k }}".to_owned(),
            },
        ],
        ..spec([
            v1::Step {
                id: "p".to_owned(),
                ..step(producer)
            },
            v1::Step {
                id: "q".to_owned(),
                env: vec![v1::Binding {
                    name: "V".to_owned(),
                    value: "${{ steps.p.outputs.version }}".to_owned(),
                }],
                ..step("echo got $V; echo k=$KEY >> $CI_OUTPUT")
            },
        ])
    };
    let run = Outcome::of(spec);
    assert_eq!(run.output(), ["got 1.2"]);
    let outputs: Vec<_> = run
        .result()
        .outputs
        .iter()
        .map(|o| (o.name.as_str(), o.value.as_str()))
        .collect();
    assert_eq!(outputs, [("v", "v1.2"), ("n", "a\nb"), ("k", "***")]);
}

#[test]
fn shells_and_directories_are_the_steps_choice() {
    let run = Outcome::of(spec([
        step("mkdir -p sub; echo 'x = 41' > lib.py"),
        v1::Step {
            shell: "python".to_owned(),
            ..step("import lib\nprint(lib.x + 1)")
        },
        v1::Step {
            working_directory: "sub".to_owned(),
            shell: "sh".to_owned(),
            ..step("basename $PWD")
        },
        v1::Step {
            working_directory: "../..".to_owned(),
            ..step("pwd")
        },
    ]));
    assert_eq!(run.output(), ["42", "sub"]);
    let message = &run.result().steps[3].message;
    assert_eq!(
        message,
        "working-directory \"../..\" leaves the workspace; name one inside"
    );
}

#[test]
fn secrets_are_masked_across_writes_streams_and_messages() {
    let secrets = vec![
        v1::Secret {
            name: "A".to_owned(),
            value: "first-secret".to_owned(),
        },
        v1::Secret {
            name: "PIN".to_owned(),
            value: "42".to_owned(),
        },
    ];
    let script =
        "printf 'x first-'; sleep 0.3; printf 'secret y\\n'; echo first-secret >&2; exit 1";
    let named = v1::Step {
        name: "deploy ${{ env.X }}".to_owned(),
        ..step(script)
    };
    let env = vec![v1::Binding {
        name: "X".to_owned(),
        value: "first-secret".to_owned(),
    }];
    let run = Outcome::of(v1::JobSpec {
        secrets,
        env,
        ..spec([named])
    });
    let everything = format!("{:?} {:?} {:?}", run.log, run.reports, run.result());
    assert!(!everything.contains("first-secret"), "{everything}");
    assert_eq!(run.output().concat(), "x *** y");
    assert_eq!(run.lines(LogChannel::STDERR), ["***"]);
    assert!(run.lines(LogChannel::SYSTEM)[0].contains("secret PIN is shorter than 4 bytes"));
}

#[test]
fn a_prompt_without_a_newline_shows_up_in_time() {
    let mut run = Run::start(begin(spec([step("printf 'name? '; sleep 60")])));
    run.await_log("name? ");
    run.cancel(Duration::ZERO);
    let run = run.finish();
    assert!(
        run.log
            .iter()
            .any(|(_, channel, text)| channel.is_partial() && text == "name? ")
    );
}

#[test]
fn a_million_lines_arrive_complete_and_in_order() {
    let begun = Instant::now();
    let run = Outcome::of(spec([step("seq 1 1000000")]));
    let elapsed = begun.elapsed();
    let mut text = String::new();
    for (_, channel, line) in run
        .log
        .iter()
        .filter(|entry| entry.1.source() == LogChannel::STDOUT)
    {
        text.push_str(line);
        // A machine under load may show the start of a line before its end.
        if !channel.is_partial() {
            text.push('\n');
        }
    }
    assert!(
        text.lines()
            .map(|line| line.parse::<u32>().unwrap())
            .eq(1..=1_000_000)
    );
    assert!(
        elapsed < Duration::from_secs(20),
        "{elapsed:?} even without optimisation"
    );
}

#[test]
fn a_snapshot_becomes_the_workspace_and_a_bad_one_is_refused() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "src/hello", b"hello\n".as_slice())
        .unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), builder.into_inner().unwrap()).unwrap();
    let source = || {
        Some(v1::Source {
            kind: Some(v1::source::Kind::Snapshot(v1::Snapshot::default())),
        })
    };
    let mut order = begin(v1::JobSpec {
        source: source(),
        ..spec([step("cat src/hello")])
    });
    order.archive = archive.path().to_str().unwrap().to_owned();
    assert_eq!(Run::start(order.clone()).finish().output(), ["hello"]);
    std::fs::write(
        archive.path(),
        "no archive at all, but long enough".repeat(40),
    )
    .unwrap();
    assert_eq!(Run::start(order).finish().failed().cause, "source");
}

#[test]
fn a_commit_is_fetched_by_git() {
    let repository = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(args);
        let output = command.current_dir(repository.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet"]);
    std::fs::write(repository.path().join("file"), "at the first commit\n").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
    let commit = git(&["rev-parse", "HEAD"]);
    std::fs::write(repository.path().join("file"), "later\n").unwrap();
    git(&["commit", "--quiet", "-a", "-m", "second"]);
    let source = |commit: String| {
        let url = repository.path().to_str().unwrap().to_owned();
        let git = v1::Git {
            url,
            commit,
            r#ref: String::new(),
        };
        Some(v1::Source {
            kind: Some(v1::source::Kind::Git(git)),
        })
    };
    let run = Outcome::of(v1::JobSpec {
        source: source(commit),
        ..spec([step("cat file")])
    });
    assert_eq!(run.output(), ["at the first commit"], "{:?}", run.log);
    let missing = "0123456789012345678901234567890123456789".to_owned();
    let run = Outcome::of(v1::JobSpec {
        source: source(missing),
        ..spec([step("cat file")])
    });
    assert_eq!(run.failed().cause, "source");
}

#[test]
fn too_much_output_is_cut_and_the_job_goes_on() {
    let mut order = begin(spec([step("seq 1 100000"), step("echo after")]));
    order.log_bytes_max = 10_000;
    let run = Run::start(order).finish();
    assert_eq!(run.result().outcome(), v1::Outcome::Success);
    assert!(
        run.lines(LogChannel::SYSTEM)
            .iter()
            .any(|line| line.contains("limit of 10000 bytes"))
    );
    assert_eq!(run.output()[0], "1");
    assert!(run.output().len() < 1_000);
}

#[test]
fn a_pipeline_environment_that_makes_no_sense_fails_the_job_with_its_name() {
    let env = vec![v1::Binding {
        name: "X".to_owned(),
        value: "${{ fromJSON('{') }}".to_owned(),
    }];
    let run = Outcome::of(v1::JobSpec {
        env,
        ..spec([step("echo never")])
    });
    assert_eq!(run.result().outcome(), v1::Outcome::Failure);
    assert!(
        run.result().message.starts_with("env X: "),
        "{}",
        run.result().message
    );
}
