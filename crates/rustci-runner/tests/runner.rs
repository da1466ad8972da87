//! A runner and a server that is scripted by the test, over a real socket, with real job processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rustci_pipeline::{Executor, v1};
use rustci_runner::{JobProgram, RunnerConfig, RunnerError, Stop, process};
use support::{Said, Server, dummy, native, program};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A runner on this thread.
struct Runner {
    stop: watch::Sender<Stop>,
    task: JoinHandle<Result<(), RunnerError>>,
}

impl Runner {
    fn start(server: &Server, dir: &Path) -> Self {
        Self::with(server, dir, |_| {})
    }

    fn with(server: &Server, dir: &Path, change: impl FnOnce(&mut RunnerConfig)) -> Self {
        let mut config = RunnerConfig::new("r1", server.endpoint.clone(), dir);
        config.executors = vec![Executor::Native, Executor::Dummy];
        config.capacity = 2;
        config.job_program = JobProgram {
            path: program(),
            args: vec!["__job".into()],
        };
        change(&mut config);
        let (stop, stopped) = watch::channel(Stop::No);
        let task = tokio::task::spawn_local(rustci_runner::run(config, stopped));
        Self { stop, task }
    }

    async fn stop(self, how: Stop) {
        self.stop.send_replace(how);
        let ended = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        ended.expect("the runner does not end").unwrap().unwrap();
    }
}

/// A server, a place for a runner, and the test.
fn check(test: impl AsyncFnOnce(Server, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    valkyrie::block_on(async {
        let server = Server::start(&dir.path().join("socket")).await;
        test(server, &dir.path().join("runner")).await;
    })
    .unwrap();
}

fn job_directories(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("jobs")).unwrap().count()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_native_job_runs_and_leaves_nothing_behind() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        let registered = server.registered().await;
        assert_eq!((registered.name.as_str(), registered.capacity), ("r1", 2));
        assert!(registered.labels.contains(&"os=linux".to_owned()));
        assert_eq!(registered.executors, ["native", "dummy"]);
        let mut spec = native("echo hello; echo \"size=3\" >> $CI_OUTPUT");
        spec.steps[0].id = "s".to_owned();
        let value = "${{ steps.s.outputs.size }}".to_owned();
        spec.outputs = vec![v1::Binding {
            name: "size".to_owned(),
            value: value.clone(),
        }];
        server.request(1, &spec);
        assert_eq!(server.next().await, Said::Accepted);
        assert_eq!(server.next().await, Said::Started);
        assert!(matches!(server.next().await, Said::Step(_)));
        assert!(matches!(server.next().await, Said::Step(_)));
        let (result, log_bytes) = server.completed().await;
        assert_eq!(result.outcome(), v1::Outcome::Success, "{result:?}");
        assert_eq!(result.outputs[0].value, "3");
        server.complete_log(1, log_bytes).await;
        assert_eq!(server.output(1), ["hello"]);
        until("the directory stays", || job_directories(dir) == 0).await;
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_dummy_job_does_as_told_and_never_touches_the_disk() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        for job in 1..=100 {
            let spec = dummy(&[("DUMMY_OUTPUT", &job.to_string())]);
            server.request(job, &spec);
            assert_eq!(server.next().await, Said::Accepted);
            let (result, log_bytes) = server.completed().await;
            let digest = blake3::hash(&prost::Message::encode_to_vec(&spec))
                .to_hex()
                .to_string();
            assert_eq!(
                (result.outputs[0].value.as_str(), log_bytes),
                (digest.as_str(), 0)
            );
            assert_eq!(result.outputs[1].value, job.to_string());
        }
        server.request(
            200,
            &dummy(&[("DUMMY_OUTPUT_BYTES", "6500"), ("DUMMY_SLEEP_MS", "5")]),
        );
        let (_, log_bytes) = server.completed().await;
        server.complete_log(200, log_bytes).await;
        assert_eq!(server.output(200).len(), 100);
        server.request(201, &dummy(&[("DUMMY_EXIT_CODE", "7")]));
        assert_eq!(server.completed().await.0.message, "exit code 7");
        assert_eq!(job_directories(dir), 0);
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn more_than_the_capacity_and_unknown_executors_are_rejected() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        for job in [1, 2, 3] {
            server.request(job, &dummy(&[("DUMMY_SLEEP_MS", "60000")]));
        }
        let reject = |said: &Said| match said {
            Said::Rejected(reject) => Some(reject.clone()),
            _ => None,
        };
        let rejected = server.until(reject).await;
        assert_eq!(
            (rejected.code, rejected.reason.as_str()),
            (501, "all 2 slots are in use")
        );
        server.cancel(1, "canceled", Duration::ZERO);
        assert_eq!(server.completed().await.0.outcome(), v1::Outcome::Canceled);
        let spec = v1::JobSpec {
            executor: "docker".to_owned(),
            ..Default::default()
        };
        server.request(4, &spec);
        assert_eq!(server.until(reject).await.code, 400);
        runner.stop(Stop::Now).await;
    });
}

#[test]
fn cancel_reaches_the_processes_and_the_reason_the_result() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        for (job, reason, outcome) in [
            (1, "canceled", v1::Outcome::Canceled),
            (2, "timed_out", v1::Outcome::TimedOut),
        ] {
            server.request(job, &native("echo ready; sleep 60"));
            server.await_output(job, "ready").await;
            server.cancel(job, reason, Duration::from_secs(5));
            assert_eq!(server.completed().await.0.outcome(), outcome);
        }
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_lost_connection_loses_and_doubles_nothing() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(
            1,
            &native(
                "for i in $(seq 1 2000); do echo $i; [ $((i % 100)) -ne 0 ] || sleep 0.01; done",
            ),
        );
        for line in ["100", "500", "1500"] {
            server.await_output(1, line).await;
            server.drop_link();
            let registered = server.registered().await;
            assert_eq!(registered.held.len(), 1);
        }
        let (result, log_bytes) = server.completed().await;
        assert_eq!(result.outcome(), v1::Outcome::Success);
        let expected: Vec<String> = (1..=2000).map(|number| number.to_string()).collect();
        server.complete_log(1, log_bytes).await;
        assert_eq!(server.output(1), expected);
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_result_is_kept_until_it_is_acknowledged_also_over_a_restart() {
    check(async |mut server, dir| {
        server.shared.behaviour.borrow_mut().acknowledges = false;
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(1, &native("echo kept"));
        let first = server.completed().await;
        server.drop_link();
        assert_eq!(server.registered().await.held.len(), 1);
        assert_eq!(server.completed().await, first);
        runner.stop(Stop::Now).await;
        assert_eq!(job_directories(dir), 1);
        server.shared.behaviour.borrow_mut().acknowledges = true;
        let runner = Runner::start(&server, dir);
        let registered = server.registered().await;
        assert_eq!((registered.held.len(), registered.lost.len()), (1, 0));
        assert_eq!(server.completed().await, first);
        server.complete_log(1, first.1).await;
        assert_eq!(server.output(1), ["kept"]);
        until("the directory stays", || job_directories(dir) == 0).await;
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn an_attempt_that_the_server_gave_away_is_ended_and_forgotten() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(1, &native("echo $RUSTCI_JOB_MARK; sleep 60"));
        server.request(2, &native("echo ready; sleep 60"));
        until("no output", || server.output(1).len() == 1).await;
        server.await_output(2, "ready").await;
        let mark = server.output(1).remove(0);
        server.reset_job(2, valkyrie::ErrorCode::STALE_FENCE);
        until("the stale one stays", || job_directories(dir) == 1).await;
        server.shared.behaviour.borrow_mut().keeps = false;
        server.drop_link();
        server.registered().await;
        until("the other one stays", || job_directories(dir) == 0).await;
        assert_eq!(process::marked(&mark), []);
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn leases_are_renewed_while_a_job_runs() {
    check(async |mut server, dir| {
        server.shared.behaviour.borrow_mut().lease = Duration::from_millis(60);
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(1, &dummy(&[("DUMMY_SLEEP_MS", "60000")]));
        for _ in 0..5 {
            server.renewed().await;
        }
        server.cancel(1, "canceled", Duration::ZERO);
        server.completed().await;
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(
            1,
            &native("echo ready; until [ -e go ]; do sleep 0.01; done"),
        );
        server.await_output(1, "ready").await;
        runner.stop.send_replace(Stop::Drain);
        server.until_said(&Said::Draining).await;
        server.request(2, &dummy(&[]));
        let rejected = server.until(|said| match said {
            Said::Rejected(reject) => Some(reject.reason.clone()),
            _ => None,
        });
        assert_eq!(rejected.await, "the runner is draining");
        let job = std::fs::read_dir(dir.join("jobs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        std::fs::write(job.join("workspace/go"), "").unwrap();
        assert_eq!(server.completed().await.0.outcome(), v1::Outcome::Success);
        runner.stop(Stop::Drain).await;
    });
}

fn snapshot(server: &Server, archive: Vec<u8>) -> Option<v1::Source> {
    let digest = blake3::hash(&archive).as_bytes().to_vec();
    let size = archive.len() as u64;
    server
        .shared
        .sources
        .borrow_mut()
        .insert(digest.clone(), archive);
    let kind = v1::source::Kind::Snapshot(v1::Snapshot { digest, size });
    Some(v1::Source { kind: Some(kind) })
}

fn archive(content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "data", content).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_source_is_fetched_once_and_resumed_after_a_lost_connection() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.shared.behaviour.borrow_mut().drops_source_at = Some(50_000);
        let source = snapshot(&server, archive(&[b'x'; 100_000]));
        let spec = v1::JobSpec {
            source,
            ..native("wc -c < data")
        };
        server.request(1, &spec);
        let (result, log_bytes) = server.completed().await;
        assert_eq!(result.outcome(), v1::Outcome::Success);
        server.complete_log(1, log_bytes).await;
        assert_eq!(server.output(1), ["100000"]);
        server.shared.sources.borrow_mut().clear();
        server.request(2, &spec);
        let (_, log_bytes) = server.completed().await;
        server.complete_log(2, log_bytes).await;
        assert_eq!(server.output(2), ["100000"]);
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_source_the_server_does_not_have_fails_the_attempt_with_its_cause() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        let source = snapshot(&server, archive(b"gone"));
        server.shared.sources.borrow_mut().clear();
        server.request(
            1,
            &v1::JobSpec {
                source,
                ..native("true")
            },
        );
        let failed = server.failed().await;
        assert_eq!((failed.cause.as_str(), failed.log_bytes), ("source", 0));
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_job_process_that_dies_is_reported_and_cleaned_up_after() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(
            1,
            &native("(setsid sleep 60 &); echo $RUSTCI_JOB_MARK; sleep 60"),
        );
        until("no output", || server.output(1).len() == 1).await;
        let mark = server.output(1).remove(0);
        let job = std::fs::read_dir(dir.join("jobs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let processes = process::read_list(&job.join("processes")).unwrap();
        processes[0].signal(rustix::process::Signal::KILL);
        let failed = server.failed().await;
        assert_eq!(failed.cause, "executor");
        assert!(failed.message.contains("SIGKILL"), "{}", failed.message);
        server.complete_log(1, failed.log_bytes).await;
        assert_eq!(process::marked(&mark), []);
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_killed_runner_takes_its_jobs_with_it_and_the_next_one_reports_them() {
    check(async |mut server, dir| {
        let endpoint = server.endpoint.to_string();
        let start = || {
            let mut command = std::process::Command::new(program());
            command
                .args([endpoint.as_str(), dir.to_str().unwrap(), "r1"])
                .spawn()
                .unwrap()
        };
        let mut runner = start();
        server.registered().await;
        server.shared.behaviour.borrow_mut().acknowledges = false;
        server.request(1, &native("echo done"));
        server.completed().await;
        server.request(
            2,
            &native(
                "(setsid sleep 60 &); (env -i setsid sleep 61 &); echo $RUSTCI_JOB_MARK; sleep 62",
            ),
        );
        until("no output", || server.output(2).len() == 1).await;
        let mark = server.output(2).remove(0);
        runner.kill().unwrap();
        runner.wait().unwrap();
        let left = || process::marked(&mark);
        until("processes outlive the runner", || left().is_empty()).await;
        server.shared.behaviour.borrow_mut().acknowledges = true;
        let mut runner = start();
        let registered = server.until(|said| match said {
            Said::Registered(request) if !request.lost.is_empty() => Some(request.clone()),
            _ => None,
        });
        let registered = registered.await;
        let jobs = |held: &[v1::HeldAttempt]| held.iter().map(|held| held.job).collect::<Vec<_>>();
        assert_eq!(
            (jobs(&registered.held), jobs(&registered.lost)),
            (vec![1], vec![2])
        );
        server.completed().await;
        until("directories stay", || job_directories(dir) == 0).await;
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&runner),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert!(runner.wait().unwrap().success());
    });
}

#[test]
fn two_runners_do_not_share_a_directory() {
    check(async |mut server, dir| {
        let first = Runner::start(&server, dir);
        server.registered().await;
        let second = Runner::start(&server, dir).task.await.unwrap();
        assert!(matches!(second, Err(RunnerError::InUse { .. })));
        first.stop(Stop::Drain).await;
    });
}

#[test]
fn a_line_reaches_the_server_while_the_job_runs_without_waiting_for_a_timer() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        server.request(
            1,
            &native("for i in $(seq 1 50); do date +%s%N; sleep 0.005; done"),
        );
        server.completed().await;
        let mut late = 0;
        for record in valkyrie::frame::LogRecords::new(&server.log(1)) {
            let record = record.unwrap();
            if let Ok(printed) = String::from_utf8_lossy(record.bytes).parse::<u64>() {
                late += u32::from(record.unix_ns.saturating_sub(printed) > 50_000_000);
            }
        }
        assert!(late < 10, "{late} of 50 lines waited");
        runner.stop(Stop::Drain).await;
    });
}

#[test]
fn a_million_lines_reach_the_server_complete_and_in_order() {
    check(async |mut server, dir| {
        let runner = Runner::start(&server, dir);
        server.registered().await;
        let begun = Instant::now();
        server.request(1, &native("seq 1 1000000"));
        let (result, log_bytes) = server.completed().await;
        assert_eq!(result.outcome(), v1::Outcome::Success);
        server.complete_log(1, log_bytes).await;
        let elapsed = begun.elapsed();
        let lines = server.output(1);
        assert!(
            lines
                .iter()
                .map(|line| line.parse::<u32>().unwrap())
                .eq(1..=1_000_000)
        );
        assert!(
            elapsed < Duration::from_secs(30),
            "{elapsed:?} even without optimisation"
        );
        runner.stop(Stop::Drain).await;
    });
}
