//! `rustci secrets`, and that values stay where they belong.

use crate::remote::remote;
use crate::world::World;

const VALUE: &str = "correct-horse-battery";
const PIPELINE: &str = r#"
jobs:
  use:
    secrets: { TOKEN: deploy_token }
    steps:
      - run: |
          test "${#TOKEN}" = 21 && echo "sha: $(printf %s "$TOKEN" | sha256sum)"
          echo "the token is $TOKEN"
"#;

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn a_secret_set_here_reaches_local_runs_and_no_file() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["run"]).ended_with(2);
    said.complains("secrets that are not set: deploy_token");
    said.complains("rustci secrets set");
    let said = world.rustci_reading(&["secrets", "set", "deploy_token"], &format!("{VALUE}\n"));
    said.ended_with(0).says("deploy_token is set");
    let said = world.rustci(&["run"]).ended_with(0);
    said.says("the token is ***");
    assert!(!holds(said.out.as_bytes(), VALUE));
    let listed = world.rustci(&["secrets", "list"]).ended_with(0);
    listed.says("deploy_token");
    let json = world
        .rustci(&["secrets", "list", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(json[0]["secrets"][0]["version"], 1);
    assert!(!holds(&World::bytes_below(&world.path("state")), VALUE));
    world
        .rustci(&["secrets", "rekey"])
        .ended_with(0)
        .says("1 sealed");
    world.rustci(&["run"]).ended_with(0);
    world
        .rustci(&["secrets", "rm", "deploy_token"])
        .ended_with(0);
    world
        .rustci(&["secrets", "rm", "deploy_token"])
        .ended_with(2)
        .complains("no secret");
    world.rustci(&["run"]).ended_with(2);
}

#[test]
fn a_file_for_one_run_wins_over_what_is_kept_here() {
    let world = World::with_pipeline(
        "jobs: { use: { secrets: [TOKEN], steps: [{ run: 'test \"$TOKEN\" = from-the-file' }] } }\n",
    );
    world
        .rustci_reading(&["secrets", "set", "TOKEN"], VALUE)
        .ended_with(0);
    world.rustci(&["run"]).ended_with(1);
    std::fs::write(world.path("some"), "TOKEN=from-the-file\n").unwrap();
    let file = world.path("some").display().to_string();
    world
        .rustci(&["run", "--secrets-file", &file])
        .ended_with(0);
}

#[test]
fn a_server_keeps_secrets_by_project() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    let secrets = |args: &[&str], input: &str| {
        let args = [&["secrets"], args, &["--server", &remote.url]].concat();
        world.rustci_reading(&args, input)
    };
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(2);
    secrets(&["set", "deploy_token"], "the global one").ended_with(0);
    secrets(&["set", "deploy_token", "--project", "project"], VALUE).ended_with(0);
    let said = world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    said.says("the token is ***");
    let again = secrets(&["set", "deploy_token", "--new"], "x").ended_with(2);
    again.complains("there is a secret deploy_token already");
    let listed = secrets(&["list", "--json"], "").ended_with(0).json();
    let projects: Vec<_> = listed[0]["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["project"].clone())
        .collect();
    assert_eq!(projects, [serde_json::Value::Null, "project".into()]);
    secrets(&["rekey"], "").ended_with(0).says("2 sealed");
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    secrets(&["rm", "deploy_token", "--project", "project"], "").ended_with(0);
    assert!(!holds(&World::bytes_below(&world.path("state")), VALUE));
    let data = world.path("state/rustci/server").display().to_string();
    let said = world
        .rustci(&["secrets", "list", "--data-dir", &data])
        .ended_with(2);
    said.complains("in use by process");
}

#[test]
fn values_and_names_that_are_none_are_refused_without_being_repeated() {
    let world = World::new();
    let set = |name: &str, value: &str| world.rustci_reading(&["secrets", "set", name], value);
    set("A", "")
        .ended_with(2)
        .complains("a secret is not empty");
    set("A B", VALUE)
        .ended_with(2)
        .complains("letters, digits, _ and -");
    let said = set("A", &VALUE.repeat(5_000)).ended_with(2);
    said.complains("at most 65536 bytes");
    assert!(!holds(said.err.as_bytes(), VALUE));
    // The value is no argument.
    world.rustci(&["secrets", "set", "A", VALUE]).ended_with(2);
    assert!(!world.path("state/rustci/secrets").join("A").exists());
}
