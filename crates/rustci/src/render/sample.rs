//! A run in the middle of everything, and the same run at its end, for the renderers' tests.

use serde_json::{Value, json};

use super::board::{Board, Channel, LogLine};
use super::job::Look;
use super::style::{Colour, Sink};

/// Now, in the sample's time: the run was created at 10,000.
pub(crate) const NOW_MS: u64 = 13_250;

/// 80 columns without colours.
pub(crate) fn look(sink: Sink) -> Look {
    Look {
        colour: Colour::Off,
        columns: 80,
        sink,
    }
}

fn step(index: u32, name: &str, status: &str, more: Value) -> Value {
    let mut step = json!({
        "index": index, "name": name, "status": status, "conclusion": null, "exit_code": null,
        "started_ms": null, "duration_ms": null, "message": "", "tries": 1,
    });
    merge(&mut step, more);
    step
}

fn job(id: u64, key: &str, status: &str, more: Value) -> Value {
    let mut job = json!({
        "id": id, "key": key, "job_id": key.split(' ').next(), "name": key, "needs": [],
        "status": status, "conclusion": null, "reason": null, "attempts": [], "steps": [],
        "outputs": {}, "queued_ms": 10_000, "started_ms": null, "finished_ms": null,
    });
    merge(&mut job, more);
    job
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        into[key] = value;
    }
}

fn attempts() -> Value {
    json!([{
        "number": 1, "runner": "local", "status": "running", "cause": null,
        "started_ms": 10_100, "finished_ms": null, "log_bytes": 0,
    }])
}

fn ended(conclusion: &str, started_ms: u64, finished_ms: u64) -> Value {
    json!({
        "conclusion": conclusion, "started_ms": started_ms, "finished_ms": finished_ms,
        "attempts": attempts(),
    })
}

fn build(status: &str, conclusion: Value, jobs: Vec<Value>) -> Board {
    let finished = if status == "finished" {
        json!(14_600)
    } else {
        Value::Null
    };
    let run = json!({
        "id": 7, "project": "shop", "pipeline": "ci", "file": ".rustci/ci.yaml",
        "status": status, "conclusion": conclusion, "digest": "ab", "event": { "name": "manual" },
        "created_ms": 10_000, "started_ms": 10_100, "finished_ms": finished, "jobs": jobs,
    });
    Board::new(serde_json::from_value(run).expect("the sample is a run"))
}

fn lint() -> Value {
    let done =
        json!({"conclusion": "success", "exit_code": 0, "started_ms": 10_200, "duration_ms": 700});
    let mut lint = job(1, "lint", "finished", ended("success", 10_200, 10_900));
    lint["steps"] = json!([step(0, "cargo fmt --check", "finished", done)]);
    lint
}

/// A line that job 2 prints in its second step.
pub(crate) fn line(text: &str) -> LogLine {
    line_of(1, text)
}

/// A line that job 2 prints in one of its steps.
pub(crate) fn line_of(step: u16, text: &str) -> LogLine {
    LogLine {
        job: 2,
        step: Some(step),
        channel: Channel::Stdout,
        unix_ns: 0,
        text: text.to_owned(),
    }
}

/// One job done, one running, one queued, two blocked.
pub(crate) fn running() -> Board {
    let mut test = job(
        2,
        "test (stable, postgres)",
        "running",
        json!({"attempts": attempts()}),
    );
    test["started_ms"] = json!(11_000);
    let done =
        json!({"conclusion": "success", "exit_code": 0, "started_ms": 11_000, "duration_ms": 950});
    test["steps"] = json!([
        step(0, "build", "finished", done),
        step(1, "unit tests", "running", json!({"started_ms": 11_950})),
        step(2, "upload", "queued", Value::Null),
    ]);
    let waiting = json!({"reason": "no runner has the label `gpu`; connected runners: 1"});
    let mut board = build(
        "running",
        Value::Null,
        vec![
            lint(),
            test,
            job(3, "test (beta, 漢字)", "queued", waiting),
            job(4, "build", "blocked", json!({"needs": ["test"]})),
            job(5, "deploy", "blocked", json!({"needs": ["lint", "build"]})),
        ],
    );
    for text in [
        "running 3 tests",
        "test a ... ok",
        "test b ... \u{1b}[31mFAILED\u{1b}[0m\u{1b}[2J",
    ] {
        board.log(&line(text));
    }
    board
}

/// A job of which two steps run and one has failed at the same time.
pub(crate) fn together() -> Board {
    let mut job = job(2, "check", "running", json!({"attempts": attempts()}));
    job["started_ms"] = json!(11_000);
    let done =
        json!({"conclusion": "success", "exit_code": 0, "started_ms": 11_000, "duration_ms": 500});
    let runs = json!({"started_ms": 11_500, "parallel": 1});
    let failed = json!({
        "conclusion": "failure", "exit_code": 3, "started_ms": 11_500, "duration_ms": 900,
        "message": "exit code 3", "parallel": 1,
    });
    job["steps"] = json!([
        step(0, "fetch", "finished", done),
        step(1, "lint", "running", runs.clone()),
        step(2, "docs", "finished", failed),
        step(3, "unit tests", "running", runs),
        step(4, "publish", "queued", Value::Null),
    ]);
    build("running", Value::Null, vec![job])
}

/// The same run when everything has ended, badly.
pub(crate) fn failed() -> Board {
    let mut test = job(
        2,
        "test (stable, postgres)",
        "finished",
        ended("failure", 11_000, 14_000),
    );
    let ok =
        json!({"conclusion": "success", "exit_code": 0, "started_ms": 11_000, "duration_ms": 950});
    let bad = json!({
        "conclusion": "failure", "exit_code": 101, "started_ms": 11_950, "duration_ms": 2_050,
        "message": "exit code 101",
    });
    test["steps"] = json!([
        step(0, "build", "finished", ok),
        step(1, "unit tests", "finished", bad),
        step(2, "upload", "finished", json!({"conclusion": "skipped"})),
    ]);
    let mut beta = job(
        3,
        "test (beta, 漢字)",
        "finished",
        ended("success", 11_100, 14_600),
    );
    let flaky = json!({
        "conclusion": "success", "exit_code": 0, "started_ms": 11_100, "duration_ms": 3_400, "tries": 2,
    });
    beta["steps"] = json!([step(0, "unit tests", "finished", flaky)]);
    let reason =
        "needs `test`, of which `test (stable, postgres)` failed; nothing else stands in its way";
    let skipped = json!({"conclusion": "skipped", "reason": reason, "needs": ["test"]});
    let mut board = build(
        "finished",
        json!("failure"),
        vec![lint(), test, beta, job(4, "build", "finished", skipped)],
    );
    for text in [
        "running 3 tests",
        "test a ... ok",
        "test b ... \u{1b}[31mFAILED\u{1b}[0m\u{1b}[2J",
    ] {
        board.log(&line(text));
    }
    board
}
