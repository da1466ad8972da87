//! Two people who change the same thing, from outside: who read an older state is told so, and
//! nothing is changed.

#![cfg(test)]

use axum::body::{Body, to_bytes};
use axum::http::Request;
use rustci_server::{Server, ServerConfig};
use serde_json::{Value, json};
use tower::ServiceExt;

const PIPELINE: &str = "/api/v1/pipelines/nightly";
const QUOTA: &str = "/api/v1/projects/demo/quota";

/// Status, `ETag` and body.
type Answer = (u16, String, Value);

struct Api {
    _dir: tempfile::TempDir,
    server: Server,
}

impl Api {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(ServerConfig::new(dir.path().join("data"))).unwrap();
        Self { _dir: dir, server }
    }

    async fn send(&self, to: &str, header: Option<(&str, &str)>, body: &Value) -> Answer {
        let (method, path) = to.split_once(' ').unwrap();
        let token = self.server.token();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", token.expose()));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        let answer = self.server.router().oneshot(request.body(body).unwrap());
        let answer = answer.await.unwrap();
        let status = answer.status().as_u16();
        let tag = answer
            .headers()
            .get("etag")
            .map(|tag| tag.to_str().unwrap());
        let tag = tag.unwrap_or_default().to_owned();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (
            status,
            tag,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    async fn get(&self, path: &str) -> (String, Value) {
        let (status, tag, body) = self.send(&format!("GET {path}"), None, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        (tag, body)
    }

    async fn put(&self, path: &str, tag: &str, body: &Value) -> (u16, Value) {
        let header = Some(("if-match", tag));
        let (status, _, body) = self.send(&format!("PUT {path}"), header, body).await;
        (status, body)
    }
}

fn pipeline(step: &str) -> Value {
    let text = format!("jobs: {{ a: {{ steps: [{{ run: {step} }}] }} }}\n");
    json!({ "pipeline": { "file": ".rustci.yaml", "text": text } })
}

/// Both read, the first writes, the second is refused and finds what the first wrote.
async fn check(api: &Api, path: &str, (first, second): (Value, Value)) {
    let (header, read) = api.get(path).await;
    let field = read["etag"].as_str().unwrap().to_owned();
    let (status, written) = api.put(path, &header, &first).await;
    assert_eq!(status, 200, "{written}");
    assert_ne!(written["etag"], field.as_str());
    for stale in [header, format!("\"{field}\"")] {
        let (status, problem) = api.put(path, &stale, &second).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (412, Some("precondition_failed"))
        );
        let delete = format!("DELETE {path}");
        let refused = api.send(&delete, Some(("if-match", &stale)), &Value::Null);
        assert_eq!(refused.await.0, 412);
    }
    let (_, kept) = api.get(path).await;
    assert_eq!(kept["etag"], written["etag"]);
    let tag = format!("\"{}\"", kept["etag"].as_str().unwrap());
    assert_eq!(api.put(path, &tag, &second).await.0, 200);
    let (now, _) = api.get(path).await;
    let delete = format!("DELETE {path}");
    let gone = api.send(&delete, Some(("if-match", &now)), &Value::Null);
    assert_eq!(gone.await.0, 204);
}

#[tokio::test]
async fn a_pipeline_that_somebody_else_changed_is_left_alone() {
    let api = Api::start();
    let new = Some(("if-none-match", "*"));
    let put = format!("PUT {PIPELINE}");
    assert_eq!(api.send(&put, new, &pipeline("one")).await.0, 200);
    assert_eq!(api.send(&put, new, &pipeline("two")).await.0, 412);
    check(&api, PIPELINE, (pipeline("two"), pipeline("three"))).await;
    let (status, problem) = api.put(PIPELINE, "*", &pipeline("four")).await;
    assert_eq!(status, 412, "it is gone: {problem}");
    let delete = format!("DELETE {PIPELINE}");
    let gone = api.send(&delete, None, &Value::Null);
    assert_eq!(gone.await.0, 404);
}

#[tokio::test]
async fn a_quota_that_somebody_else_changed_is_left_alone() {
    let api = Api::start();
    check(
        &api,
        QUOTA,
        (json!({ "running": 2 }), json!({ "running": 3 })),
    )
    .await;
}

#[tokio::test]
async fn a_tag_of_an_answer_changes_with_what_the_time_changes() {
    let api = Api::start();
    let (before, quota) = api.get(QUOTA).await;
    let run = json!({ "pipeline": pipeline("x")["pipeline"], "project": "demo" });
    assert_eq!(api.send("POST /api/v1/runs", None, &run).await.0, 201);
    let (after, busy) = api.get(QUOTA).await;
    assert_eq!(busy["waiting_now"], 1);
    assert_eq!(quota["etag"], busy["etag"], "nothing was set");
    assert_ne!(before, after, "a client must not go on with 0 waiting jobs");
    let (status, _) = api.put(QUOTA, &before, &json!({ "weight": 2 })).await;
    assert_eq!(status, 200, "what was set is what it was");
}
