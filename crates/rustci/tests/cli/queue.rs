//! `rustci explain`, `queue` and `runners`, and priorities and quotas behind them.

use serde_json::{Value, json};

use crate::remote::{Remote, remote};
use crate::world::{Said, World};

impl Remote {
    fn on_server(&self, args: &[&str]) -> Said {
        self.world
            .rustci(&[args, &["--server", self.url.as_str()]].concat())
    }

    /// Asks again until the answer has `text` in it.
    fn until(&self, args: &[&str], text: &str) {
        while !self.on_server(args).ended_with(0).out.contains(text) {
            std::thread::yield_now();
        }
    }

    /// Starts a run of a project without waiting for it; gives what the server says.
    fn submit(&self, project: &str, priority: &str, text: &str) -> Value {
        let body = json!({
            "project": project,
            "priority": priority,
            "pipeline": { "file": ".rustci.yaml", "text": text },
        });
        self.post("/api/v1/runs", &body)
    }
}

/// A job that goes on until `flag` exists.
fn until(flag: &str) -> String {
    format!("while [ ! -e {flag} ]; do sleep 0.02; done")
}

fn pipeline(jobs: &str) -> String {
    format!("name: ci\njobs:\n{jobs}\n")
}

#[test]
fn every_kind_of_waiting_has_its_own_words() {
    let remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    let flag = remote.world.path("flag").display().to_string();
    let wait = until(&flag);
    let jobs = format!(
        "  a: {{ steps: [{{ run: '{wait}' }}] }}\n\
         \x20 b: {{ steps: [{{ run: '{wait}' }}] }}\n\
         \x20 c: {{ steps: [{{ run: echo }}] }}\n\
         \x20 d: {{ needs: [a], steps: [{{ run: echo }}] }}\n\
         \x20 e: {{ runs-on: os=linus, steps: [{{ run: echo }}] }}\n"
    );
    remote.submit("shop", "normal", &pipeline(&jobs));
    remote.submit("shop", "high", "jobs: { z: { steps: [{ run: echo }] } }\n");
    remote.until(&["explain", "1/a"], "it runs on one");
    remote.until(&["explain", "1/b"], "it runs on one");
    let said = remote.on_server(&["explain", "1"]).ended_with(0);
    said.says("run 1  shop · ci  running");
    said.says("the only suitable runner is busy; 1 job goes before it");
    said.says("waits for a");
    said.says("no runner has the label os=linus; there is `os=linux`, was that meant by\n");
    said.says("start a runner with --label os=linus, or mend `runs-on`");
    said.says("it runs on one");
    let widest = said.out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{}", said.out);
    let one = remote
        .on_server(&["explain", "1/c", "--json"])
        .ended_with(0);
    let one = &one.json()[0]["jobs"][0];
    assert_eq!(one["code"], "capacity");
    assert_eq!(one["details"]["slots"], 2);
    assert_eq!(one["details"]["ahead_own"], 1, "the high one");
    assert_eq!(one["estimated_start_ms"], Value::Null, "nothing is known");
    remote
        .on_server(&["explain", "1/typo"])
        .ended_with(2)
        .complains("run 1 has no job `typo`");
    let queue = remote.on_server(&["queue", "list"]).ended_with(0);
    queue.says("queue  open, 3 jobs queued, 2 running");
    queue.says("waiting: 2 capacity, 1 needs, 1 no suitable runner");
    queue.says("2/z  shop     high");
    std::fs::write(&flag, "").unwrap();
    remote.on_server(&["runs", "watch", "2"]).ended_with(0);
    remote
        .on_server(&["explain", "2"])
        .ended_with(0)
        .says("it succeeded");
}

#[test]
fn a_skipped_job_says_why_also_after_its_run() {
    let jobs = "  a: { steps: [{ run: exit 1 }] }\n  b: { needs: [a], steps: [{ run: echo }] }\n";
    let world = World::with_pipeline(&pipeline(jobs));
    world.rustci(&["run"]).ended_with(1);
    let said = world.rustci(&["explain"]).ended_with(0);
    said.says("it needs `a`, which failed");
    let json = world.rustci(&["explain", "1/b", "--json"]).ended_with(0);
    assert_eq!(json.json()[0]["jobs"][0]["code"], "skipped");
    world
        .rustci(&["explain", "seven"])
        .ended_with(2)
        .complains("`seven` is not the number of a run");
}

#[test]
fn a_paused_queue_stays_paused_over_a_restart() {
    let mut remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    remote
        .on_server(&["queue", "pause"])
        .ended_with(0)
        .says("paused");
    remote.submit("shop", "low", "jobs: { a: { steps: [{ run: echo }] } }\n");
    remote.kill_and_restart();
    let said = remote.on_server(&["explain"]).ended_with(0);
    said.says("the queue is paused");
    said.says("priority low");
    remote
        .on_server(&["queue", "list"])
        .ended_with(0)
        .says("queue  paused, 1 job queued");
    remote
        .on_server(&["queue", "resume"])
        .ended_with(0)
        .says("goes on");
    remote.on_server(&["runs", "watch", "1"]).ended_with(0);
}

#[test]
fn quotas_bound_what_runs_and_refuse_what_waits() {
    let mut remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    let flag = remote.world.path("flag").display().to_string();
    remote
        .on_server(&["queue", "quota"])
        .ended_with(0)
        .says("no quotas are set");
    let set = ["queue", "quota", "shop", "--running", "1", "--queued", "2"];
    remote.on_server(&set).ended_with(0).says("shop");
    remote.kill_and_restart();
    remote.until(&["runners", "list"], "connected");
    let kept = remote.on_server(&["queue", "quota", "shop", "--json"]);
    assert_eq!(kept.json()[0]["running"], 1);
    let jobs = format!(
        "  a: {{ steps: [{{ run: '{}' }}] }}\n  b: {{ steps: [{{ run: echo }}] }}\n",
        until(&flag)
    );
    remote.submit("shop", "normal", &pipeline(&jobs));
    remote
        .on_server(&["explain", "1/b"])
        .ended_with(0)
        .says("its project may run 1 job at once");
    let refused = remote.submit("shop", "normal", &pipeline(&jobs));
    assert_eq!(refused["code"], "quota_exceeded", "{refused}");
    remote.submit(
        "other",
        "normal",
        "jobs: { a: { steps: [{ run: echo }] } }\n",
    );
    remote.on_server(&["runs", "watch", "2"]).ended_with(0);
    remote
        .on_server(&["queue", "quota", "shop", "--weight", "1001"])
        .ended_with(2)
        .complains("weight must be 1 to 1000");
    remote
        .on_server(&["queue", "quota", "shop", "--remove"])
        .ended_with(0);
    std::fs::write(&flag, "").unwrap();
    remote.on_server(&["runs", "watch", "1"]).ended_with(0);
}

#[test]
fn a_runner_is_drained_undrained_and_forgotten() {
    let remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    // It may still be on its way to the server.
    remote.until(&["runners", "list"], "1   one     connected  0/2");
    remote
        .on_server(&["runners", "drain", "one"])
        .ended_with(0)
        .says("one is drained");
    remote.submit(
        "shop",
        "normal",
        "jobs: { a: { steps: [{ run: echo }] } }\n",
    );
    let said = remote.on_server(&["explain", "1", "--json"]).ended_with(0);
    assert_eq!(said.json()[0]["jobs"][0]["code"], "draining");
    remote
        .on_server(&["runners", "rm", "one"])
        .ended_with(2)
        .complains("runner 1 is connected or has jobs");
    remote
        .on_server(&["runners", "undrain", "1"])
        .ended_with(0)
        .says("one gets jobs");
    remote.on_server(&["runs", "watch", "1"]).ended_with(0);
    remote
        .on_server(&["runners", "rm", "two"])
        .ended_with(2)
        .complains("no runner `two` is known");
    let gone = ["runner", "--connect", &remote.socket, "--name", "two"];
    let gone = remote.world.start(&gone);
    remote.until(&["runners", "list"], "two");
    gone.signal("TERM");
    let _ = gone.finish();
    remote.until(&["runners", "list"], "away");
    remote
        .on_server(&["runners", "rm", "two"])
        .ended_with(0)
        .says("two is forgotten");
    let left = remote.on_server(&["runners", "list", "--json"]);
    assert_eq!(left.json()[0]["runners"].as_array().unwrap().len(), 1);
}

#[test]
fn earlier_times_give_an_estimate() {
    let mut remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    let text = "jobs: { a: { steps: [{ run: sleep 0.2 }] } }\n";
    remote.submit("shop", "normal", text);
    remote.on_server(&["runs", "watch", "1"]).ended_with(0);
    remote.kill_and_restart();
    remote.until(&["runners", "list"], "connected");
    let flag = remote.world.path("flag").display().to_string();
    let slow = format!(
        "jobs: {{ s: {{ steps: [{{ run: '{}' }}] }}, t: {{ steps: [{{ run: '{}' }}] }} }}\n",
        until(&flag),
        until(&flag)
    );
    remote.submit("other", "normal", &slow);
    remote.submit("shop", "normal", text);
    let said = remote.on_server(&["explain", "3", "--json"]).ended_with(0);
    let job = &said.json()[0]["jobs"][0];
    assert!(job["typical_ms"].as_u64() >= Some(200), "{job}");
    assert_eq!(job["samples"], 1);
    assert!(job["estimated_start_ms"].is_u64(), "{job}");
    assert!(job["estimated_finish_ms"].as_u64() > job["estimated_start_ms"].as_u64());
    let said = remote.on_server(&["explain", "3"]).ended_with(0);
    said.says("took 0.2s before");
    std::fs::write(&flag, "").unwrap();
    remote.on_server(&["runs", "watch", "3"]).ended_with(0);
}

#[test]
fn a_queue_needs_a_server() {
    let world = World::new();
    for what in ["queue", "runners"] {
        let said = world.rustci(&[what, "list"]).ended_with(2);
        said.complains("no server is named");
        said.complains("RUSTCI_SERVER");
    }
}
