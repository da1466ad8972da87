//! Files of the older format, run by the program.

use crate::world::World;

#[test]
fn stages_of_an_older_file_share_one_workspace() {
    let world = World::with_pipeline(
        r#"
name: older
type: standard
environment: { GREETING: hello, PLACE: "${WHO:-world}", OUT: "${ARTIFACTS_DIR}/sub" }
stages:
  - name: make
    steps:
      - name: write
        step_type: shell
        config: { command: 'mkdir -p "$OUT"; echo "${GREETING} ${PLACE}" > "$OUT/text"; false; true' }
      - { name: forgiven, run: exit 3, on_failure: continue }
  - name: use
    environment: { GREETING: "${GREETING} again" }
    steps:
      - { name: read, run: 'cat artifacts/sub/text' }
      - name: names
        step_type: shell
        config:
          working_directory: ${ARTIFACTS_DIR}
          script: ['echo "$GREETING in ${PWD##*/}"', 'echo "run $EXECUTION_ID"', 'cd "$SOURCE_DIR" && test "$PWD" = "$WORKSPACE_PATH"']
"#,
    );
    let said = world.rustci(&["run"]).ended_with(0);
    said.has_lines(&[
        "pipeline | hello world",
        "pipeline | hello again in artifacts",
        "pipeline | run 1",
    ]);
}

#[test]
fn a_failing_command_of_a_list_ends_an_older_job() {
    let world = World::with_pipeline(
        "jobs:\n  first: [echo one, exit 4, echo never]\n  second: echo neither\n",
    );
    let said = world.rustci(&["run"]).ended_with(1);
    said.says("exit code 4");
    assert!(
        !said.out.contains("| never") && !said.out.contains("| neither"),
        "{}",
        said.out
    );
}

#[test]
fn a_matrix_of_an_older_file_is_in_the_environment() {
    let world = World::with_pipeline(
        "name: grid\nmatrix: { level: [1, 2] }\nsteps:\n  - echo \"level ${level}\"\n",
    );
    let said = world.rustci(&["run"]).ended_with(0);
    said.says("| level 1");
    said.says("| level 2");
}

#[test]
fn a_minimal_file_brings_the_project_to_its_server() {
    let world = World::with_pipeline(
        "name: My Site\nrepo: https://example.org/site.git\n\
         server: { host: web.example.org, user: me, port: 2222 }\n",
    );
    world.write("index.html", "<p>here</p>");
    // What the step calls instead of the real program says how it was called and keeps its input.
    let ssh = "#!/bin/sh\necho \"ssh $*\"\ncat > \"$CI_WORKSPACE/../received.tar\"\n\
               tar -tf \"$CI_WORKSPACE/../received.tar\" | grep index\n";
    let bin = world.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("ssh"), ssh).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("ssh"), mode).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = world.command(&["run"]);
    command.env("PATH", format!("{}:{path}", bin.display()));
    let said = crate::world::Said::from(command.output().unwrap()).ended_with(0);
    said.says("| nothing to build");
    said.says("-p 2222 me@web.example.org mkdir -p my-site && tar -xf - -C my-site");
    said.says("| ./index.html");
}

#[test]
fn an_older_file_with_other_kinds_of_steps_is_refused() {
    let world = World::with_pipeline(
        "stages:\n  - name: a\n    steps:\n      - { name: b, step_type: docker, config: { image: c } }\n",
    );
    let said = world.rustci(&["run"]).ended_with(2);
    assert!(
        said.err.contains("RC0501") || said.out.contains("RC0501"),
        "{said:?}"
    );
}
