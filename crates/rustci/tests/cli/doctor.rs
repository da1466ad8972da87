//! `rustci doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::remote::{Remote, remote};
use crate::world::{Said, World};

/// Level and message of a finding.
fn finding(said: &Said, id: &str) -> (String, String) {
    let checks = said.json()[0]["checks"].as_array().unwrap().clone();
    let found = checks.iter().find(|check| check["id"] == id);
    let found: &Value = found.unwrap_or_else(|| panic!("no {id} in {}", said.out));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (
        text("level"),
        format!("{} {}", text("message"), text("hint")),
    )
}

fn stop(remote: &Remote) {
    remote.server.signal("TERM");
    let lock = remote.world.path("state/rustci/server/lock");
    while fs::File::open(&lock).unwrap().try_lock().is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_machine_is_checked_for_what_jobs_need() {
    let world = World::new();
    let said = world.rustci(&["doctor", "--json"]).ended_with(0);
    assert_eq!(finding(&said, "bash").0, "ok");
    assert!(finding(&said, "kernel").1.contains("child subreaper: yes"));
    let mut command = world.command(&["doctor", "--json"]);
    let said = Said::from(command.env("PATH", "/nowhere").output().unwrap());
    assert_eq!(finding(&said, "git").0, "warn");
}

#[test]
fn a_server_is_checked_from_outside() {
    let remote = remote("jobs: { a: { runs-on: gpu, steps: [{ run: echo }] } }\n");
    let world = &remote.world;
    let doctor = || world.rustci(&["doctor", "--json", "--server", &remote.url]);
    let said = doctor().ended_with(0);
    for id in [
        "reachable",
        "version",
        "clock",
        "ready",
        "token",
        "runners",
        "queue",
    ] {
        assert_eq!(finding(&said, id).0, "ok", "{id}: {}", said.out);
    }
    let mut run = world.start(&["run", "--server", &remote.url]);
    run.wait_for("no runner has");
    let server = ["--server", remote.url.as_str()];
    world
        .rustci(&[&["queue", "pause"][..], &server].concat())
        .ended_with(0);
    let said = doctor().ended_with(0);
    assert_eq!(said.json()[0]["worst"], "warn");
    assert!(finding(&said, "queue").1.contains("paused"));
    let labels = finding(&said, "labels").1;
    assert!(
        labels.contains("labels that no runner has") && labels.contains("gpu"),
        "{labels}"
    );
    let said = world
        .rustci(&["doctor", "--server", &remote.url])
        .ended_with(0);
    said.says("  warn labels");
    said.says("-> start a runner with these labels");
    let wrong = [
        "doctor",
        "--json",
        "--server",
        &remote.url,
        "--token",
        "guess",
    ];
    let said = world.rustci(&wrong).ended_with(1);
    assert_eq!(finding(&said, "token").0, "fail");
    let said = world
        .rustci(&["doctor", "--json", "--server", "http://127.0.0.1:9"])
        .ended_with(1);
    assert!(finding(&said, "reachable").1.contains("rustci serve"));
}

#[test]
fn a_data_directory_is_checked_to_the_last_byte() {
    let remote = remote("jobs: { a: { steps: [{ run: 'seq 1 20000' }] } }\n");
    let world = &remote.world;
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    let set = ["secrets", "set", "A", "--server", &remote.url];
    world.rustci_reading(&set, "x").ended_with(0);
    let data = world.path("state/rustci/server");
    let dir = data.display().to_string();
    let doctor = || world.rustci(&["doctor", "--deep", "--json", "--data-dir", &dir]);
    let said = doctor().ended_with(0);
    assert!(finding(&said, "journal").1.contains("runs a server on it"));
    stop(&remote);
    let said = doctor().ended_with(0);
    for id in [
        "permissions",
        "journal",
        "catalogue",
        "secrets",
        "logs",
        "blobs",
    ] {
        assert_eq!(finding(&said, id).0, "ok", "{id}: {}", said.out);
    }
    assert!(finding(&said, "journal").1.contains("1 runs in its state"));
    fs::set_permissions(data.join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        finding(&doctor().ended_with(0), "permissions")
            .1
            .contains("chmod go=")
    );
    let log = data.join("logs/1/1.1.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let said = doctor().ended_with(1);
    assert_eq!(finding(&said, "logs").0, "fail");
    fs::write(
        data.join("catalogue.sqlite"),
        "no database at all, not even nearly one",
    )
    .unwrap();
    assert_eq!(finding(&doctor().ended_with(1), "catalogue").0, "fail");
    let nothing = world.rustci(&[
        "doctor",
        "--data-dir",
        &world.project().display().to_string(),
    ]);
    nothing.ended_with(1).says("has no journal");
}

#[test]
fn a_digest_is_the_same_from_the_server_and_from_its_directory() {
    let remote = remote("jobs: { a: { steps: [{ run: echo }] } }\n");
    let world = &remote.world;
    world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    let live = world
        .rustci(&["doctor", "--digest", "--server", &remote.url])
        .ended_with(0);
    let file = world.path("b.tar").display().to_string();
    let said = world
        .rustci(&["backup", &file, "--server", &remote.url, "--json"])
        .ended_with(0);
    let said = &said.json()[0];
    let to = world.path("to").display().to_string();
    world
        .rustci(&["restore", &file, "--data-dir", &to])
        .ended_with(0);
    let restored = world
        .rustci(&["doctor", "--digest", "--data-dir", &to])
        .ended_with(0);
    assert_eq!(restored.out, live.out);
    restored.says(said["state_digest"].as_str().unwrap());
    restored.says(said["catalogue_digest"].as_str().unwrap());
}
