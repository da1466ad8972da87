//! Tokens of jobs: what they open, and everything that they do not.

use crate::remote::remote;
use crate::world::World;

/// A job that asks the API with its token and prints the status and the answer.
const PIPELINE: &str = r#"
name: ask
permissions: { runs: read }
jobs:
  ask:
    steps:
      - run: |
          ask() { printf '%s %s: ' "$1" "$2"; curl -s -o answer -w '%{http_code}\n' -X "$1" -H "Authorization: Bearer $CI_TOKEN" "$CI_API_URL$2" "${@:3}"; }
          echo "token $CI_TOKEN"
          ask GET "/api/v1/runs?project=$CI_PROJECT"
          ask GET "/api/v1/runs/$CI_RUN"
          ask GET "/api/v1/runs/$CI_RUN/jobs/ask/log"
          ask GET /api/v1/runs
          ask GET "/api/v1/runs?project=other"
          ask GET /api/v1/runs/4096
          ask POST "/api/v1/runs/$CI_RUN/cancel"
          ask POST /api/v1/runs -H 'Content-Type: application/json' -d '{"project":"project","pipeline":{"file":"x","text":"jobs: {}"}}'
          ask GET /api/v1/secrets
          ask PUT /api/v1/secrets/x -H 'Content-Type: application/json' -d '{"value":"x"}'
          ask GET /api/v1/backup
          ask GET /api/v1/runners
          ask POST "/api/v1/runs/$CI_RUN/jobs/ask/approve"
          CI_TOKEN="${CI_TOKEN}0" ask GET "/api/v1/runs/$CI_RUN"
          CI_TOKEN="${CI_TOKEN%?????}00000" ask GET "/api/v1/runs/$CI_RUN"
  starts:
    permissions: { runs: write }
    steps:
      - run: |
          post() { curl -s -o answer -w '%{http_code}\n' -H "Authorization: Bearer $CI_TOKEN" -H 'Content-Type: application/json' "$CI_API_URL/api/v1/runs" -d "$1"; }
          echo "own $(post '{"project":"project","pipeline":{"file":"c.yaml","text":"jobs: { child: { steps: [{ run: echo }] } }"}}')"
          echo "other $(post '{"project":"other","pipeline":{"file":"c.yaml","text":"jobs: { child: { steps: [{ run: echo }] } }"}}')"
  none:
    permissions: { contents: write, runs: none }
    steps: [{ run: 'echo "token [${CI_TOKEN-}] url [${CI_API_URL-}]"' }]
"#;

const EXPECTED: [&str; 20] = [
    "ask | token ***",
    "ask | GET /api/v1/runs?project=project: 200",
    "ask | GET /api/v1/runs/1: 200",
    "ask | GET /api/v1/runs/1/jobs/ask/log: 200",
    "ask | GET /api/v1/runs: 403",
    "ask | GET /api/v1/runs?project=other: 403",
    "ask | GET /api/v1/runs/4096: 404",
    "ask | POST /api/v1/runs/1/cancel: 403",
    "ask | POST /api/v1/runs: 403",
    "ask | GET /api/v1/secrets: 403",
    "ask | PUT /api/v1/secrets/x: 403",
    "ask | GET /api/v1/backup: 403",
    "ask | GET /api/v1/runners: 403",
    "ask | POST /api/v1/runs/1/jobs/ask/approve: 403",
    "ask | GET /api/v1/runs/1: 401",
    "starts | own 201",
    "starts | other 403",
    "none | token [] url []",
    "ask | ✓ job succeeded",
    "none | ✓ job succeeded",
];

/// Whether each of the lines begins one that was printed.
#[track_caller]
fn check(out: &str) {
    for expected in EXPECTED {
        assert!(
            out.lines().any(|line| line.starts_with(expected)),
            "no {expected:?} in\n{out}"
        );
    }
    let bent = out
        .lines()
        .filter(|line| line.ends_with("/api/v1/runs/1: 401"))
        .count();
    assert_eq!(bent, 2, "{out}");
}

#[test]
fn a_job_of_a_server_may_do_what_its_permissions_name() {
    let remote = remote(PIPELINE);
    let said = remote
        .world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    check(&said.out);
}

#[test]
fn a_job_here_may_do_what_its_permissions_name() {
    let world = World::with_pipeline(PIPELINE);
    let said = world.rustci(&["run"]).ended_with(0);
    check(&said.out);
}

#[test]
fn a_token_ends_with_its_attempt() {
    let remote = remote(
        "permissions: { runs: read }\njobs: { a: { steps: [{ run: 'echo \"$CI_TOKEN\" | rev > \"$KEEP\"; echo \"$CI_API_URL\" >> \"$KEEP\"' }] } }\n",
    );
    let world = &remote.world;
    let kept = world.path("kept");
    let env = format!("KEEP={}", kept.display());
    world
        .rustci(&["run", "--server", &remote.url, "--env", &env])
        .ended_with(0);
    let text = std::fs::read_to_string(&kept).unwrap();
    let (token, url) = text.split_once('\n').unwrap();
    let token: String = token.chars().rev().collect();
    assert!(token.starts_with("rustci_job_"), "{token}");
    assert_eq!(url.trim(), remote.url);
    let http = crate::http::Http {
        url: remote.url.clone(),
        token: token.clone(),
    };
    assert_eq!(http.ask("GET", "/api/v1/runs/1", "").unwrap().0, 401);
    let bytes = World::bytes_below(&world.path("state"));
    assert!(
        !bytes
            .windows(token.len())
            .any(|window| window == token.as_bytes())
    );
}
