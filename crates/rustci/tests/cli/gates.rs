//! Approvals, concurrency groups, dynamic matrices and repeated runs, here and on a server.

use crate::remote::remote;
use crate::world::{Said, World};

const SHIP: &str = "\
jobs:
  build: { steps: [{ run: echo built }] }
  ship:
    needs: [build]
    environment: { name: production, approval: { timeout: 10m } }
    steps: [{ run: echo shipped to $CI_ENVIRONMENT }]
";

#[test]
fn somebody_else_approves_a_run_that_goes_on_here() {
    let world = World::with_pipeline(SHIP);
    let mut run = world.start(&["run"]);
    run.wait_for("rustci runs approve 1 ship");
    let said = world.rustci(&["runs", "view", "1"]).ended_with(0);
    said.says("ship");
    let said = world.rustci(&["runs", "approve", "1", "build"]);
    said.ended_with(2)
        .complains("does not wait for an approval");
    let mut command = world.command(&["runs", "approve", "1", "--comment", "fine"]);
    command.env_remove("USER").env_remove("LOGNAME");
    let said = Said::from(command.output().unwrap());
    said.ended_with(0).says("approved `ship` of run 1");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("shipped to production"), "{rest}");
    let said = world.rustci(&["runs", "approve", "1"]).ended_with(2);
    said.complains("no job of run 1 waits for an approval");
    let view = world.rustci(&["--json", "runs", "view", "1"]).json();
    let answer = &view[0]["jobs"][1]["approval"]["answer"];
    assert_eq!(answer["comment"], "fine");
    let by = answer["by"].as_str().unwrap();
    assert!(!by.is_empty());
    let view = world.rustci(&["runs", "view", "1"]).ended_with(0);
    view.says(&format!("✓ approved for production by {by}: fine"));
}

#[test]
fn a_declined_run_ends_with_code_6_and_so_does_one_that_nobody_approved() {
    let world = World::with_pipeline(SHIP);
    let mut run = world.start(&["run"]);
    run.wait_for("rustci runs approve 1 ship");
    let said = world.rustci(&["runs", "decline", "1", "ship"]);
    said.ended_with(0).says("declined `ship` of run 1");
    assert_eq!(run.finish().0, Some(6));

    world.write(".rustci.yaml", &SHIP.replace("10m", "1s"));
    let said = world.rustci(&["run"]).ended_with(6);
    said.says("nobody approved it for `production` in time");
}

#[test]
fn a_run_is_approved_by_an_option() {
    let world = World::with_pipeline(SHIP);
    for wanted in ["all", "ship", "production"] {
        world.rustci(&["run", "--approve", wanted]).ended_with(0);
    }
}

#[test]
fn a_matrix_comes_from_an_output() {
    let world = World::with_pipeline(
        r#"
jobs:
  plan:
    outputs: { matrix: "${{ steps.m.outputs.matrix }}" }
    steps:
      - id: m
        run: echo 'matrix={"os":["linux","mac"],"n":[1]}' >> "$CI_OUTPUT"
  test:
    needs: [plan]
    matrix: "${{ fromJSON(needs.plan.outputs.matrix) }}"
    steps: [{ run: "echo on-$OS", env: { OS: "${{ matrix.os }}" } }]
  after: { needs: [test], steps: [{ run: echo after }] }
"#,
    );
    let said = world.rustci(&["run"]).ended_with(0);
    said.says("on-linux");
    said.says("on-mac");
    said.says("test (mac, 1)");
    let view = world.rustci(&["--json", "runs", "view"]).json();
    let jobs = view[0]["jobs"].as_array().unwrap().iter();
    let keys: Vec<_> = jobs.map(|job| job["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["plan", "test (linux, 1)", "test (mac, 1)", "after"]);
    // The summary of a run that was watched has the same order.
    let place = |name: &str| said.out.rfind(&format!("✓ {name} ")).unwrap();
    assert!(place("test (mac, 1)") < place("after"), "{}", said.out);
}

/// A pipeline whose job `test` fails until the file is there.
fn fails_without(file: &std::path::Path) -> String {
    format!(
        "jobs:\n  build:\n    outputs: {{ n: '${{{{ steps.o.outputs.n }}}}' }}\n    \
         steps: [{{ id: o, run: 'echo n=7 >> $CI_OUTPUT; echo building' }}]\n  \
         test:\n    needs: [build]\n    env: {{ N: '${{{{ needs.build.outputs.n }}}}' }}\n    \
         steps: [{{ run: 'echo got $N; test -f {}' }}]\n  \
         ship: {{ needs: [test], steps: [{{ run: echo shipping }}] }}\n",
        file.display()
    )
}

#[test]
fn failed_jobs_run_again_here() {
    let world = World::new();
    let file = world.path("there");
    world.write(".rustci.yaml", &fails_without(&file));
    world.rustci(&["run"]).ended_with(1);
    std::fs::write(&file, "").unwrap();
    let said = world.rustci(&["runs", "rerun", "1", "--failed"]);
    let said = said.ended_with(0);
    said.says("got 7");
    said.says("shipping");
    assert!(!said.out.contains("building"), "{}", said.out);
    let view = world.rustci(&["--json", "runs", "view", "2"]).json();
    assert_eq!(view[0]["rerun_of"], 1);
    assert_eq!(view[0]["jobs"][0]["carried_from"], 1);
    let said = world.rustci(&["runs", "rerun", "2", "--failed"]);
    said.ended_with(2)
        .complains("no job of run 2 failed or was canceled");
    let said = world.rustci(&["runs", "rerun", "9"]).ended_with(2);
    said.complains("run 9 is not known");
    world
        .rustci(&["runs", "rerun", "1"])
        .ended_with(0)
        .says("building");
}

#[test]
fn a_server_approves_and_repeats_runs() {
    let remote = remote(SHIP);
    let world = &remote.world;
    let server = ["--server", remote.url.as_str()];
    let mut run = world.start(&["run", server[0], server[1]]);
    run.wait_for("rustci runs approve 1 ship --server");
    world
        .rustci(&["runs", "decline", "1", server[0], server[1]])
        .ended_with(0);
    assert_eq!(run.finish().0, Some(6));
    let said = world.rustci(&["runs", "rerun", "1", "--job", "build", server[0], server[1]]);
    said.ended_with(0).says("run 2 repeats run 1");
    let mut watch = world.start(&["runs", "watch", "2", server[0], server[1]]);
    watch.wait_for("rustci runs approve 2 ship");
    world
        .rustci(&["runs", "approve", "2", server[0], server[1]])
        .ended_with(0);
    assert_eq!(watch.finish().0, Some(0));
}

#[test]
fn runs_of_a_group_wait_for_each_other() {
    let remote = remote(
        "concurrency: { group: g, cancel-in-progress: true }\njobs:\n  a: { steps: [{ run: sleep 60 }] }\n",
    );
    let world = &remote.world;
    let server = ["--server", remote.url.as_str()];
    let mut first = world.start(&["run", server[0], server[1]]);
    first.wait_for("sleep 60");
    world.write(
        ".rustci.yaml",
        "concurrency: { group: g, cancel-in-progress: true }\njobs:\n  a: { steps: [{ run: echo new }] }\n",
    );
    world
        .rustci(&["run", server[0], server[1]])
        .ended_with(0)
        .says("new");
    assert_eq!(first.finish().0, Some(3));
}
