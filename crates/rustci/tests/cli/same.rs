//! One engine: a pipeline does the same here and on a server with a runner.

use std::process::Command;

use serde_json::{Value, json};

use crate::remote::{Remote, remote};
use crate::world::{World, example};

/// What has to be equal: the plan, how everything ended, what jobs handed on.
fn essence(view: &Value) -> Value {
    let jobs = view["jobs"].as_array().unwrap().iter().map(|job| {
        let steps = job["steps"].as_array().unwrap().iter().map(|step| {
            json!([
                step["name"],
                step["conclusion"],
                step["exit_code"],
                step["tries"],
                step["message"]
            ])
        });
        json!({
            "key": job["key"],
            "conclusion": job["conclusion"],
            "allowed": job["allowed"],
            "outputs": job["outputs"],
            "attempts": job["attempts"].as_array().unwrap().len(),
            "steps": steps.collect::<Vec<_>>(),
        })
    });
    json!({
        "digest": view["digest"],
        "conclusion": view["conclusion"],
        "jobs": jobs.collect::<Vec<_>>(),
    })
}

/// The logs of all jobs, by job.
fn logs(world: &World, view: &Value, place: &[&str]) -> Vec<String> {
    let jobs = view["jobs"].as_array().unwrap().iter();
    let ran = jobs.filter(|job| !job["attempts"].as_array().unwrap().is_empty());
    ran.map(|job| {
        let key = job["key"].as_str().unwrap();
        let args = [&["runs", "logs", "1", key], place].concat();
        let said = world.rustci(&args).ended_with(0).out;
        format!("{key}\n{}", said.lines().map(timeless).collect::<String>())
    })
    .collect()
}

/// The artifacts of the run: what is in each, by digest.
fn artifacts(world: &World, place: &[&str]) -> Vec<Value> {
    let args = [&["artifacts", "list", "1", "--json"], place].concat();
    let said = world.rustci(&args).ended_with(0);
    let artifacts = said.json().remove(0)["artifacts"].take();
    let artifacts = artifacts.as_array().unwrap().iter();
    artifacts
        .map(|it| {
            json!([
                it["job"],
                it["name"],
                it["digest"],
                it["files"],
                it["bytes"]
            ])
        })
        .collect()
}

/// A line with `T` for how long something took: `3 ms`, `(57ms)`, `(0.5s)`.
fn timeless(line: &str) -> String {
    let number = |text: &str| text.parse::<f64>().is_ok();
    let words: Vec<&str> = line.split(' ').collect();
    let word = |(at, word): (usize, &&str)| {
        let bare = word.trim_matches(['(', ')']);
        let joined = ["ms", "s"]
            .iter()
            .filter_map(|unit| bare.strip_suffix(unit));
        let unit = words.get(at + 1).map(|unit| unit.trim_end_matches(')'));
        let unit = matches!(unit, Some("ms" | "s"));
        let is_time = joined.into_iter().any(number) || number(bare) && unit;
        if is_time {
            "T".to_owned()
        } else {
            (*word).to_owned()
        }
    };
    let words: Vec<String> = words.iter().enumerate().map(word).collect();
    format!("{}\n", words.join(" "))
}

fn view(world: &World, place: &[&str]) -> Value {
    let args = [&["runs", "view", "1", "--json"], place].concat();
    world.rustci(&args).ended_with(0).json().remove(0)
}

#[test]
fn the_tour_ends_the_same_here_and_on_a_server() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    check_same(&remote, "tour");
}

#[test]
fn a_real_project_ends_the_same_here_and_on_a_server() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    check_same(&remote, "c-program");
}

#[test]
fn artifacts_and_caches_are_the_same_here_and_on_a_server() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    let artifacts = check_same(&remote, "site");
    let names: Vec<_> = artifacts.iter().map(|artifact| &artifact[1]).collect();
    assert_eq!(names, ["site", "sizes"]);
}

/// Returns the artifacts, which are equal like everything else.
fn check_same(remote: &Remote, name: &str) -> Vec<Value> {
    let world = &remote.world;
    let project = example(world, name);
    let path = project.to_str().unwrap();
    let run = |more: &[&str]| {
        let args = [&["run", path], more].concat();
        world.rustci(&args).ended_with(0)
    };
    run(&[]);
    run(&["--server", &remote.url]);
    let (here, there) = (["--project", path], ["--server", remote.url.as_str()]);
    let (local, served) = (view(world, &here), view(world, &there));
    assert_eq!(essence(&local), essence(&served));
    assert_eq!(
        logs(world, &local, &here),
        logs(world, &served, &there),
        "the logs differ"
    );
    let left = artifacts(world, &here);
    assert_eq!(left, artifacts(world, &there));
    assert_eq!(local["digest"], planned(world, path));
    left
}

/// The digest that `rustci plan` shows.
fn planned(world: &World, path: &str) -> String {
    let said = world.rustci(&["plan", path]).ended_with(0).out;
    let mut words = said.split_whitespace();
    let digest = words.find_map(|word| word.strip_prefix("sha256:"));
    digest.unwrap().to_owned()
}

/// The pipeline of this repository itself: a server that gets it from a commit comes to the plan that
/// the files here come to.
#[test]
fn the_plan_of_this_repository_is_the_same_on_a_server() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let copy = remote.world.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(format!("{root}/.rustci.yaml"), copy.join(".rustci.yaml")).unwrap();
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "x"]] {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let git = Command::new("git")
            .args(identity)
            .args(args)
            .current_dir(&copy)
            .status();
        assert!(git.unwrap().success());
    }
    // Nobody runs its jobs here: the plan is what is asked for.
    let body = json!({
        "pipeline": {
            "file": ".rustci.yaml",
            "text": std::fs::read_to_string(copy.join(".rustci.yaml")).unwrap(),
        },
        "project": "rustci",
        "event": { "name": "manual" },
    });
    let created = remote.post("/api/v1/runs", &body);
    let digest = created["run"]["digest"].as_str().unwrap().to_owned();
    let id = created["run"]["id"].to_string();
    remote
        .world
        .rustci(&["runs", "cancel", &id, "--server", &remote.url])
        .ended_with(0);
    assert_eq!(digest, planned(&remote.world, root));
    assert_eq!(digest, planned(&remote.world, copy.to_str().unwrap()));
}
