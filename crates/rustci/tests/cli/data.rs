//! Artifacts and caches, from job to job and from run to run.

use std::fs;

use crate::remote::remote;
use crate::world::{World, example};

/// A job that leaves an artifact and a cache behind, and one that takes the artifact.
const CHAIN: &str = "
on: { manual: {}, push: {} }
jobs:
  make:
    cache:
      key: k-${{ hashFiles('in.txt') }}
      restore-keys: [k-]
      paths: [kept, ~/.kept]
    artifacts: { name: app, paths: [out, '!out/skip'] }
    steps:
      - run: |
          if [ -f kept/state ]; then echo \"had $(cat kept/state) and $(cat ~/.kept/home)\"; fi
          mkdir -p kept ~/.kept out/sub
          cat in.txt > kept/state; echo home > ~/.kept/home; ln -sf state kept/link
          seq 1 200000 > out/big; echo hi > out/sub/tool; chmod +x out/sub/tool; echo no > out/skip
  take:
    needs: [make]
    checkout: false
    downloads: [{ name: app, path: got }]
    steps:
      - run: test -x got/out/sub/tool && test ! -e got/out/skip && cksum < got/out/big
";

/// What `cksum` says of the numbers up to 200,000.
const CKSUM: &str = "take | 3581800518 1288895";

fn world() -> World {
    let world = World::with_pipeline(CHAIN);
    world.write("in.txt", "one\n");
    world
}

#[test]
fn a_cache_is_missed_hit_and_hit_in_part() {
    let world = world();
    let first = world.rustci(&["run"]).ended_with(0);
    first.says(": miss (");
    first.says(": saved 3 files, ");
    let second = world.rustci(&["run"]).ended_with(0);
    second.says(": hit: 3 files, ");
    second.has_lines(&["make | had one and home"]);
    assert!(!second.out.contains("saved"), "{}", second.out);
    world.write("in.txt", "two\n");
    let third = world.rustci(&["run"]).ended_with(0);
    third.says(": partial hit, found k-");
    third.says("(0 B over the network)");
    third.has_lines(&["make | had one and home"]);
    third.says(": saved 3 files, ");
    let listed = world.rustci(&["cache", "list", "--json"]).ended_with(0);
    let caches = listed.json()[0]["caches"].clone();
    assert_eq!(caches.as_array().unwrap().len(), 2);
    assert_eq!(caches[0]["scope"], "trusted");
    let number = caches[1]["id"].to_string();
    world.rustci(&["cache", "rm", &number]).ended_with(0);
    world
        .rustci(&["cache", "rm", &number])
        .ended_with(2)
        .complains("there is no cache entry");
    let listed = world.rustci(&["cache", "list"]).ended_with(0);
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
}

#[test]
fn an_artifact_reaches_other_jobs_and_people() {
    let world = world();
    let said = world.rustci(&["run"]).ended_with(0);
    said.says(CKSUM);
    said.says("make | artifact app: 2 files, 1.2 MiB in ");
    world
        .rustci(&["artifacts", "list"])
        .ended_with(0)
        .says("app   2      1.2 MiB");
    let to = world.path("to");
    let out = ["--out", to.to_str().unwrap()];
    let download =
        |more: &[&str]| world.rustci(&[&["artifacts", "download", "1"], more, &out].concat());
    download(&[])
        .ended_with(0)
        .says("app: 2 files, 1.2 MiB, in ");
    assert_eq!(
        fs::read_to_string(to.join("app/out/sub/tool")).unwrap(),
        "hi\n"
    );
    download(&["app", "--format", "zip"]).ended_with(0);
    download(&["app", "--format", "tar"]).ended_with(0);
    assert!(fs::read(to.join("app.zip")).unwrap().starts_with(b"PK"));
    assert!(fs::metadata(to.join("app.tar")).unwrap().len() > 1_288_895);
    download(&["none"])
        .ended_with(2)
        .complains("hint: it has app");
    world.rustci(&["artifacts", "rm", "1", "app"]).ended_with(0);
    world
        .rustci(&["artifacts", "list", "1"])
        .ended_with(0)
        .says("run 1 has no artifacts");
}

#[test]
fn a_server_keeps_and_gives_the_same() {
    let remote = remote(CHAIN);
    let world = &remote.world;
    world.write("in.txt", "one\n");
    let server = ["--server", remote.url.as_str()];
    let run = |args: &[&str]| world.rustci(&[args, &server].concat());
    let first = run(&["run"]).ended_with(0);
    first.says(CKSUM);
    first.says(": miss (");
    run(&["run"]).ended_with(0).says(": hit: 3 files, ");
    let of = |run_number: &str| {
        let listed = run(&["artifacts", "list", run_number, "--json"]).ended_with(0);
        listed.json()[0]["artifacts"][0].clone()
    };
    let (one, two) = (of("1"), of("2"));
    assert_eq!(
        one["digest"], two["digest"],
        "the same files are the same artifact"
    );
    assert_eq!(two["stored_bytes"], 0, "and are not stored twice");
    assert_ne!(one["stored_bytes"], 0);
    let to = world.path("to");
    run(&[
        "artifacts",
        "download",
        "2",
        "app",
        "--out",
        to.to_str().unwrap(),
    ])
    .ended_with(0);
    assert_eq!(
        fs::metadata(to.join("app/out/big")).unwrap().len(),
        1_288_895
    );
    run(&["cache", "list"]).ended_with(0).says("trusted");
    run(&["artifacts", "rm", "1", "app"]).ended_with(0);
    run(&["artifacts", "list", "2"]).ended_with(0).says("app");
}

#[test]
fn what_cannot_be_kept_fails_the_job_and_says_why() {
    let check = |artifacts: &str, script: &str, expected: &str| {
        let world = World::with_pipeline(&format!(
            "jobs: {{ a: {{ artifacts: {artifacts}, steps: [{{ run: '{script}' }}] }} }}\n"
        ));
        let said = world.rustci(&["run"]).ended_with(1);
        said.says(expected);
    };
    let out = "{ name: x, paths: [out] }";
    check(
        out,
        "ln -s /etc/passwd out",
        "is a symbolic link to \"/etc/passwd\"",
    );
    check(out, "mkfifo out", "\"out\" is a pipe");
    check(out, "truncate -s 6G out", "the limit is 5368709120");
    check(
        "{ name: x, paths: [none], if-missing: error }",
        "true",
        "artifact x: no file fits none",
    );
}

#[test]
fn a_link_in_the_source_is_replaced_by_a_download_and_not_followed() {
    let world = World::with_pipeline(
        "jobs:\n  make:\n    checkout: false\n    artifacts: { name: app, paths: [out] }\n    \
         steps: [{ run: 'mkdir out; echo new > out/file' }]\n  take:\n    needs: [make]\n    \
         downloads: [app]\n    steps: [{ run: 'cat out/file elsewhere/file' }]\n",
    );
    world.write("elsewhere/file", "old\n");
    std::os::unix::fs::symlink("elsewhere", world.project().join("out")).unwrap();
    let said = world.rustci(&["run"]).ended_with(0);
    said.has_lines(&["take | new", "take | old"]);
}

#[test]
fn the_site_is_checked_from_its_artifact() {
    let world = World::new();
    let path = example(&world, "site");
    let args = ["run", path.to_str().unwrap()];
    let said = world.rustci(&args).ended_with(0);
    said.has_lines(&["build | 3 rendered, 0 kept", "check | home.html is there"]);
    let said = world.rustci(&args).ended_with(0);
    said.has_lines(&["build | 0 rendered, 3 kept"]);
}
