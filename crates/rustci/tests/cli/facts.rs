//! What steps know of their run, and what they set for those after them.

use crate::world::World;

const PIPELINE: &str = r#"
name: facts
jobs:
  show:
    matrix: { axes: { rust-version: [1.9] } }
    environment: staging-${{ event.name }}
    outputs: { all: "${{ steps.print.outputs.all }}" }
    steps:
      - run: |
          mkdir bin
          printf '#!/bin/sh\necho a tool\n' > bin/tool
          chmod +x bin/tool
          echo "$CI_WORKSPACE/bin" >> "$CI_PATH"
          echo "LATER=set before" >> "$CI_ENV"
      - id: print
        run: |
          echo "$LATER, ${{ env.LATER }}, $(tool)"
          echo "all=$CI $CI_ENVIRONMENT $CI_MATRIX_RUST_VERSION $CI_MATRIX $CI_EVENT $CI_JOB_ID $CI_STEP_NUMBER" >> "$CI_OUTPUT"
      - run: echo "BASH_ENV=/tmp/evil" >> "$CI_ENV"
        continue-on-error: true
      - run: echo "still [$BASH_ENV]"
"#;

#[test]
fn steps_know_their_run_and_set_up_later_steps() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["run"]).ended_with(0);
    said.says("set before, set before, a tool");
    said.says("BASH_ENV cannot be set through $CI_ENV");
    said.says("still []");
    let view = world
        .rustci(&["runs", "view", "--json"])
        .ended_with(0)
        .json()
        .remove(0);
    assert_eq!(
        view["jobs"][0]["outputs"]["all"],
        r#"true staging-manual 1.9 {"rust-version":1.9} manual show 2"#
    );
}
