//! `lint` and `plan`, and arguments that are wrong.

use crate::world::{World, example};

#[test]
fn the_examples_are_valid() {
    let world = World::new();
    for name in ["tour", "rust-crate", "python-package", "c-program"] {
        let path = example(&world, name);
        world
            .rustci(&["lint", path.to_str().unwrap()])
            .ended_with(0)
            .says("ok  ");
    }
}

#[test]
fn all_errors_of_a_file_come_at_once_with_their_places() {
    let text = "jobs:\n  a:\n    neds: [b]\n    steps:\n      - rum: make\n";
    let world = World::with_pipeline(text);
    for command in ["lint", "plan", "run"] {
        let said = world.rustci(&[command]).ended_with(2);
        let all = said.out.clone() + &said.err;
        assert!(
            all.contains(".rustci.yaml:3:5") && all.contains(".rustci.yaml:5:9"),
            "{all}"
        );
        assert!(all.contains("did you mean `needs`?"), "{all}");
        said.complains("in .rustci.yaml");
    }
}

#[test]
fn lint_and_plan_agree_on_the_digest() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: make }] } }\n");
    let lint = world.rustci(&["lint", "--json"]).ended_with(0).json();
    let digest = lint[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(lint[0]["valid"], true);
    world
        .rustci(&["plan"])
        .ended_with(0)
        .says(&format!("sha256:{digest}"));
    let plan = world.rustci(&["plan", "--json"]).ended_with(0).json();
    assert_eq!(plan[0]["jobs"][0]["key"], "a");
}

#[test]
fn without_a_pipeline_it_says_where_it_looked() {
    let world = World::new();
    let said = world.rustci(&["run"]).ended_with(2);
    said.complains("error: no pipeline file found; looked for");
    said.complains("project/.rustci.yaml");
    said.complains("hint: write .rustci.yaml");
}

#[test]
fn wrong_arguments_have_words_of_their_own() {
    let world = World::with_pipeline("jobs: { build: { steps: [{ run: make }] } }\n");
    let cases: &[(&[&str], &str)] = &[
        (&["run", "nowhere"], "error: nowhere does not exist"),
        (
            &["run", "--file", "other.yaml"],
            "hint: the project has .rustci.yaml",
        ),
        (&["run", "--job", "biuld"], "hint: did you mean `build`?"),
        (&["run", "--input", "novalue"], "write KEY=VALUE"),
        (&["runs", "view"], "hint: `rustci run` makes one"),
        (
            &["runs", "list", "--server", "ftp://x"],
            "hint: write it as http://",
        ),
        (
            &["runner", "--connect", "valkyrie+tcp://192.0.2.1:7443"],
            "hint: connect through a tunnel",
        ),
        (
            &["runner", "--connect", "tcp://x"],
            "hint: for example valkyrie+tcp://",
        ),
        (&["serve", "--lease", "0s"], "error: --lease is 0"),
        (&["rum"], "similar subcommand"),
    ];
    for (args, words) in cases {
        world.rustci(args).ended_with(2).complains(words);
    }
}

#[test]
fn a_server_that_is_not_there_is_a_matter_of_the_system() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: make }] } }\n");
    for args in [&["runs", "list"][..], &["run"][..]] {
        let args = [args, &["--server", "http://127.0.0.1:1"]].concat();
        let said = world.rustci(&args).ended_with(5);
        said.complains("error: cannot reach http://127.0.0.1:1");
        said.complains("hint: is `rustci serve` running there?");
    }
}

#[test]
fn the_schema_is_printed_as_it_is_published() {
    let said = World::new().rustci(&["schema"]).ended_with(0);
    let published = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../spec/pipeline.schema.json"
    );
    assert_eq!(said.out, std::fs::read_to_string(published).unwrap());
}

#[test]
fn bad_habits_are_warnings_that_can_be_denied_and_allowed() {
    let text = "on: push\njobs:\n  a:\n    timeout: 5m\n    steps: [{ run: \"curl https://example.org | sh\" }]\n";
    let world = World::with_pipeline(text);
    let said = world.rustci(&["lint"]).ended_with(0);
    said.says("warning[RC0603]: a script from the network is run unseen");
    said.says("ok  .rustci.yaml: 1 job, 1 warning");
    let said = world.rustci(&["lint", "--deny-warnings"]).ended_with(2);
    assert!(
        said.err
            .contains("1 warning, and --deny-warnings was given"),
        "{}",
        said.err
    );
    world.rustci(&["lint", "--strict"]).ended_with(2);
    let said = world.rustci(&["lint", "--sarif"]).ended_with(0);
    let log: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let result = &log["runs"][0]["results"][0];
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(result["ruleId"], "RC0603");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], ".rustci.yaml");
    assert_eq!(place["region"]["startLine"], 5);
    world.write(
        ".rustci.yaml",
        &text.replace(" steps:", " # rustci: allow RC0603\n    steps:"),
    );
    let said = world.rustci(&["lint", "--strict"]).ended_with(0);
    said.says("ok  .rustci.yaml: 1 job\n");
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_where_it_is_not() {
    let world = World::new();
    let path = world.project().join(".rustci.yaml");
    let text = b"jobs:\n  a: { steps: [{ run: echo gr\xfcn }] }\n";
    std::fs::write(&path, text).unwrap();
    let place = " --> .rustci.yaml:2:30";
    for command in ["lint", "plan", "run"] {
        let said = world.rustci(&[command]).ended_with(2);
        let all = said.out.clone() + &said.err;
        assert!(all.contains("the byte 0xfc here is not UTF-8"), "{all}");
        assert!(all.contains(place), "{all}");
    }
    std::fs::write(&path, "include: [t/x.yaml]\n").unwrap();
    world.write("t/x.yaml", "");
    std::fs::write(world.project().join("t/x.yaml"), text).unwrap();
    world
        .rustci(&["lint"])
        .ended_with(2)
        .says(" --> t/x.yaml:2:30");
}

#[test]
fn a_template_that_is_named_is_checked_as_one() {
    let world = World::new();
    let name = ".rustci/templates/t.yaml";
    let text = "inputs: { who: { required: true } }\n\
                include: [.rustci/templates/env.yaml]\n\
                jobs: { a: { steps: [{ run: \"echo ${{ inputs.who }}\" }] } }\n";
    world.write(name, text);
    world.write(".rustci/templates/env.yaml", "env: { A: b }\n");
    let said = world.rustci(&["lint", name]).ended_with(0);
    assert_eq!(said.out, format!("ok  {name}: a template\n"));
    world.write(name, &text.replace("inputs.who", "inputs.how"));
    let said = world.rustci(&["lint", name]).ended_with(2);
    said.says("this file has no input `how`");
    assert!(!said.out.contains("RC0705"), "{}", said.out);
    world
        .rustci(&["run", name])
        .ended_with(2)
        .complains("name the pipeline that includes it");
    world.write(".rustci/t.yaml", text);
    world
        .rustci(&["lint", ".rustci/t.yaml"])
        .ended_with(2)
        .says("RC0705");
}

#[test]
fn of_too_many_errors_the_last_are_left_out_and_that_is_said() {
    let jobs: String = (0..400).map(|n| format!("  j{n}: {{ a: 1 }}\n")).collect();
    let world = World::with_pipeline(&format!("jobs:\n{jobs}"));
    world
        .rustci(&["lint"])
        .ended_with(2)
        .complains("100 errors in .rustci.yaml; after 100 in one file the rest is left out");
}

#[test]
fn what_only_a_person_gives_is_not_asked_for_elsewhere() {
    let world = World::with_pipeline(
        "on: { push: , manual: { inputs: { count: { type: number, required: true } } } }\n\
         jobs: { a: { timeout: 1m, steps: [{ run: \"echo has ${{ inputs.count }}\" }] } }\n",
    );
    world.rustci(&["lint"]).ended_with(0);
    world.rustci(&["plan"]).ended_with(0);
    let push = world.rustci(&["run", "--event", "push"]).ended_with(0);
    push.says("has 0");
    world.rustci(&["run"]).ended_with(2).complains("RC0404");
}
