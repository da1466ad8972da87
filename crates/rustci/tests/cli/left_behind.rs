//! Local runs seen from another program while they go on, and after their process was killed.

use crate::world::World;

/// Waits for `go`, which the second try of a run finds.
fn pipeline(go: &std::path::Path) -> String {
    format!(
        "jobs:\n  hold:\n    steps:\n      - name: waits\n        run: |\n          echo begun\n          \
         test -e '{}' || sleep 60\n  after: {{ needs: [hold], steps: [{{ run: echo after }}] }}\n",
        go.display()
    )
}

#[test]
fn a_run_whose_process_was_killed_is_over_for_whoever_looks() {
    let world = World::new();
    let go = world.path("go");
    world.write(".rustci.yaml", &pipeline(&go));
    let mut run = world.start(&["run"]);
    run.wait_for("| begun");
    run.kill();
    let watched = world.rustci(&["runs", "watch", "1"]).ended_with(3);
    watched.says("canceled");
    let view = world.rustci(&["--json", "runs", "view", "1"]).ended_with(0);
    let view = view.json().remove(0);
    assert_eq!(view["status"], "finished");
    let hold = &view["jobs"][0];
    assert_eq!(hold["status"], "finished");
    assert_eq!(hold["steps"][0]["status"], "finished", "{hold}");
    let data = std::fs::read_dir(world.path("state/rustci/local")).unwrap();
    let data = data.map(|entry| entry.unwrap().path()).next().unwrap();
    let jobs = std::fs::read_dir(data.join("runner/jobs")).unwrap();
    assert_eq!(jobs.count(), 0, "the workspace is gone");
    std::fs::write(&go, "").unwrap();
    let again = world.rustci(&["runs", "rerun", "1"]).ended_with(0);
    again.says("after");
}

#[test]
fn explain_asks_the_run_that_goes_on_here() {
    let world = World::with_pipeline(
        "jobs:\n  ship:\n    environment: { name: live, approval: { timeout: 1h } }\n    \
         steps: [{ run: echo ship }]\n",
    );
    let mut run = world.start(&["run"]);
    run.wait_for("waits for somebody to approve it");
    let said = world.rustci(&["--json", "explain", "1"]).ended_with(0);
    let said = said.json().remove(0);
    assert_eq!(said["jobs"][0]["code"], "approval", "{said}");
    run.signal("INT");
    assert_eq!(run.finish().0, Some(130));
}
