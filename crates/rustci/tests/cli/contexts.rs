//! `rustci context`, and which server a command asks.

use std::os::unix::fs::PermissionsExt;

use crate::remote::remote;
use crate::world::World;

#[test]
fn a_context_stands_for_a_server_and_its_token() {
    let remote = remote("jobs: { a: { steps: [{ run: echo from afar }] } }\n");
    let world = &remote.world;
    let token = std::fs::read_to_string(world.path("state/rustci/server/token")).unwrap();
    let add = ["context", "add", "prod", "--server", &remote.url];
    world
        .rustci_reading(&add, &token)
        .ended_with(0)
        .says("prod is http://");
    let file = world.path("config/rustci/contexts.json");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world
        .rustci(&["run", "--context", "prod"])
        .ended_with(0)
        .says("--context prod");
    world.rustci(&["context", "use", "prod"]).ended_with(0);
    world
        .rustci(&["context", "list"])
        .ended_with(0)
        .says("*  prod");
    let shown = world.rustci(&["context", "show", "--json"]).ended_with(0);
    assert_eq!(shown.json()[0]["because"], "rustci context use");
    assert!(!shown.out.contains(token.trim()), "{}", shown.out);
    world
        .rustci(&["runs", "list"])
        .ended_with(0)
        .says("✓ success");
    // What is named in the command is stronger than what was chosen before.
    let here = ["runs", "list", "--context", "local"];
    world.rustci(&here).ended_with(0).says("no runs yet in ");
    let nowhere = ["runs", "list", "--server", "http://127.0.0.1:9"];
    world
        .rustci(&nowhere)
        .ended_with(5)
        .complains("127.0.0.1:9");
    world.rustci(&["context", "use", "local"]).ended_with(0);
    world
        .rustci(&["runs", "list"])
        .ended_with(0)
        .says("no runs yet in ");
    let mut command = world.command(&["runs", "list"]);
    assert!(
        command
            .env("RUSTCI_CONTEXT", "prod")
            .status()
            .unwrap()
            .success()
    );
    world.rustci(&["context", "rm", "prod"]).ended_with(0);
    world
        .rustci(&["context", "use", "prod"])
        .ended_with(2)
        .complains("no context `prod`");
}

#[test]
fn a_configuration_that_is_not_ours_is_refused() {
    let world = World::new();
    let both = ["runs", "list", "--server", "http://h", "--context", "x"];
    world
        .rustci(&both)
        .ended_with(2)
        .complains("cannot be used with");
    let add = ["context", "add", "x", "--server", "ftp://h", "--no-token"];
    world
        .rustci(&add)
        .ended_with(2)
        .complains("not the URL of a server");
    let add = [
        "context",
        "add",
        "local",
        "--server",
        "http://h",
        "--no-token",
    ];
    world
        .rustci(&add)
        .ended_with(2)
        .complains("cannot be the name");
    let add = ["context", "add", "x", "--server", "http://h"];
    world
        .rustci_reading(&add, "two words")
        .ended_with(2)
        .complains("not a token");
    world
        .rustci_reading(&add, "")
        .ended_with(0)
        .says("without a token");
    let file = world.path("config/rustci/contexts.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    world
        .rustci(&["runs", "list"])
        .ended_with(2)
        .complains("hint: chmod 600");
    std::fs::write(&file, r#"{"version": 1, "tokens": {}}"#).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    world
        .rustci(&["runs", "list"])
        .ended_with(2)
        .complains("unknown field `tokens`");
}
