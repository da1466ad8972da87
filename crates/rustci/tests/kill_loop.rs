//! Random `kill -9` of server and runners under load: nothing acknowledged is lost, nothing is
//! completed twice, no log byte is missing or doubled, no process survives its job. Runs meet in a
//! concurrency group, expand a matrix, and some wait for an answer; an answer that was acknowledged
//! is never lost either.
//!
//! `KILL_ROUNDS` sets the number of kills (default 40), `KILL_SEED` the seed.

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
          echo 'matrix=[{"n":1},{"n":2}]' >> "$CI_OUTPUT"
        id: tell
    outputs:
      count: "${{ steps.tell.outputs.count }}"
      matrix: "${{ steps.tell.outputs.matrix }}"
  after:
    needs: [count]
    concurrency: { group: after }
    env: { COUNT: "${{ needs.count.outputs.count }}" }
    steps:
      - run: test "$COUNT" = 400
  many:
    needs: [count]
    matrix: "${{ fromJSON(needs.count.outputs.matrix) }}"
    env: { N: "${{ matrix.n }}" }
    steps:
      - run: test "$N" -ge 1
"#;

/// Added to every fourth run.
const ASKS: &str = r#"
  ask:
    environment: { name: production, approval: { timeout: 1h } }
    steps:
      - run: echo shipped
"#;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let rounds = setting("KILL_ROUNDS", 40);
    let seed = setting("KILL_SEED", std::process::id().into());
    eprintln!("KILL_ROUNDS={rounds} KILL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start();
    let mut acknowledged = Vec::new();
    let mut asking = Vec::new();
    let mut answered = Vec::new();
    for round in 0..rounds {
        acknowledged.push(cluster.submit_until_acknowledged(PIPELINE));
        if round % 2 == 0 {
            acknowledged.push(cluster.submit_until_acknowledged(PIPELINE));
        } else {
            let run = cluster.submit_until_acknowledged(&format!("{PIPELINE}{ASKS}"));
            acknowledged.push(run);
            asking.push(run);
        }
        answer(&cluster, &mut asking, &mut answered);
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
    let patience = Instant::now() + Duration::from_secs(60);
    while !asking.is_empty() && Instant::now() < patience {
        answer(&cluster, &mut asking, &mut answered);
    }
    assert!(asking.is_empty(), "runs {asking:?} do not ask");
    let runs = cluster.wait_all(&acknowledged, Instant::now() + Duration::from_secs(120));
    for run in &runs {
        check_run(&cluster, run);
        check_answer(run, &answered);
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

/// Approves what asks, and notes what was acknowledged.
fn answer(cluster: &Cluster, asking: &mut Vec<u64>, answered: &mut Vec<u64>) {
    asking.retain(|run| match cluster.approve(*run, "ask") {
        Some(204) => {
            answered.push(*run);
            false
        }
        // An answer whose acknowledgement was lost holds all the same.
        Some(409) => false,
        _ => true,
    });
}

fn check_answer(run: &serde_json::Value, answered: &[u64]) {
    let jobs = run["jobs"].as_array().unwrap();
    let Some(job) = jobs.iter().find(|job| job["key"] == "ask") else {
        return;
    };
    let answer = &job["approval"]["answer"];
    assert_eq!(answer["approved"], true, "{job:#}");
    if answered.contains(&run["id"].as_u64().unwrap()) {
        assert_eq!(answer["by"], "kill-loop");
    }
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
