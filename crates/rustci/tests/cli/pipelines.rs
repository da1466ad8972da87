//! `rustci pipelines` against a server.

use crate::remote::remote;

const PIPELINE: &str = "name: Greeter\n\
    on:\n  manual: { inputs: { who: { default: world } } }\n  \
    cron: [{ name: yearly, schedule: \"0 0 1 1 *\" }]\n\
    jobs:\n  greet:\n    timeout: 1m\n    steps:\n      - run: echo \"hello $WHO $EXTRA\"\n        \
    env: { WHO: \"${{ inputs.who }}\" }\n";

#[test]
fn a_pipeline_is_registered_shown_started_and_removed() {
    let remote = remote(PIPELINE);
    let world = &remote.world;
    let rustci = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--server", &remote.url]);
        world.rustci(&all)
    };
    rustci(&["pipelines", "list"])
        .ended_with(0)
        .says("no pipelines; `rustci pipelines add FILE --server http://");
    let said = rustci(&["pipelines", "add", ".rustci.yaml", "--project", "demo"]).ended_with(0);
    said.says("greeter is registered, next in ");
    let said = rustci(&["pipelines", "list"]).ended_with(0);
    said.says("greeter  demo");
    said.says("(yearly)");
    let said = rustci(&["pipelines", "show", "greeter"]).ended_with(0);
    said.says("pipeline  greeter (Greeter)");
    said.says("0 0 1 1 * UTC");
    said.says("on:");
    let said = rustci(&[
        "pipelines",
        "trigger",
        "greeter",
        "--input",
        "who=you",
        "--env",
        "EXTRA=too",
    ])
    .ended_with(0);
    said.says("run 1 of greeter is accepted");
    said.says(&format!("`rustci runs watch 1 --server {}`", remote.url));
    rustci(&["runs", "watch", "1"])
        .ended_with(0)
        .says("| hello you too");
    rustci(&["pipelines", "trigger", "nobody"])
        .ended_with(2)
        .complains(&format!("`rustci pipelines list --server {}`", remote.url));
    rustci(&["pipelines", "rm", "greeter"]).ended_with(0);
    rustci(&["pipelines", "rm", "greeter"]).ended_with(2);
    world.write(".rustci.yaml", "jobs: {a: {stepz: []}}\n");
    let said = rustci(&["pipelines", "add", ".rustci.yaml"]).ended_with(2);
    said.says("RC0101");
}
