//! Random `kill -9` of server and runners under load: nothing acknowledged is lost, nothing is
//! completed twice, no log byte is missing or doubled, no process survives its job.
//!
//! `KILL_ROUNDS` sets the number of kills (default 50), `KILL_SEED` the seed.

#![cfg(test)]

mod cluster;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::{Cluster, Rng, Victim};

/// Lines that job `count` prints; its log has to hold each once, in order.
const LINES: usize = 400;

const PIPELINE: &str = r#"
version: 1
name: kill-loop
on: { manual: {} }
jobs:
  count:
    retry: { max: 0 }
    steps:
      - run: |
          # A daemon that tries to outlive its job.
          setsid sleep 1000 >/dev/null 2>&1 &
          for i in $(seq 1 400); do echo "line $i"; done
      - run: |
          sleep 0.2
          echo "count=400" >> "$CI_OUTPUT"
        id: tell
    outputs: { count: "${{ steps.tell.outputs.count }}" }
  after:
    needs: [count]
    env: { COUNT: "${{ needs.count.outputs.count }}" }
    steps:
      - run: test "$COUNT" = 400
"#;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let rounds = setting("KILL_ROUNDS", 50);
    let seed = setting("KILL_SEED", std::process::id().into());
    eprintln!("KILL_ROUNDS={rounds} KILL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start();
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        for _ in 0..2 {
            acknowledged.push(cluster.submit_until_acknowledged(PIPELINE));
        }
        std::thread::sleep(Duration::from_millis(rng.below(400)));
        let victim = match rng.below(10) {
            0..4 => Victim::Runner(rng.below(2) as usize),
            4..8 => Victim::Server,
            _ => Victim::Both(rng.below(2) as usize),
        };
        cluster.kill(victim);
        std::thread::sleep(Duration::from_millis(rng.below(200)));
        cluster.revive();
        if round % 10 == 9 {
            eprintln!(
                "round {}: {} runs acknowledged",
                round + 1,
                acknowledged.len()
            );
        }
    }
    let runs = cluster.wait_all(&acknowledged, Instant::now() + Duration::from_secs(120));
    for run in &runs {
        check_run(&cluster, run);
    }
    let ends = cluster.stop_and_count_job_ends();
    for run in &runs {
        for job in run["jobs"].as_array().unwrap() {
            let id = job["id"].as_u64().unwrap();
            assert_eq!(
                ends.get(&id),
                Some(&1),
                "job {id} of run {} in the journal",
                run["id"]
            );
        }
    }
    cluster::assert_no_survivors(&cluster.mark());
    let attempts: BTreeMap<usize, usize> = runs
        .iter()
        .flat_map(|run| run["jobs"].as_array().unwrap())
        .map(|job| job["attempts"].as_array().unwrap().len())
        .fold(BTreeMap::new(), |mut counts, n| {
            *counts.entry(n).or_default() += 1;
            counts
        });
    eprintln!(
        "{} runs, jobs by number of attempts: {attempts:?}",
        runs.len()
    );
}

fn check_run(cluster: &Cluster, run: &serde_json::Value) {
    assert_eq!(run["conclusion"], "success", "{run:#}");
    for job in run["jobs"].as_array().unwrap() {
        let attempts = job["attempts"].as_array().unwrap();
        let last = attempts.last().unwrap();
        let log = cluster.raw_log(
            run["id"].as_u64().unwrap(),
            job["id"].as_u64().unwrap(),
            last["number"].as_u64().unwrap(),
        );
        assert_eq!(
            log.len() as u64,
            last["log_bytes"].as_u64().unwrap(),
            "log length of {job:#}"
        );
        if job["key"] == "count" {
            let expected: Vec<String> = (1..=LINES).map(|i| format!("line {i}")).collect();
            assert_eq!(cluster::stdout_lines(&log), expected, "log of {job:#}");
        }
    }
}
