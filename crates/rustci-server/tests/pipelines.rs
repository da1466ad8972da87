//! Registered pipelines, their schedules and the older API, from outside: a server without runners,
//! called in process, whose schedules follow a clock that the test moves.

#![cfg(test)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use rustci_server::pipelines::CronClock;
use rustci_server::{Server, ServerConfig};
use serde_json::{Value, json};
use tower::ServiceExt;

const MINUTE: u64 = 60_000;
const NIGHTLY: &str = "\
name: Nightly
on: { cron: [{ name: tick, schedule: '*/10 * * * *' }], manual: {} }
jobs: { a: { runs-on: [nowhere=yes], steps: [{ run: make }] } }
";
const OLDER: &str = "\
name: Old One
description: builds it
type: simple
environment: { LEVEL: \"1\" }
steps: [make]
triggers:
  - { trigger_type: git_push, config: { branch_patterns: [main] } }
";

struct Api {
    dir: tempfile::TempDir,
    now: Arc<AtomicU64>,
    server: Option<Server>,
}

impl Api {
    fn start() -> Self {
        let mut api = Self {
            dir: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicU64::new(1000 * MINUTE)),
            server: None,
        };
        api.restart();
        api
    }

    fn restart(&mut self) {
        drop(self.server.take());
        let now = Arc::clone(&self.now);
        let config = ServerConfig {
            schedules: Some(CronClock::new(move || now.load(Ordering::SeqCst))),
            ..ServerConfig::new(self.dir.path().join("data"))
        };
        self.server = Some(Server::start(config).unwrap());
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let server = self.server.as_ref().unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(
                "authorization",
                format!("Bearer {}", server.token().expose()),
            )
            .header("content-type", kind)
            .body(Body::from(body))
            .unwrap();
        let answer = server.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 22).await.unwrap();
        (status, body.to_vec())
    }

    async fn call(&self, to: &str, body: Value, status: u16) -> Value {
        let (method, path) = to.split_once(' ').unwrap();
        let bytes = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let (found, body) = self.send(method, path, "application/json", bytes).await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(found, status, "{to}: {text}");
        serde_json::from_slice(&body).unwrap_or(Value::from(text))
    }

    async fn get(&self, path: &str) -> Value {
        self.call(&format!("GET {path}"), Value::Null, 200).await
    }

    /// The runs there are, newest first, once there are so many.
    async fn runs(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let list = self.get("/api/v1/runs?limit=200").await;
            let runs = list["runs"].as_array().unwrap().clone();
            if runs.len() >= count {
                assert_eq!(runs.len(), count, "{runs:?}");
                return runs;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{runs:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Moves the clock, and has the schedules looked at by a change of another pipeline.
    async fn at(&self, minute: u64) {
        self.now.store(minute * MINUTE, Ordering::SeqCst);
        let quiet = json!({ "pipeline": { "file": "q.yaml", "text": "steps: [make]\n" } });
        self.call("PUT /api/v1/pipelines/quiet", quiet, 200).await;
    }
}

fn nightly() -> Value {
    json!({ "project": "demo", "pipeline": { "file": ".rustci.yaml", "text": NIGHTLY } })
}

#[tokio::test]
async fn pipelines_are_kept_changed_listed_and_removed() {
    let mut api = Api::start();
    let made = api.call("POST /api/v1/pipelines", nightly(), 201).await;
    assert_eq!(made["name"], "nightly");
    assert_eq!(made["schedules"][0]["next_ms"], 1010 * MINUTE);
    let again = api.call("POST /api/v1/pipelines", nightly(), 409).await;
    assert_eq!(again["code"], "pipeline_exists");
    api.restart();
    let kept = api.get("/api/v1/pipelines/nightly").await;
    assert_eq!(kept["text"], NIGHTLY);
    let mut changed = nightly();
    changed["paused"] = json!(true);
    let changed = api
        .call("PUT /api/v1/pipelines/nightly", changed, 200)
        .await;
    assert_eq!(changed["schedules"][0]["next_ms"], Value::Null);
    api.at(1000).await;
    let page = api.get("/api/v1/pipelines?limit=1").await;
    assert_eq!(page["pipelines"][0]["name"], "nightly");
    assert_eq!(page["pipelines"][0]["text"], Value::Null);
    let next = page["next"].as_str().unwrap();
    let page = api
        .get(&format!("/api/v1/pipelines?limit=1&cursor={next}"))
        .await;
    assert_eq!(page["pipelines"][0]["name"], "quiet");
    assert_eq!(page["next"], Value::Null);
    api.call("DELETE /api/v1/pipelines/nightly", Value::Null, 204)
        .await;
    api.call("DELETE /api/v1/pipelines/nightly", Value::Null, 404)
        .await;
    api.call("GET /api/v1/pipelines/nightly", Value::Null, 404)
        .await;
}

#[tokio::test]
async fn a_pipeline_with_mistakes_is_not_kept() {
    let api = Api::start();
    let broken = json!({ "pipeline": { "file": "a.yaml", "text": "jobs: {a: {stepz: []}}" } });
    let answer = api.call("POST /api/v1/pipelines", broken, 422).await;
    assert_eq!(answer["code"], "invalid_pipeline");
    let mut source = nightly();
    source["source"] = json!({ "url": "--upload-pack=evil" });
    api.call("POST /api/v1/pipelines", source, 400).await;
    let mut name = nightly();
    name["name"] = json!("../x");
    api.call("POST /api/v1/pipelines", name, 400).await;
    assert_eq!(api.get("/api/v1/pipelines").await["pipelines"], json!([]));
}

#[tokio::test]
async fn a_schedule_fires_on_time_and_once_over_restarts() {
    let mut api = Api::start();
    api.call("POST /api/v1/pipelines", nightly(), 201).await;
    api.at(1009).await;
    api.runs(0).await;
    api.at(1010).await;
    let runs = api.runs(1).await;
    assert_eq!(runs[0]["event"]["name"], "cron");
    assert_eq!(runs[0]["project"], "demo");
    api.restart();
    api.at(1015).await;
    api.runs(1).await;
    // Three times go by without a server: only the newest is made up for.
    drop(api.server.take());
    api.now.store(1045 * MINUTE, Ordering::SeqCst);
    api.restart();
    api.runs(2).await;
    api.at(1050).await;
    api.runs(3).await;
    api.call("DELETE /api/v1/pipelines/nightly", Value::Null, 204)
        .await;
    api.at(1100).await;
    api.runs(3).await;
}

#[tokio::test]
async fn a_run_of_a_registered_pipeline_is_of_the_commit_that_its_ref_has_now() {
    let api = Api::start();
    let repository = api.dir.path().join("repository");
    let commit = commit(&repository);
    let url = format!("file://{}", repository.display());
    let mut new = nightly();
    new["source"] = json!({ "url": url, "ref": "main" });
    api.call("POST /api/v1/pipelines", new, 201).await;
    let body = json!({ "env": { "LEVEL": "2" } });
    let run = api
        .call("POST /api/v1/pipelines/nightly/trigger", body, 201)
        .await;
    assert_eq!(run["run"]["git"]["commit"], commit);
    assert_eq!(run["run"]["git"]["branch"], "main");
    let body = json!({ "ref": "nowhere" });
    let answer = api
        .call("POST /api/v1/pipelines/nightly/trigger", body, 422)
        .await;
    assert_eq!(answer["code"], "source_unreachable");
    api.call("POST /api/v1/pipelines/none/trigger", json!({}), 404)
        .await;
}

/// A repository with one commit.
fn commit(path: &Path) -> String {
    std::fs::create_dir(path).unwrap();
    std::fs::write(path.join("a"), "a").unwrap();
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .current_dir(path)
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "a"]);
    git(&["commit", "--quiet", "--message=a"]);
    git(&["rev-parse", "HEAD"])
}

#[tokio::test]
async fn the_older_api_keeps_starts_shows_and_cancels() {
    let api = Api::start();
    let health = api.get("/api/healthchecker").await;
    assert_eq!(health["status"], "success");
    api.get("/api/ci/test").await;
    let new = json!({ "yaml_content": OLDER, "pipeline_type": "simple" });
    let made = api.call("POST /api/ci/pipelines", new, 200).await;
    assert_eq!(made["id"], "old-one");
    assert_eq!(made["description"], "builds it");
    assert_eq!(made["created_at"], "1970-01-01T16:40:00Z");
    let above = json!({ "yaml_content": OLDER, "pipeline_type": "advanced" });
    api.call("POST /api/ci/pipelines", above, 400).await;
    let form = format!(
        "--X\r\nContent-Disposition: form-data; name=\"pipeline\"; filename=\"p.yaml\"\r\n\r\n{OLDER}\r\n--X--\r\n"
    );
    let kind = "multipart/form-data; boundary=X";
    let (status, body) = api
        .send("POST", "/api/ci/pipelines/upload", kind, form.into_bytes())
        .await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let list = api.get("/api/ci/pipelines").await;
    let ids: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["old-one", "old-one-2"]);
    assert_eq!(api.get("/api/ci/pipelines/old-one/yaml").await, OLDER);
    assert_eq!(
        api.get("/api/ci/pipelines/old-one").await["pipeline_type"],
        "simple"
    );

    let start = json!({ "trigger_type": "manual", "environment": { "LEVEL": "2" } });
    let run = api
        .call("POST /api/ci/pipelines/old-one/trigger", start, 200)
        .await;
    assert_eq!(run["execution_id"], "1");
    api.runs(1).await;
    let execution = api.get("/api/ci/executions/1").await;
    assert_eq!(execution["status"], "pending");
    assert_eq!(execution["stages"][0]["name"], "pipeline");
    api.call("DELETE /api/ci/executions/1/cancel", Value::Null, 200)
        .await;
    let begun = Instant::now();
    while api.get("/api/ci/executions/1").await["status"] != "cancelled" {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    api.call("DELETE /api/ci/executions/1/cancel", Value::Null, 409)
        .await;
    let list = api.get("/api/ci/executions?pipeline_id=old-one").await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    api.call("GET /api/ci/executions/9", Value::Null, 404).await;
}

#[tokio::test]
async fn a_webhook_starts_what_its_triggers_name() {
    let api = Api::start();
    let new = json!({ "yaml_content": OLDER });
    api.call("POST /api/ci/pipelines", new, 200).await;
    let to = "POST /api/ci/pipelines/old-one/webhook";
    let push = |branch: &str| json!({ "ref": format!("refs/heads/{branch}"), "commits": [] });
    let other = api.call(to, push("other"), 200).await;
    assert_eq!(other["execution_id"], Value::Null);
    let mut quiet = push("main");
    quiet["head_commit"] = json!({ "message": "words [skip ci]" });
    let skipped = api.call(to, quiet, 200).await;
    assert_eq!(skipped["execution_id"], Value::Null);
    let main = api.call(to, push("main"), 200).await;
    assert_eq!(main["execution_id"], "1");
    assert_eq!(api.runs(1).await[0]["event"]["name"], "push");
    api.call(to, json!({}), 400).await;
    let unknown = json!({ "trigger_type": "moon" });
    api.call("POST /api/ci/pipelines/old-one/trigger", unknown, 400)
        .await;
}
