//! The HTTP API from outside: a server without runners, called in process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic as tests do"
)]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use rustci_server::api::view::{Problem, RunCreated, RunList, RunView, Status};
use rustci_server::blobs::BlobDigest;
use rustci_server::secrets::Secrets;
use rustci_server::{ReadOnly, Server, ServerConfig};
use serde_json::{Value, json};
use tower::ServiceExt;

const PIPELINE: &str = "\
version: 1
name: ci
on: { manual: {} }
jobs:
  lint: { steps: [{ run: echo lint }] }
  test: { needs: [lint], steps: [{ name: unit, run: echo test }] }
";

struct Api {
    dir: tempfile::TempDir,
    server: Server,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) -> Problem {
        let problem: Problem = self.json();
        assert_eq!(
            (self.status.as_u16(), problem.code.as_str()),
            (status, code),
            "{problem:?}"
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem.status, status);
        assert!(!problem.hint.is_empty() && !problem.detail.is_empty());
        problem
    }
}

impl Api {
    fn start() -> Self {
        Self::start_with(|_| ())
    }

    fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path().join("data"));
        change(&mut config);
        let server = Server::start(config).unwrap();
        let router = server.router();
        Self {
            dir,
            server,
            router,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        answer(&self.router, request).await
    }

    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let token = format!("Bearer {}", self.server.token().expose());
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", token)
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).unwrap())
            .await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            self.request("POST", path)
                .body(Body::from(body.to_string()))
                .unwrap(),
        )
        .await
    }

    async fn run(&self) -> RunView {
        let answer = self.post("/api/v1/runs", &new_run(PIPELINE)).await;
        assert_eq!(
            answer.status,
            StatusCode::CREATED,
            "{:?}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.json::<RunCreated>().run
    }
}

async fn answer(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap().to_vec();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

fn new_run(text: &str) -> Value {
    json!({
        "pipeline": { "file": ".rustci.yaml", "text": text },
        "event": { "name": "manual" },
        "project": "demo",
    })
}

#[tokio::test]
async fn health_routes_need_no_token_and_all_others_do() {
    let api = Api::start();
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(api.send(request).await.status, StatusCode::OK, "{path}");
    }
    for path in [
        "/api/v1/runs",
        "/api/v1/runs/1",
        "/api/v1/runners",
        "/api/v1/nothing",
    ] {
        let bare = Request::get(path).body(Body::empty()).unwrap();
        let problem = api.send(bare).await;
        problem.is_problem(401, "unauthorized");
        assert_eq!(
            problem.headers["www-authenticate"],
            "Bearer realm=\"rustci\""
        );
        let wrong = Request::get(path).header("authorization", "Bearer rustci_00");
        api.send(wrong.body(Body::empty()).unwrap())
            .await
            .is_problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_run_is_found_as_soon_as_it_is_accepted() {
    let api = Api::start();
    let run = api.run().await;
    assert_eq!((run.id, run.status, run.jobs.len()), (1, Status::Queued, 2));
    let found: RunView = api.get("/api/v1/runs/1").await.json();
    assert_eq!(found.digest, run.digest);
    assert_eq!(
        found.jobs[0].reason.as_deref(),
        Some("no runner is connected")
    );
    assert_eq!(found.jobs[1].reason.as_deref(), Some("waits for lint"));
    assert_eq!(found.jobs[1].steps[0].name, "unit");
    let list: RunList = api.get("/api/v1/runs?status=queued").await.json();
    assert_eq!(list.runs.len(), 1);
}

#[tokio::test]
async fn a_broken_pipeline_is_answered_with_every_finding() {
    let api = Api::start();
    let text = "version: 1\nname: ci\non: { manual: {} }\njobs:\n  a: { stepps: [] }\n  b: { needs: [c], steps: [{ run: x }] }\n";
    let problem = api.post("/api/v1/runs", &new_run(text)).await;
    let problem = problem.is_problem(422, "invalid_pipeline");
    assert!(problem.diagnostics.len() >= 2, "{problem:?}");
    assert_eq!(problem.diagnostics[0].file, ".rustci.yaml");
}

#[tokio::test]
async fn files_that_a_pipeline_includes_come_with_it() {
    let api = Api::start();
    let mut run = new_run("include: [{ local: ci/t.yaml, with: { what: stable } }]\n");
    run["pipeline"]["includes"] = json!({
        "ci/t.yaml": "inputs: { what: }\njobs: { \"test-${{ inputs.what }}\": { steps: [{ run: x }] } }\n",
    });
    let created: RunCreated = api.post("/api/v1/runs", &run).await.json();
    assert_eq!(created.run.jobs[0].key, "test-stable");
    run["pipeline"]["includes"] = json!({ "ci/t.yaml": "jobs: { a: { steps: [{}] } }\n" });
    let problem = api.post("/api/v1/runs", &run).await;
    let problem = problem.is_problem(422, "invalid_pipeline");
    let files: Vec<&str> = problem
        .diagnostics
        .iter()
        .map(|found| found.file.as_str())
        .collect();
    assert_eq!(files, [".rustci.yaml", "ci/t.yaml"]);
}

#[tokio::test]
async fn a_commit_that_asks_for_no_run_gets_none() {
    let api = Api::start();
    let mut run = new_run("jobs: { a: { steps: [{ run: x }] } }\n");
    for event in [
        json!({ "name": "push", "head_commit": { "message": "docs [skip ci]" } }),
        json!({ "name": "pull_request", "message": "[Skip CI]" }),
    ] {
        run["event"] = event;
        let problem = api.post("/api/v1/runs", &run).await;
        problem.is_problem(422, "run_skipped");
    }
    run["event"] = json!({ "name": "manual", "message": "[skip ci]" });
    let created: RunCreated = api.post("/api/v1/runs", &run).await.json();
    assert_eq!(created.run.id, 1);
}

#[tokio::test]
async fn bad_requests_have_their_codes() {
    let api = Api::start();
    api.post("/api/v1/runs", &json!({ "pipe": 1 }))
        .await
        .is_problem(400, "invalid_request");
    api.get("/api/v1/runs?limit=many")
        .await
        .is_problem(400, "invalid_request");
    api.get("/api/v1/runs/seven")
        .await
        .is_problem(400, "invalid_request");
    api.get("/api/v1/runs/7").await.is_problem(404, "not_found");
    api.get("/api/v1/runs/7/events")
        .await
        .is_problem(404, "not_found");
    api.get("/api/v1/nothing").await.is_problem(404, "no_route");
    api.get("/nothing").await.is_problem(404, "no_route");
    api.post("/livez", &json!({}))
        .await
        .is_problem(405, "method_not_allowed");
    let huge = Body::from(vec![b' '; (4 << 20) + 1]);
    let huge = api.request("POST", "/api/v1/runs").body(huge).unwrap();
    api.send(huge).await.is_problem(413, "too_large");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let api = Api::start();
    api.run().await;
    let says = |problem: Problem, what: &str| {
        assert!(problem.detail.contains(what), "{problem:?}");
    };
    let queries = [
        ("/api/v1/runs?limit=many", "limit is a number from 1 to 200"),
        ("/api/v1/runs?limits=3", "limits"),
        ("/api/v1/runs/seven", "`seven` in the path is not a number"),
    ];
    for (path, what) in queries {
        says(api.get(path).await.is_problem(400, "invalid_request"), what);
    }
    let mut run = new_run(PIPELINE);
    run["pipeline"]["text"] = json!(5);
    let problem = api.post("/api/v1/runs", &run).await;
    let problem = problem.is_problem(400, "invalid_request");
    says(problem, "`pipeline.text`: invalid type: integer `5`");
    let bodies = [
        ("/api/v1/runs/1/rerun", "", "the body is empty"),
        ("/api/v1/runs", "{", "EOF while parsing"),
        ("/api/v1/runs", "{} {}", "missing field"),
        ("/api/v1/runs/1/rerun", "{} {}", "trailing characters"),
    ];
    for (path, body, what) in bodies {
        let request = api.request("POST", path).body(Body::from(body)).unwrap();
        let problem = api.send(request).await.is_problem(400, "invalid_request");
        says(problem, what);
    }
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_refused_at_submission() {
    let text = "version: 1\nname: ci\non: { manual: {} }\njobs:\n  a: { secrets: { T: deploy }, steps: [{ run: x }] }\n";
    let api = Api::start();
    let problem = api.post("/api/v1/runs", &new_run(text)).await;
    assert!(
        problem
            .is_problem(422, "secret_missing")
            .detail
            .contains("deploy")
    );
    let api = Api::start_with(|config| {
        config.secrets = Secrets::default().with("deploy", "hunter2").into();
    });
    let created = api.post("/api/v1/runs", &new_run(text)).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert!(!String::from_utf8_lossy(&created.body).contains("hunter2"));
}

#[tokio::test]
async fn cancelling_ends_queued_jobs_once() {
    let api = Api::start();
    api.run().await;
    let canceled = api.post("/api/v1/runs/1/cancel", &json!({})).await;
    assert_eq!(canceled.status, StatusCode::ACCEPTED);
    let run: RunView = api.get("/api/v1/runs/1").await.json();
    assert_eq!(run.status, Status::Finished);
    api.post("/api/v1/runs/1/cancel", &json!({}))
        .await
        .is_problem(409, "run_finished");
    api.post("/api/v1/runs/9/cancel", &json!({}))
        .await
        .is_problem(404, "not_found");
}

/// The `id:` and `event:` lines of a stream of events.
fn events(body: &[u8]) -> Vec<(Option<u64>, String)> {
    let text = std::str::from_utf8(body).unwrap();
    let event = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        Some((
            field("id: ").and_then(|id| id.parse().ok()),
            field("event: ")?.to_owned(),
        ))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test]
async fn events_end_with_the_run_and_resume_wherever_they_were_cut() {
    let api = Api::start();
    api.run().await;
    api.post("/api/v1/runs/1/cancel", &json!({})).await;
    let all = events(&api.get("/api/v1/runs/1/events").await.body);
    let names: Vec<_> = all.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["job", "job", "run", "end"]);
    for cut in 1..=all.len() {
        // States that came with one change carry its id at the last of them, so a cut between
        // them gives all of them again.
        let seen = all[..cut].iter().rposition(|(id, _)| id.is_some());
        let next = seen.map_or(0, |last| last + 1);
        let mut request = api.request("GET", "/api/v1/runs/1/events");
        if let Some(last) = seen {
            request = request.header("last-event-id", all[last].0.unwrap().to_string());
        }
        let rest = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(events(&rest.body), all[next..], "cut behind {cut} events");
    }
}

#[tokio::test]
async fn a_blob_is_stored_once_and_only_unchanged() {
    let api = Api::start();
    let digest = BlobDigest::of(b"archive");
    let path = format!("/api/v1/blobs/{digest}");
    let put = |body: &'static [u8]| api.request("PUT", &path).body(Body::from(body)).unwrap();
    let head = || api.request("HEAD", &path).body(Body::empty()).unwrap();
    assert_eq!(api.send(head()).await.status, StatusCode::NOT_FOUND);
    api.send(put(b"archivf"))
        .await
        .is_problem(422, "digest_mismatch");
    assert_eq!(api.send(put(b"archive")).await.status, StatusCode::CREATED);
    assert_eq!(api.send(put(b"archive")).await.status, StatusCode::OK);
    assert_eq!(api.send(head()).await.headers["content-length"], "7");
    let mut run = new_run(PIPELINE);
    run["source"] =
        json!({ "snapshot": { "digest": BlobDigest::of(b"x").to_string(), "size": 1 } });
    api.post("/api/v1/runs", &run)
        .await
        .is_problem(422, "blob_missing");
    run["source"] = json!({ "snapshot": { "digest": digest.to_string(), "size": 7 } });
    assert_eq!(
        api.post("/api/v1/runs", &run).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_restart_keeps_every_run_and_rebuilds_a_lost_catalogue() {
    let api = Api::start();
    let before = api.run().await;
    let data = api.dir.path().join("data");
    let Api {
        dir,
        server,
        router,
    } = api;
    server.shutdown();
    drop(router);
    std::fs::remove_file(data.join("catalogue.sqlite")).unwrap();
    let server = Server::start(ServerConfig::new(data)).unwrap();
    let router = server.router();
    let api = Api {
        dir,
        server,
        router,
    };
    let after: RunView = api.get("/api/v1/runs/1").await.json();
    assert_eq!((after.digest, after.jobs.len()), (before.digest, 2));
    assert_eq!(api.run().await.id, 2);
}

#[tokio::test]
async fn a_data_directory_answers_without_its_server() {
    let api = Api::start();
    api.run().await;
    // The catalogue is behind the answer by a moment; asking the server waits for it.
    api.get("/api/v1/runs/1").await;
    let data = api.dir.path().join("data");
    let beside = ReadOnly::open(&data).unwrap();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let run: RunView = answer(&beside.router(), get("/api/v1/runs/1")).await.json();
    assert_eq!(run.jobs.len(), 2);
    let cancel = Request::post("/api/v1/runs/1/cancel")
        .body(Body::empty())
        .unwrap();
    answer(&beside.router(), cancel)
        .await
        .is_problem(409, "read_only");
    let Api {
        dir,
        server,
        router,
    } = api;
    server.shutdown();
    drop(router);
    let alone = ReadOnly::open(&data).unwrap();
    let list: RunList = answer(&alone.router(), get("/api/v1/runs")).await.json();
    assert_eq!(list.runs.len(), 1);
    assert!(ReadOnly::open(dir.path()).is_err());
}

#[tokio::test]
async fn what_could_never_run_is_not_taken() {
    let api = Api::start();
    let full = "0123456789abcdef".repeat(4);
    let git = |commit: &str| json!({ "git": { "url": "https://x/y.git", "commit": commit } });
    let wrong = [
        ("/source", git("abc"), "is not the full id of a commit"),
        ("/source", git(&full[1..]), "is not the full id"),
        (
            "/event/name",
            json!(""),
            "one of manual, push, pull_request",
        ),
        (
            "/event/name",
            json!("frobnicate"),
            "event.name is \"frobnicate\"",
        ),
        ("/event/name", json!(1), "event.name is 1"),
        (
            "/pipeline/file",
            json!("../../etc/x"),
            "not a path in the project",
        ),
        (
            "/pipeline/file",
            json!("/etc/x"),
            "not a path in the project",
        ),
        ("/env", json!({ "A B": "1" }), "not the name of a variable"),
        ("/env", json!({ "A": "\u{0}" }), "NUL"),
    ];
    for (place, value, what) in wrong {
        let mut run = new_run(PIPELINE);
        run["source"] = Value::Null;
        run["env"] = json!({});
        *run.pointer_mut(place).unwrap() = value;
        let problem = api.post("/api/v1/runs", &run).await;
        let problem = problem.is_problem(422, "unusable_value");
        assert!(problem.detail.contains(what), "{problem:?}");
        if place == "/env" || place.starts_with("/pipeline") {
            let kept = json!({ "name": "x", "pipeline": run["pipeline"], "env": run["env"] });
            api.post("/api/v1/pipelines", &kept)
                .await
                .is_problem(422, "unusable_value");
        }
    }
    let twice = new_run(PIPELINE)
        .to_string()
        .replace("\"event\":{", "\"event\":{\"name\":\"push\",");
    let request = api.request("POST", "/api/v1/runs");
    let request = request.header("content-type", "application/json");
    let problem = api.send(request.body(Body::from(twice)).unwrap()).await;
    let problem = problem.is_problem(400, "invalid_request");
    assert!(
        problem.detail.contains("\"name\" stands twice"),
        "{problem:?}"
    );
    let mut run = new_run(PIPELINE);
    run["source"] = git(&full);
    run["event"] = json!({});
    run["env"] = json!({ "_A1": "" });
    let created = api.post("/api/v1/runs", &run).await;
    assert_eq!(created.status, StatusCode::CREATED);
}

#[tokio::test]
async fn every_mistake_is_told_with_what_cannot_be_done_yet() {
    let api = Api::start();
    let text = "jobs: { a: { image: x, neds: b, steps: [{ run: x }] } }\n";
    let problem = api.post("/api/v1/runs", &new_run(text)).await;
    let problem = problem.is_problem(422, "invalid_pipeline");
    let codes: Vec<String> = problem
        .diagnostics
        .iter()
        .map(|found| found.code.to_string())
        .collect();
    assert_eq!(codes, ["RC0501", "RC0101"]);
    assert_eq!(
        problem.detail,
        ".rustci.yaml has 2 errors that keep it from running"
    );
    let text = "jobs: { a: { image: x, steps: [{ run: x }] } }\n";
    let problem = api.post("/api/v1/runs", &new_run(text)).await;
    assert_eq!(
        problem.is_problem(422, "invalid_pipeline").detail,
        ".rustci.yaml has 1 error that keeps it from running"
    );
}

#[tokio::test]
async fn hints_are_about_what_was_asked_for() {
    let api = Api::start();
    for (path, hint) in [
        ("/api/v1/runs/7", "GET /api/v1/runs lists"),
        ("/api/v1/pipelines/x", "GET /api/v1/pipelines lists"),
        (
            "/api/v1/artifacts/7",
            "GET /api/v1/runs/{id}/artifacts lists",
        ),
        (
            "/api/v1/artifacts/7/files/x",
            "GET /api/v1/runs/{id}/artifacts lists",
        ),
        (
            "/api/v1/projects/x/tests/7",
            "GET /api/v1/projects/{project}/tests lists",
        ),
    ] {
        let problem = api.get(path).await.is_problem(404, "not_found");
        assert!(problem.hint.starts_with(hint), "{path}: {problem:?}");
    }
    for (path, hint) in [
        ("/api/v1/secrets/x", "GET /api/v1/secrets lists"),
        ("/api/v1/caches/7", "GET /api/v1/caches lists"),
        ("/api/v1/runners/7", "GET /api/v1/runners lists"),
    ] {
        let request = api.request("DELETE", path).body(Body::empty()).unwrap();
        let problem = api.send(request).await.is_problem(404, "not_found");
        assert!(problem.hint.starts_with(hint), "{path}: {problem:?}");
    }
    let put = async |value: String| {
        let request = api.request("PUT", "/api/v1/secrets/x");
        let request = request
            .header("content-type", "application/json")
            .header("if-none-match", "*");
        let body = Body::from(json!({ "value": value }).to_string());
        api.send(request.body(body).unwrap()).await
    };
    assert_eq!(put("one".to_owned()).await.status, StatusCode::CREATED);
    let problem = put("two".to_owned()).await;
    let problem = problem.is_problem(412, "precondition_failed");
    assert_eq!(problem.detail, "there is a secret x already");
    assert!(problem.hint.contains("If-None-Match"), "{problem:?}");
    let problem = put("x".repeat(1 << 20)).await.is_problem(413, "too_large");
    assert!(problem.detail.starts_with("the value of the secret"));
    assert!(!problem.hint.contains("source"), "{problem:?}");
}
