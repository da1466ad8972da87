//! Steps that run at the same time, by the program. They meet at fifos: in turn they would hang
//! until their limit.

use crate::world::World;

const PIPELINE: &str = r#"
name: checks
jobs:
  check:
    steps:
      - run: mkfifo there back
      - parallel:
          - id: ping
            name: ping
            timeout: 20s
            run: |
              echo hello > there
              echo "got $(cat back)"
              echo "word=first" >> "$CI_OUTPUT"
              echo "WORD=first" >> "$CI_ENV"
          - name: pong
            timeout: 20s
            run: |
              echo "got $(cat there)"
              echo "WORD=second" >> "$CI_ENV"
              echo world > back
      - run: echo "${{ steps.ping.outputs.word }} $WORD"
"#;

#[test]
fn steps_of_a_group_meet_and_what_they_set_comes_behind_them() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["run"]).ended_with(0);
    said.has_lines(&[
        "check | ▸ ping",
        "check | ▸ pong",
        "check | ping | got world",
        "check | pong | got hello",
        "check | first second",
    ]);
    let heads = said.out.matches("▸ ping").count();
    assert_eq!(heads, 1, "{}", said.out);
    let steps: Vec<_> = world
        .rustci(&["runs", "view", "1", "--json"])
        .ended_with(0)
        .json();
    let groups: Vec<_> = steps[0]["jobs"][0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["parallel"].as_u64())
        .collect();
    assert_eq!(groups, [None, Some(1), Some(1), None]);
}

#[test]
fn a_plan_shows_what_runs_at_the_same_time() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["plan"]).ended_with(0);
    said.says("`ping` (limit 20.0s) + `pong` (limit 20.0s)");
    said.says("at the same time, `echo");
    let json = &world.rustci(&["plan", "--json"]).ended_with(0).json()[0];
    let steps = &json["jobs"][0]["steps"];
    assert!(steps[0].get("parallel").is_none(), "{steps}");
    assert_eq!(steps[1]["parallel"], 1);
}

#[test]
fn one_that_fails_lets_the_others_end_and_fails_the_job() {
    let world = World::with_pipeline(
        r#"
jobs:
  check:
    steps:
      - parallel:
          - { name: late, timeout: 20s, run: "until [ -e failed ]; do sleep 0.01; done; exit 5" }
          - { name: early, run: "touch failed; exit 4" }
          - { name: fine, timeout: 20s, run: "until [ -e failed ]; do sleep 0.01; done; echo done" }
      - { name: never, run: echo never }
"#,
    );
    let said = world.rustci(&["run"]).ended_with(1);
    said.has_lines(&["check | fine | done"]);
    said.says("job failed: `late`: exit code 5");
    said.says("✗ early: exit code 4");
    said.says("– never: skipped");
}

#[test]
fn a_parallel_stage_of_an_older_file_runs_at_the_same_time() {
    let world = World::with_pipeline(
        r#"
name: older
stages:
  - name: prepare
    parallel: true
    steps: ['mkfifo there back']
  - name: check
    parallel: true
    timeout: 20
    steps:
      - { name: ping, run: 'echo hello > there; echo "got $(cat back)"' }
      - { name: pong, run: 'echo "got $(cat there)"; echo world > back' }
  - name: after
    steps: ['ls -d there back']
"#,
    );
    let said = world.rustci(&["run"]).ended_with(0);
    said.says("check / ping | got world");
    said.says("check / pong | got hello");
    assert!(!said.out.contains("one after the other"), "{}", said.out);
    assert!(!said.err.contains("warning"), "{}", said.err);
}
