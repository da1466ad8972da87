//! Pipelines of several files, and commits that ask for none.

use std::process::Command;

use crate::world::World;

const TEMPLATE: &str = "
inputs:
  who: { required: true }
  times: { type: number, default: 1 }
jobs:
  greet:
    env: { WHO: \"${{ inputs.who }}\" }
    timeout: 1m
    steps:
      - run: echo \"hello $WHO ${{ inputs.times }}\"
";

#[test]
fn jobs_of_other_files_run_like_those_of_the_pipeline() {
    let world = World::with_pipeline(
        "
on: { manual: { inputs: { who: } } }
jobs:
  file:
    uses: ci/greet.yaml#greet
    with: { who: file, times: 2 }
  person:
    uses: ci/greet.yaml#greet
    with: { who: \"dear ${{ inputs.who }}\" }
",
    );
    world.write("ci/greet.yaml", TEMPLATE);
    let said = world.rustci(&["run", "--input", "who=$(whoami)"]);
    let said = said.ended_with(0);
    said.says("| hello file 2");
    said.says("| hello dear $(whoami) 1");
    let lint = world.rustci(&["lint", "--json"]).ended_with(0).json();
    let plan = world.rustci(&["plan"]).ended_with(0);
    plan.says(lint[0]["digest"].as_str().unwrap());
}

#[test]
fn findings_name_the_file_they_are_in() {
    let world = World::with_pipeline("include: [{ local: ci/greet.yaml, with: { whom: x } }]\n");
    world.write(
        "ci/greet.yaml",
        &TEMPLATE.replace("timeout: 1m", "timeout: soon"),
    );
    for command in ["lint", "plan", "run"] {
        let said = world.rustci(&[command]).ended_with(2);
        let all = said.out.clone() + &said.err;
        assert!(all.contains(" --> .rustci.yaml:1:43"), "{all}");
        assert!(all.contains("did you mean `who`?"), "{all}");
        assert!(all.contains("--> ci/greet.yaml:8:14"), "{all}");
        assert!(all.contains("8 |     timeout: soon"), "{all}");
    }
}

#[test]
fn files_outside_of_the_project_are_not_read() {
    let world = World::with_pipeline("include: [link.yaml, ../outside.yaml]\n");
    std::fs::write(
        world.path("outside.yaml"),
        "jobs: { a: { steps: [{ run: id }] } }\n",
    )
    .unwrap();
    std::os::unix::fs::symlink("../outside.yaml", world.project().join("link.yaml")).unwrap();
    let said = world.rustci(&["lint"]).ended_with(2);
    said.says("error[RC0701]: there is no file `link.yaml` in the project");
    said.says("error[RC0702]: `../outside.yaml` leads out of the project");
}

#[test]
fn a_push_that_asks_for_no_run_gets_none() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo ran }] } }\n");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
        let status = command
            .args(arguments)
            .current_dir(world.project())
            .status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "docs only\n\n[CI skip]"]);
    let said = world.rustci(&["run", "--event", "push"]).ended_with(0);
    said.says("skipped: the commit's message has `[ci skip]`, so nothing is run for it");
    let said = world
        .rustci(&["run", "--event", "push", "--json"])
        .ended_with(0);
    assert_eq!(said.json()[0]["skipped"], true);
    world.rustci(&["run"]).ended_with(0).says("| ran");
}
