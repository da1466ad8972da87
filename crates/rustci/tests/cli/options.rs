//! Options of `rustci run`, filters of `rustci runs`, and completions.

use std::process::{Command, Stdio};

use crate::remote::remote;
use crate::world::World;

const PIPELINE: &str = r#"
name: shop
on: { manual: { inputs: { target: { default: staging } } }, push: {}, pull_request: { branches: [main] } }
jobs:
  lint: { steps: [{ run: echo lint }] }
  test: { needs: [lint], steps: [{ run: echo test }] }
  publish: { if: event.name == 'push', secrets: [TOKEN], steps: [{ run: echo publish }] }
  deploy: { if: inputs.target == 'prod', secrets: { KEY: deploy_key }, steps: [{ run: echo deploy }] }
"#;

#[test]
fn a_dry_run_says_what_would_happen_and_runs_nothing() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["run", "--dry-run"]).ended_with(0);
    said.says("shop on manual: nothing is executed");
    said.says("input target = staging");
    said.says("skipped: its condition `event.name == 'push'` is false");
    assert!(!said.out.contains("secret TOKEN"), "{}", said.out);
    let args = [
        "run",
        "--dry-run",
        "--event",
        "push",
        "--input",
        "target=prod",
        "--json",
    ];
    let said = &world.rustci(&args).ended_with(0).json()[0];
    let runs: Vec<_> = said["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["runs"].clone())
        .collect();
    assert_eq!(runs, ["yes", "yes", "yes", "yes"]);
    let secrets = serde_json::json!([
        {"name": "TOKEN", "set": false}, {"name": "deploy_key", "set": false},
    ]);
    assert_eq!(said["secrets"], secrets);
    world
        .rustci_reading(&["secrets", "set", "TOKEN"], "x")
        .ended_with(0);
    let args = ["run", "--dry-run", "--event", "push", "--job", "publish"];
    world.rustci(&args).ended_with(0).says("secret TOKEN: set");
    assert!(!world.path("state/rustci/local").exists());
    world
        .rustci(&["run", "--dry-run", "--job", "tset"])
        .ended_with(2)
        .complains("did you mean `test`");
    // The plan of a dry run is the plan of the run.
    let plan = world.rustci(&["plan", "--json"]).ended_with(0).out;
    let digest = said["digest"].as_str().unwrap();
    let sum = Command::new("sh")
        .args(["-c", "printf %s \"$0\" | sha256sum", plan.trim_end()])
        .output()
        .unwrap();
    assert!(sum.stdout.starts_with(digest.as_bytes()));
}

#[test]
fn a_whole_event_comes_from_a_file() {
    let world = World::with_pipeline(
        "on: { pull_request: { branches: [main] }, manual: {} }\n\
         jobs: { a: { env: { N: \"${{ event.number }}\", C: \"${{ git.commit }}\" }, steps: [{ run: 'echo \"pr $N at $C\"' }] } }\n",
    );
    let event = world.path("event.json");
    let text = r#"{"event": {"name": "pull_request", "number": 7, "base": "main"}, "git": {"commit": "c0ffee"}}"#;
    std::fs::write(&event, text).unwrap();
    let path = event.display().to_string();
    world
        .rustci(&["run", "--event", &path])
        .ended_with(0)
        .says("pr 7 at c0ffee");
    let view = world.rustci(&["runs", "list", "--event", "pull_request", "--json"]);
    assert_eq!(
        view.ended_with(0).json()[0]["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    std::fs::write(&event, "{}").unwrap();
    world
        .rustci(&["run", "--event", &path])
        .ended_with(2)
        .complains("is no event");
    world
        .rustci(&["run", "--event", "lunch"])
        .ended_with(2)
        .complains("hint: the events are manual");
}

#[test]
fn several_jobs_and_labels_can_be_named() {
    let world = World::with_pipeline(
        "jobs:\n  a: { steps: [{ run: echo one }] }\n  b: { runs-on: gpu, steps: [{ run: echo two }] }\n  \
         c: { steps: [{ run: echo three }] }\n",
    );
    let args = ["run", "--job", "a", "--job", "b", "--label", "gpu"];
    let said = world.rustci(&args).ended_with(0);
    said.has_lines(&["a | one", "b | two"]);
    assert!(!said.out.contains("three"), "{}", said.out);
    let said = world.rustci(&["run", "--label", "gpu", "--server", "http://127.0.0.1:9"]);
    said.ended_with(2)
        .complains("--label gives labels to the runner here");
}

#[test]
fn runs_of_a_server_are_filtered_and_canceled_together() {
    let remote = remote("jobs: { a: { runs-on: nowhere, steps: [{ run: echo }] } }\n");
    let world = &remote.world;
    let waiting: Vec<_> = ["push", "manual", "push"]
        .map(|event| {
            let mut run = world.start(&["run", "--server", &remote.url, "--event", event]);
            run.wait_for("no runner has");
            run
        })
        .into();
    let runs =
        |args: &[&str]| world.rustci(&[&["runs"], args, &["--server", &remote.url]].concat());
    let list = |args: &[&str]| {
        let said = runs(&[&["list", "--json"], args].concat())
            .ended_with(0)
            .json();
        let runs = said[0]["runs"].as_array().unwrap();
        runs.iter()
            .map(|run| run["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&["--event", "push"]), [3, 1]);
    assert_eq!(list(&["--status", "queued"]), [3, 2, 1]);
    assert_eq!(list(&["--branch", "main"]), [0_u64; 0]);
    assert_eq!(list(&["--project", "project"]).len(), 3);
    assert_eq!(list(&["--project", "other"]), [0_u64; 0]);
    runs(&["cancel"])
        .ended_with(2)
        .complains("wants the number of a run");
    let said = runs(&["cancel", "--event", "push", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["cancel"], "accepted");
    runs(&["cancel", "2"]).ended_with(0);
    for run in waiting {
        assert_eq!(run.finish().0, Some(3));
    }
    runs(&["cancel", "--branch", "main"])
        .ended_with(0)
        .says("no run is left");
}

#[test]
fn every_shell_gets_completions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = world.rustci(&["completions", shell]).ended_with(0);
        said.says("dry-run");
    }
    let script = world.rustci(&["completions", "bash"]).out;
    std::fs::write(world.path("completions"), script).unwrap();
    let checked = Command::new("bash")
        .arg("-n")
        .arg(world.path("completions"))
        .status();
    assert!(checked.unwrap().success());
    world.rustci(&["completions", "tcsh"]).ended_with(2);
}

#[test]
fn the_event_tag_needs_a_tag() {
    let world =
        World::with_pipeline("on: tag\njobs: { a: { steps: [{ run: \"echo $CI_REF\" }] } }\n");
    let said = world.rustci(&["run", "--event", "tag"]).ended_with(2);
    said.complains("no tag is on the commit that is checked out");
    let git = |args: &[&str]| {
        let status = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t"])
            .args(args)
            .current_dir(world.project())
            .status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let said = world.rustci(&["run", "--event", "tag"]).ended_with(2);
    said.complains("hint: check out a commit with a tag");
    git(&["tag", "v1"]);
    world.rustci(&["run", "--event", "tag"]).ended_with(0);
}

#[test]
fn an_approval_is_given_only_to_what_asks_for_one() {
    let world = World::with_pipeline(
        "jobs:\n  build: { steps: [{ run: echo }] }\n  ship:\n    \
         environment: { name: production, approval: { timeout: 1m } }\n    steps: [{ run: echo }]\n",
    );
    let said = world.rustci(&["run", "--approve", "shipp"]).ended_with(2);
    said.complains("--approve names `shipp`, and no such job asks for an approval");
    said.complains("hint: did you mean `ship`?");
    let said = world.rustci(&["run", "--approve", "build"]).ended_with(2);
    said.complains("job `build` asks for no approval");
    said.complains("hint: those that ask are ship, production");
}

#[test]
fn a_variable_has_the_same_names_as_in_a_pipeline_file() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo }] } }\n");
    for wrong in ["A B=1", "1A=1", "A-B=1"] {
        let said = world.rustci(&["run", "--env", wrong]).ended_with(2);
        said.complains("is not the name of a variable");
    }
}

#[test]
fn when_nobody_reads_what_is_printed_the_code_is_that_of_a_closed_pipe() {
    let world = World::new();
    let mut command = world.command(&["openapi"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(output.stderr, b"");
}
