//! Test reports and summaries, from the files of a step to the commands that show them.

use std::process::Command;

use crate::remote::remote;
use crate::world::World;

const PIPELINE: &str = r###"
name: shop
jobs:
  test:
    matrix: { axes: { db: [a, b] }, fail-fast: false }
    reports: { junit: "out/*.xml" }
    steps:
      - name: unit
        env: { WISH: "${{ inputs.wish }}" }
        run: |
          mkdir out
          { echo '<testsuite name="unit"><testcase classname="cart" name="adds" time="0.25"/>'
            if [ "$WISH" = fail ]; then
              echo '<testcase classname="cart" name="rounds" time="1.5"><failure message="left: 10">at cart.rs:9</failure></testcase>'
            else
              echo '<testcase classname="cart" name="rounds" time="2.5"/>'
            fi
            echo '</testsuite>'; } > out/junit.xml
          echo "<html>" > out/other.xml
          echo "## Coverage of $CI_MATRIX_DB: 93 %" >> "$CI_STEP_SUMMARY"
          [ "$WISH" != fail ]
  plain:
    steps: [{ run: echo }]
on:
  manual: { inputs: { wish: { type: choice, options: [pass, fail] } } }
"###;

/// A project whose runs are of one commit.
fn commit(world: &World) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "x"]] {
        let git = Command::new("git")
            .args(identity)
            .args(args)
            .current_dir(world.project())
            .status();
        assert!(git.unwrap().success());
    }
}

#[test]
fn a_test_that_failed_is_shown_at_the_end_in_the_view_and_in_its_history() {
    let world = World::with_pipeline(PIPELINE);
    commit(&world);
    let said = world.rustci(&["run", "--input", "wish=fail"]).ended_with(1);
    said.has_lines(&[
        "  ✗ 2 of 4 tests failed",
        "    ✗ cart › rounds",
        "      │ left: 10",
        "  tests      rustci tests 1",
        "  summary    rustci runs summary 1",
    ]);
    said.says("report of test (a): out/other.xml: its outermost element is <html>");
    world
        .rustci(&["runs", "view"])
        .ended_with(0)
        .has_lines(&["    ✗ cart › rounds"]);
    let said = world.rustci(&["tests"]).ended_with(0);
    said.says("  ✗ cart › rounds  test (a), 1.5s\n      │ left: 10\n      │ at cart.rs:9\n");
    assert!(!said.out.contains("cart › adds"), "{}", said.out);
    world
        .rustci(&["tests", "1", "--all"])
        .ended_with(0)
        .says("  ✓ cart › adds  test (b), 0.2s");
    // The same commit, another result.
    world
        .rustci(&["run"])
        .ended_with(0)
        .says("✓ 4 tests passed or skipped");
    let flaky = world
        .rustci(&["tests", "--flaky", "--json"])
        .ended_with(0)
        .json()
        .remove(0);
    let names: Vec<&str> = flaky["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|test| test["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["rounds", "rounds"],
        "one for each instance of the matrix"
    );
    assert_eq!(flaky["tests"][0]["last_failure_run"], 1);
    let slow = world
        .rustci(&["tests", "--slowest", "--limit", "1"])
        .ended_with(0);
    slow.says("cart › rounds");
    let said = world
        .rustci(&["tests", "--history", "rounds"])
        .ended_with(0);
    said.says("2 tests have \"rounds\" in their names:");
    let id = flaky["tests"][0]["test"].to_string();
    assert!(id.parse::<u32>().is_ok());
    world
        .rustci(&["tests", "--history", "no such"])
        .ended_with(2)
        .complains("no test of the newest runs");
}

#[test]
fn the_history_of_one_test_tells_runs_and_reasons() {
    let pipeline = PIPELINE.replace("db: [a, b]", "db: [a]");
    let world = World::with_pipeline(&pipeline);
    commit(&world);
    world.rustci(&["run", "--input", "wish=fail"]).ended_with(1);
    world.rustci(&["run"]).ended_with(0);
    let said = world
        .rustci(&["tests", "--history", "cart › rounds"])
        .ended_with(0);
    let rows: Vec<&str> = said
        .out
        .lines()
        .filter(|line| line.contains("just now"))
        .collect();
    assert_eq!(rows.len(), 2, "{}", said.out);
    assert!(
        rows[0].trim_start().starts_with("✓  2") && rows[1].contains("left: 10"),
        "{}",
        said.out
    );
    let json = world
        .rustci(&["tests", "--history", "rounds", "--json"])
        .ended_with(0)
        .json()
        .remove(0);
    assert_eq!(json["results"][0]["commit"].as_str().unwrap().len(), 40);
    assert_eq!(json["results"][1]["outcome"], "failed");
}

#[test]
fn summaries_are_printed_by_job_and_step() {
    let world = World::with_pipeline(PIPELINE);
    world.rustci(&["run"]).ended_with(0);
    let said = world.rustci(&["runs", "summary"]).ended_with(0);
    assert_eq!(
        said.out,
        "test (a) › unit\n## Coverage of a: 93 %\n\ntest (b) › unit\n## Coverage of b: 93 %\n\n"
    );
    let json = world
        .rustci(&["runs", "summary", "1", "--json"])
        .ended_with(0)
        .json()
        .remove(0);
    assert_eq!(json["summaries"][1]["text"], "## Coverage of b: 93 %\n");
}

#[test]
fn runs_without_reports_say_so() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo }] } }\n");
    world.rustci(&["tests"]).ended_with(2).complains("no runs");
    world.rustci(&["run"]).ended_with(0);
    world
        .rustci(&["tests"])
        .ended_with(0)
        .says("run 1 has no test reports; `reports`");
    world
        .rustci(&["tests", "--flaky"])
        .ended_with(0)
        .says("no such tests");
    world
        .rustci(&["runs", "summary"])
        .ended_with(0)
        .says("run 1 has no summaries");
    world
        .rustci(&["tests", "9"])
        .ended_with(2)
        .complains("run 9 is not known");
}

#[test]
fn a_server_has_the_tests_and_summaries_of_its_runs() {
    let remote = remote(PIPELINE);
    let place = ["--server", remote.url.as_str()];
    let rustci = |args: &[&str]| remote.world.rustci(&[args, &place].concat());
    rustci(&["run", "--input", "wish=fail"])
        .ended_with(1)
        .says("2 of 4 tests failed");
    rustci(&["tests", "1"])
        .ended_with(0)
        .says("✗ cart › rounds  test (a), 1.5s");
    rustci(&["runs", "summary", "1"])
        .ended_with(0)
        .says("## Coverage of b: 93 %");
    let log = rustci(&["runs", "logs", "1", "test (a)"]).ended_with(0);
    log.says("tests: 2 in the report, 1 failed, 0 skipped");
}
