//! Approving, repeating and asking twice, from outside: a server without runners, called in process.

#![cfg(test)]

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use rustci_server::api::view::{Conclusion, Problem, RunCreated, RunView};
use rustci_server::{Server, ServerConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

const PIPELINE: &str = "\
version: 1
name: ci
on: { manual: {} }
jobs:
  ship:
    environment: { name: production, approval: { from: [ann], timeout: 1h } }
    steps: [{ run: echo ship }]
  after: { needs: [ship], steps: [{ run: echo after }] }
";

struct Api {
    dir: tempfile::TempDir,
    server: Option<Server>,
}

impl Api {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Self { dir, server: None };
        api.restart();
        api
    }

    fn restart(&mut self) {
        self.restart_keeping(None);
    }

    /// Starts the server anew, with runs kept for so long after their end.
    fn restart_keeping(&mut self, keep_runs: Option<Duration>) {
        drop(self.server.take());
        let config = ServerConfig {
            keep_runs,
            ..ServerConfig::new(self.dir.path().join("data"))
        };
        self.server = Some(Server::start(config).unwrap());
    }

    /// Status and body of the answer.
    async fn call(&self, method: &str, path: &str, key: &str, body: &Value) -> (u16, Vec<u8>) {
        let server = self.server.as_ref().unwrap();
        let mut request = Request::builder().method(method).uri(path).header(
            "authorization",
            format!("Bearer {}", server.token().expose()),
        );
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        if method == "POST" {
            request = request.header("content-type", "application/json");
        }
        let body = match method {
            "POST" => Body::from(body.to_string()),
            _ => Body::empty(),
        };
        let request = request.body(body).unwrap();
        let response = server.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, body.to_vec())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Vec<u8>) {
        self.call("POST", path, "", body).await
    }

    async fn run(&self, id: u64) -> RunView {
        let path = format!("/api/v1/runs/{id}");
        parse(&self.call("GET", &path, "", &Value::Null).await.1)
    }

    async fn start_run(&self) -> RunView {
        let (status, body) = self.post("/api/v1/runs", &new_run("a")).await;
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        parse::<RunCreated>(&body).run
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

#[track_caller]
fn is_problem((status, body): (u16, Vec<u8>), expected: u16, code: &str) {
    let problem: Problem = parse(&body);
    assert_eq!(
        (status, problem.code.as_str()),
        (expected, code),
        "{problem:?}"
    );
}

fn new_run(project: &str) -> Value {
    json!({"pipeline": {"file": "ci.yaml", "text": PIPELINE}, "project": project})
}

#[tokio::test]
async fn the_first_answer_counts() {
    let api = Api::start();
    let run = api.start_run().await;
    let job = &api.run(run.id).await.jobs[0];
    let reason = "waits for somebody to approve it for `production`: ann";
    assert_eq!(job.reason.as_deref(), Some(reason));
    let approval = job.approval.as_ref().unwrap();
    assert_eq!(approval.until_ms - approval.asked_ms, 3_600_000);
    let path = format!("/api/v1/runs/{}/jobs/{}", run.id, job.id);
    let word = |comment: &str| json!({"by": "ann", "comment": comment});
    let (one, two) = (word("not today"), word("not ever"));
    let approve = format!("{path}/approve");
    let decline = format!("{path}/decline");
    // Which of the two is the first is not for the test to say.
    let (first, second) = tokio::join!(api.post(&decline, &one), api.post(&decline, &two));
    let (said, refused) = match first.0 {
        204 => (&one, second),
        _ => (&two, first),
    };
    is_problem(refused, 409, "not_asking");
    let run = api.run(run.id).await;
    assert_eq!(run.conclusion, Some(Conclusion::Declined));
    assert_eq!(run.jobs[1].conclusion, Some(Conclusion::Skipped));
    let answer = run.jobs[0].approval.as_ref().unwrap().answer.as_ref();
    assert_eq!(answer.unwrap().comment, said["comment"]);
    is_problem(api.post(&approve, &one).await, 409, "not_asking");
    let none = format!("/api/v1/runs/{}/jobs/99/approve", run.id);
    is_problem(api.post(&none, &one).await, 404, "not_found");
    let none = "/api/v1/runs/99/jobs/1/approve";
    is_problem(api.post(none, &one).await, 404, "not_found");
}

#[tokio::test]
async fn a_run_is_repeated_with_what_it_had() {
    let mut api = Api::start();
    let run = api.start_run().await;
    let again = format!("/api/v1/runs/{}/rerun", run.id);
    is_problem(api.post(&again, &json!({})).await, 409, "run_not_finished");
    let ship = run.jobs[0].id;
    let path = format!("/api/v1/runs/{}/jobs/{ship}/decline", run.id);
    assert_eq!(api.post(&path, &json!({})).await.0, 204);
    // The scheduler has forgotten it afterwards; the catalogue has not.
    api.restart();
    let both = json!({"failed": true, "jobs": ["ship"]});
    is_problem(api.post(&again, &both).await, 422, "contradiction");
    let unknown = json!({"jobs": ["nope"]});
    is_problem(api.post(&again, &unknown).await, 422, "unknown_job");
    let missing = "/api/v1/runs/99/rerun";
    is_problem(api.post(missing, &json!({})).await, 404, "not_found");

    let (status, body) = api.post(&again, &json!({"jobs": ["after"]})).await;
    assert_eq!(status, 201);
    let next = parse::<RunCreated>(&body).run;
    assert_eq!(next.rerun_of, Some(run.id));
    assert_eq!(next.digest, run.digest);
    assert_eq!(next.jobs[0].carried_from, Some(run.id));
    assert_eq!(next.jobs[0].conclusion, Some(Conclusion::Declined));
    let ended = api.run(next.id).await;
    assert_eq!(ended.jobs[1].conclusion, Some(Conclusion::Skipped));

    let again = format!("/api/v1/runs/{}/rerun", next.id);
    let (status, body) = api.post(&again, &json!({"failed": true})).await;
    assert_eq!(status, 201);
    let third = parse::<RunCreated>(&body).run;
    assert!(third.jobs.iter().all(|job| job.carried_from.is_none()));
}

#[tokio::test]
async fn the_same_request_begins_one_run() {
    let mut api = Api::start();
    let runs = "/api/v1/runs";
    let new = new_run("a");
    let (first, second) = tokio::join!(
        api.call("POST", runs, "k1", &new),
        api.call("POST", runs, "k1", &new)
    );
    assert_eq!((first.0, second.0), (201, 201));
    let run = parse::<RunCreated>(&first.1).run.id;
    assert_eq!(parse::<RunCreated>(&second.1).run.id, run);
    let other = api.call("POST", runs, "k1", &new_run("b")).await;
    is_problem(other, 422, "idempotency_mismatch");
    let new = api.call("POST", runs, "k2", &new_run("a")).await;
    assert_eq!(parse::<RunCreated>(&new.1).run.id, run + 1);

    let cancel = format!("/api/v1/runs/{run}/cancel");
    assert_eq!(api.post(&cancel, &json!({})).await.0, 202);
    for _ in 0..2 {
        api.restart();
        let same = api.call("POST", runs, "k1", &new_run("a")).await;
        assert_eq!(parse::<RunCreated>(&same.1).run.id, run);
    }
    let again = format!("/api/v1/runs/{run}/rerun");
    let one = api.call("POST", &again, "k3", &json!({})).await;
    let two = api.call("POST", &again, "k3", &json!({})).await;
    let id = |answer: &(u16, Vec<u8>)| parse::<RunCreated>(&answer.1).run.id;
    assert_eq!(id(&one), id(&two));
    let other = api
        .call("POST", &again, "k3", &json!({"failed": true}))
        .await;
    is_problem(other, 422, "idempotency_mismatch");
}

#[tokio::test]
async fn old_runs_are_removed_with_their_logs() {
    let mut api = Api::start();
    let ended = api.start_run().await;
    let cancel = format!("/api/v1/runs/{}/cancel", ended.id);
    assert_eq!(api.post(&cancel, &json!({})).await.0, 202);
    let repeated = api.start_run().await;
    let decline = format!("/api/v1/runs/{}/jobs/ship/decline", repeated.id);
    assert_eq!(api.post(&decline, &json!({})).await.0, 204);
    let again = format!("/api/v1/runs/{}/rerun", repeated.id);
    let (_, body) = api.post(&again, &json!({"jobs": ["after"]})).await;
    let carries = parse::<RunCreated>(&body).run;
    let open = api.start_run().await;
    let logs = api.dir.path().join("data/logs").join(ended.id.to_string());
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("1.1.log"), "text").unwrap();

    api.restart_keeping(Some(Duration::from_secs(3600)));
    assert_eq!(api.run(ended.id).await.id, ended.id);
    api.restart_keeping(Some(Duration::ZERO));
    let deadline = Instant::now() + Duration::from_secs(10);
    let path = |id: u64| format!("/api/v1/runs/{id}");
    while api.call("GET", &path(ended.id), "", &Value::Null).await.0 != 404 {
        assert!(Instant::now() < deadline, "the run is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!logs.exists());
    // What it took over went with it, in the same round or the next.
    let rest = api.call("GET", &path(carries.id), "", &Value::Null).await.0;
    assert_eq!(rest, 404);
    assert_eq!(api.run(open.id).await.id, open.id);
    assert_eq!(api.start_run().await.id, open.id + 1, "numbers go on");
}
