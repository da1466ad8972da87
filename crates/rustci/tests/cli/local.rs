//! `rustci run` with its own server and runner, and `rustci runs` on what it leaves.

use crate::world::{Said, World, example, is_running};

#[test]
fn the_tour_shows_every_feature_and_passes() {
    let world = World::new();
    let path = example(&world, "tour");
    let said = world.rustci(&["run", path.to_str().unwrap()]).ended_with(0);
    said.has_lines(&[
        "pack | try 1",
        "pack | the network went away",
        "pack | try 2",
        "grid (c, 9) | cell c9",
        "tolerant | the probe ended as failure and counts as success",
        "summary | pack success, publish skipped",
    ]);
    said.says("passed on try 2");
    said.says("publish | – skipped");
    said.says("slow | ✗ would sleep a minute");
    said.says("slow | ! job timed out");
    said.says("✓ run 1 succeeded");
    assert!(
        !said.out.contains("(b, 2)") && !said.out.contains("never printed"),
        "{}",
        said.out
    );
}

#[test]
fn an_allowed_failure_is_no_failure_also_when_the_run_fails() {
    let world = World::with_pipeline(
        "jobs:\n  may: { continue-on-error: true, steps: [{ run: exit 3 }] }\n  \
         must: { needs: [may], steps: [{ run: exit 4 }] }\n",
    );
    let said = world.rustci(&["run"]).ended_with(1);
    said.says("may | ! job failed: `exit 3`: exit code 3 (allowed)");
    said.says("must › exit 4: exit code 4");
    said.says("1 of 2 jobs failed, 1 failed as allowed");
    assert!(!said.out.contains("may › exit 3"), "{}", said.out);
}

#[test]
fn the_dummy_executor_takes_what_asks_for_it() {
    let world = World::with_pipeline(
        "jobs:\n  pretend:\n    runs-on: executor=dummy\n    \
         env: { DUMMY_OUTPUT_BYTES: 64, DUMMY_EXIT_CODE: 9 }\n    steps: [{ run: touch ran }]\n",
    );
    let said = world.rustci(&["run"]).ended_with(1);
    said.says("pretend | ✗ job failed");
    assert!(!world.path("ran").exists());
}

#[test]
fn the_c_program_builds_and_hands_its_size_on() {
    let world = World::new();
    let path = example(&world, "c-program");
    let said = world.rustci(&["run", path.to_str().unwrap()]).ended_with(0);
    said.says("| ok      2 3 + 4 *");
    let line = said
        .out
        .lines()
        .find(|line| line.starts_with("announce | rpn is "))
        .unwrap();
    let bytes: u32 = line.split(' ').nth(4).unwrap().parse().unwrap();
    assert!(bytes > 1_000);
}

#[test]
fn the_python_package_passes_under_every_seed() {
    let world = World::new();
    let path = example(&world, "python-package");
    let said = world.rustci(&["run", path.to_str().unwrap()]).ended_with(0);
    said.has_lines(&["report | slugs 1.0.2 tests ended with success"]);
    said.says("test (7, -W error) | OK");
}

#[test]
fn the_rust_crate_is_tested_and_named() {
    let world = World::new();
    let path = example(&world, "rust-crate");
    let said = world.rustci(&["run", path.to_str().unwrap()]).ended_with(0);
    said.says("announce | tally 0.3.1 is ");
}

const FAILING: &str = "
name: shop
jobs:
  good: { steps: [{ run: echo fine }] }
  test:
    steps:
      - { name: build, run: echo built }
      - { name: unit tests, run: \"echo 'assertion failed: 2 == 3'; exit 9\" }
      - { name: upload, run: echo never }
  deploy: { needs: [test], steps: [{ run: echo never }] }
";

#[test]
fn a_failure_names_the_step_its_last_lines_and_what_to_do() {
    let world = World::with_pipeline(FAILING);
    let said = world.rustci(&["run"]).ended_with(1);
    said.has_lines(&[
        "test | assertion failed: 2 == 3",
        "  test › unit tests: exit code 9",
        "  │ assertion failed: 2 == 3",
        "  whole log  rustci runs logs 1 test",
        "  run again  rustci run --job test",
    ]);
    said.says("✗ run 1 failed in ");
    said.says(": 1 of 3 jobs failed, 1 skipped");
    assert!(!said.out.contains("never\n"), "{}", said.out);

    let said = world.rustci(&["runs", "logs", "1", "test"]).ended_with(0);
    said.has_lines(&["▸ build", "built", "assertion failed: 2 == 3"]);
    let said = world.rustci(&["runs", "logs", "--failed"]).ended_with(0);
    said.says("assertion failed");
    assert!(!said.out.contains("fine"), "{}", said.out);
    world
        .rustci(&["runs", "view"])
        .ended_with(0)
        .says("  │ assertion failed: 2 == 3");
    world
        .rustci(&["runs", "watch"])
        .ended_with(1)
        .says("✗ run 1 failed");
    world
        .rustci(&["runs", "list"])
        .ended_with(0)
        .says("✗ failure");

    let said = world.rustci(&["runs", "view", "7"]).ended_with(2);
    said.complains("error: run 7 is not known");
    said.complains("hint: the newest is 1");
    let said = world.rustci(&["runs", "logs", "1", "tset"]).ended_with(2);
    said.complains("hint: did you mean `test`?");
    let said = world.rustci(&["runs", "cancel", "1"]).ended_with(2);
    said.complains("error: no `rustci run` is going on");
}

#[test]
fn one_job_runs_with_what_it_needs_and_nothing_else() {
    let world = World::with_pipeline(
        "jobs:\n  a: { steps: [{ run: echo A }] }\n  b: { needs: [a], steps: [{ run: echo B }] }\n  \
         c: { steps: [{ run: echo C }] }\n",
    );
    let said = world.rustci(&["run", "--job", "b"]).ended_with(0);
    said.has_lines(&["a | A", "b | B"]);
    assert!(!said.out.contains("c | "), "{}", said.out);
}

#[test]
fn a_kept_workspace_holds_what_the_job_made() {
    let world =
        World::with_pipeline("jobs: { a: { steps: [{ run: echo built > made; exit 1 }] } }\n");
    let data = world.path("data");
    let data = data.to_str().unwrap();
    let said = world
        .rustci(&["run", "--keep", "--data-dir", data])
        .ended_with(1);
    said.has_lines(&[&format!("  workspace  {data}/workspaces/1.1")]);
    let made = std::fs::read_to_string(format!("{data}/workspaces/1.1/made")).unwrap();
    assert_eq!(made, "built\n");
    said.says(&format!("rustci runs logs 1 a --data-dir {data}"));
}

#[test]
fn two_runs_of_a_project_may_go_on_at_once() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo begun; sleep 65.5 }] } }\n");
    let mut first = world.start(&["run"]);
    first.wait_for("a | begun");
    let mut second = world.start(&["run"]);
    second.wait_for("a | begun");
    for run in [&first, &second] {
        run.signal("INT");
    }
    assert_eq!(first.finish().0, Some(130));
    assert_eq!(second.finish().0, Some(130));
    world
        .rustci(&["runs", "list"])
        .ended_with(0)
        .says("reach them with --data-dir ");
}

#[test]
fn a_run_whose_program_was_killed_is_canceled_by_the_next() {
    let world = World::with_pipeline(
        "on: { manual: { inputs: { seconds: { type: string, default: '66.5' } } } }\n\
         jobs: { a: { env: { S: \"${{ inputs.seconds }}\" }, steps: [{ run: echo begun; sleep $S }] } }\n",
    );
    let mut run = world.start(&["run"]);
    run.wait_for("a | begun");
    run.signal("KILL");
    run.finish();
    world.rustci(&["run", "--input", "seconds=0"]).ended_with(0);
    assert!(!is_running("sleep\u{0}66.5"));
    world
        .rustci(&["runs", "view", "1"])
        .ended_with(0)
        .says("run 1 was canceled");
}

#[test]
fn a_secret_that_is_not_set_is_named_with_the_ways_to_set_it() {
    let world = World::with_pipeline("jobs: { a: { secrets: [TOKEN], steps: [{ run: echo }] } }\n");
    let said = world.rustci(&["run"]).ended_with(2);
    said.complains("error: the pipeline uses secrets that are not set: TOKEN");
    said.complains("hint: `rustci secrets set NAME` keeps one");
}

#[test]
fn inputs_environment_and_secrets_reach_the_job_and_secrets_are_masked() {
    let world = World::with_pipeline(
        "on: { manual: { inputs: { who: { type: string, default: nobody } } } }\n\
         jobs:\n  a:\n    env: { WHO: \"${{ inputs.who }}\" }\n    secrets: { TOKEN: deploy_token }\n    \
         steps: [{ run: 'echo \"$WHO $COLOUR ${#TOKEN} $TOKEN\"' }]\n",
    );
    world.write("secrets", "deploy_token=correct-horse\n");
    let args = [
        "run",
        "--input",
        "who=me",
        "--env",
        "COLOUR=red",
        "--secrets-file",
        "secrets",
    ];
    let said = world.rustci(&args).ended_with(0);
    said.has_lines(&["a | me red 13 ***"]);
    assert!(!said.out.contains("correct-horse"));
}

#[test]
fn escape_sequences_of_a_job_never_reach_a_pipe() {
    let world = World::with_pipeline(
        "jobs: { a: { steps: [{ run: \"printf '\\\\033]0;owned\\\\007\\\\033[31mred\\\\033[0m\\\\n'\" }] } }\n",
    );
    world.rustci(&["run"]).ended_with(0).has_lines(&["a | red"]);
}

#[test]
fn json_is_one_object_per_line_from_start_to_result() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo hello }] } }\n");
    let lines = world.rustci(&["run", "--json"]).ended_with(0).json();
    assert_eq!(lines[0]["kind"], "start");
    let log = lines
        .iter()
        .find(|line| line["kind"] == "log" && line["channel"] == "stdout")
        .unwrap();
    assert_eq!(
        (log["key"].as_str(), log["text"].as_str()),
        (Some("a"), Some("hello"))
    );
    let result = lines.last().unwrap();
    assert_eq!(
        (&result["kind"], &result["exit_code"]),
        (&"result".into(), &0.into())
    );
    assert_eq!(result["run"]["jobs"][0]["conclusion"], "success");
}

#[test]
fn a_job_that_takes_too_long_has_its_own_code() {
    let world =
        World::with_pipeline("jobs: { a: { timeout: 300ms, steps: [{ run: sleep 61.25 }] } }\n");
    world.rustci(&["run"]).ended_with(7).says("timed out");
    assert!(!is_running("sleep\u{0}61.25"));
}

#[test]
fn one_interrupt_cancels_politely_and_leaves_nothing_behind() {
    let world = World::with_pipeline(
        "jobs:\n  a: { steps: [{ run: echo begun; sleep 62.5 }] }\n  \
         b: { needs: [a], steps: [{ run: echo never }] }\n",
    );
    let mut run = world.start(&["run"]);
    run.wait_for("a | begun");
    run.signal("INT");
    run.wait_for("canceling");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("run 1 was canceled"), "{rest}");
    assert!(!is_running("sleep\u{0}62.5"));
}

#[test]
fn two_interrupts_stop_at_once() {
    let world = World::with_pipeline(
        "jobs: { a: { steps: [{ run: \"trap '' INT TERM; echo begun; sleep 63.5; sleep 63.5\" }] } }\n",
    );
    let mut run = world.start(&["run"]);
    run.wait_for("a | begun");
    run.signal("INT");
    run.wait_for("canceling");
    run.signal("INT");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(130), "{rest}");
}

#[test]
fn when_nobody_reads_the_output_the_run_ends() {
    let world = World::with_pipeline(
        "jobs: { a: { steps: [{ run: \"while true; do echo tick; sleep 0.05; done; sleep 67.5\" }] } }\n",
    );
    let mut run = world.start(&["run"]);
    run.wait_for("a | tick");
    assert_eq!(run.stop_reading(), Some(141));
}

#[test]
fn with_several_files_the_event_decides() {
    let world = World::new();
    world.write(
        ".rustci/a.yaml",
        "name: a\non: { manual: {} }\njobs: { a: { steps: [{ run: echo A }] } }\n",
    );
    world.write(
        ".rustci/b.yaml",
        "name: b\non: { push: {} }\njobs: { b: { steps: [{ run: echo B }] } }\n",
    );
    let said = world.rustci(&["run"]).ended_with(0);
    said.has_lines(&["a | A"]);
    assert!(!said.out.contains("b | "), "{}", said.out);
    let said = world.rustci(&["run", "--file", "b.yaml"]).ended_with(0);
    said.has_lines(&["b | B"]);
}

#[test]
fn the_log_of_an_earlier_attempt_ends_as_that_attempt_did() {
    let world = World::new();
    let flag = world.path("flag");
    world.write(
        ".rustci.yaml",
        &format!(
            "jobs:\n  a:\n    retry: 1\n    steps:\n      - run: echo begun\n      \
             - run: \"test -e {0} || {{ touch {0}; exit 3; }}\"\n",
            flag.display()
        ),
    );
    world.rustci(&["run"]).ended_with(0);
    let logs = |attempt: &str| {
        let said = world.rustci(&["runs", "logs", "1", "a", "--attempt", attempt]);
        said.ended_with(0).out
    };
    let (first, second) = (logs("1"), logs("2"));
    assert!(first.contains("begun"), "{first}");
    assert!(first.contains("\n✗ attempt 1 ended: failure ("), "{first}");
    assert!(
        !first.contains("succeeded") && !first.contains("✓"),
        "{first}"
    );
    assert!(!first.contains("attempt 2"), "{first}");
    assert!(second.contains("✓ job succeeded"), "{second}");
}

#[test]
fn a_cancel_that_comes_too_late_says_how_to_repeat_the_run() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo } ] } }\n");
    world.rustci(&["run"]).ended_with(0);
    let project = world.project().display().to_string();
    let mut command = world.command(&["runs", "cancel", "1", "--project", &project]);
    let said = Said::from(command.current_dir("/").output().unwrap());
    said.ended_with(2)
        .complains(&format!("`rustci runs rerun RUN --project {project}`"));
}
