//! The document against the server: every operation is sent what its documentation names, and every
//! answer is held against it.

#![cfg(test)]

mod cases;
mod document;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use rustci_pipeline::Executor;
use rustci_runner::{RunnerConfig, Stop};
use rustci_server::api::view::{RunView, RunnerList, Status};
use rustci_server::blobs::BlobDigest;
use rustci_server::{ReadOnly, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;
use valkyrie::{Endpoint, Shard};
use valkyrie_store::Limit;

use cases::{ASKS, Body as Sent, CASES, Case, DONE, ELSEWHERE, WAITS, run_of};
use document::{Operation, document, operations};

struct Fixture {
    dir: tempfile::TempDir,
    server: Server,
    router: Router,
    stop: watch::Sender<Stop>,
    runner: Shard<Result<(), rustci_runner::RunnerError>>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Fixture {
    /// A server with a dummy runner; run 1 is over, run 2 waits, run 3 asks for approvals.
    async fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Mem {
            name: format!("contract-{name}"),
        };
        let mut config = ServerConfig::new(dir.path().join("data"));
        config.valkyrie = vec![endpoint.clone()];
        // Only requests that say where they come from are counted.
        config.api_limit = Some(Limit::per(1, Duration::from_secs(3600), 1).unwrap());
        let server = Server::start(config).unwrap();
        let router = server.router();
        let runner = |name: &str| {
            let config = RunnerConfig {
                executors: vec![Executor::Dummy],
                ..RunnerConfig::new(name, endpoint.clone(), dir.path().join(name))
            };
            let (stop, stopped) = watch::channel(Stop::No);
            let runner = Shard::spawn("runner", move || rustci_runner::run(config, stopped));
            (stop, runner.unwrap())
        };
        let (stop, gone) = runner("gone");
        until_runners(&router, &server, "connected").await;
        stop.send_replace(Stop::Drain);
        gone.join().unwrap().unwrap();
        until_runners(&router, &server, "away").await;
        let (stop, runner) = runner("dummy");
        let fixture = Self {
            dir,
            server,
            router,
            stop,
            runner,
        };
        fixture.seed().await;
        fixture
    }

    async fn seed(&self) {
        for text in [DONE, WAITS, ASKS] {
            let request = self.request("POST", "/api/v1/runs");
            let body = Body::from(run_of(text).to_string());
            let answer = self.send(request.body(body).unwrap()).await;
            assert_eq!(answer.status, 201);
        }
        // The stream ends with the run.
        let follow = self.request("GET", "/api/v1/runs/1/events");
        self.send(follow.body(Body::empty()).unwrap()).await;
        let run = self.request("GET", "/api/v1/runs/1").body(Body::empty());
        let run: RunView = serde_json::from_slice(&self.send(run.unwrap()).await.body).unwrap();
        assert_eq!(run.status, Status::Finished);
        self.write_a_test();
    }

    /// What a report leaves: the dummy executor counts tests and names none.
    fn write_a_test(&self) {
        let path = self.dir.path().join("data/catalogue.sqlite");
        let catalogue = rusqlite::Connection::open(path).unwrap();
        let rows = "
            INSERT INTO tests VALUES (1, 'demo', 'a', 'class', 'name', 'suite');
            INSERT INTO test_results VALUES
                (1, 1, 1, 0, 1, 'passed', 7, 0, 0, 'a.rs', 3, '', '', '', 1);
        ";
        catalogue.execute_batch(rows).unwrap();
    }

    fn request(&self, method: &str, to: &str) -> axum::http::request::Builder {
        let token = format!("Bearer {}", self.server.token().expose());
        let request = Request::builder().method(method).uri(to);
        request.header("authorization", token)
    }

    /// The request of a case, and its body.
    fn of(&self, case: &Case) -> Request<Body> {
        let archive = format!("/api/v1/blobs/{}", BlobDigest::of(b"archive"));
        let (method, to) = case.to.split_once(' ').unwrap();
        let mut request = self.request(method, &to.replace("{archive}", &archive));
        for (name, value) in case.headers {
            request = request.header(*name, *value);
        }
        let body = match &case.body {
            Sent::None => Body::empty(),
            Sent::Bytes(bytes) => Body::from(*bytes),
            Sent::Json(make) => {
                request = request.header("content-type", "application/json");
                Body::from(make().to_string())
            }
        };
        request.body(body).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    /// Ends both and leaves the router, which has nothing behind it any more.
    fn stop(self) -> (tempfile::TempDir, Router) {
        self.stop.send_replace(Stop::Drain);
        self.runner.join().unwrap().unwrap();
        self.server.shutdown();
        (self.dir, self.router)
    }
}

/// Waits until all runners are in one state, and there is one.
async fn until_runners(router: &Router, server: &Server, state: &str) {
    loop {
        let token = format!("Bearer {}", server.token().expose());
        let request = Request::get("/api/v1/runners").header("authorization", token);
        let answer = send(router, request.body(Body::empty()).unwrap()).await;
        let list: RunnerList = serde_json::from_slice(&answer.body).unwrap();
        let mut states = list.runners.iter().map(|runner| runner.state.as_str());
        if !list.runners.is_empty() && states.all(|known| known == state) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: to_bytes(body, 1 << 26).await.unwrap().to_vec(),
    }
}

/// What was seen so far of the document.
struct Seen {
    document: Value,
    operations: BTreeMap<String, Operation>,
    statuses: BTreeSet<(String, u16)>,
}

impl Seen {
    fn new() -> Self {
        let document = document();
        let all = operations(&document);
        let count = all.len();
        let operations: BTreeMap<_, _> = all.into_iter().map(|one| (one.id.clone(), one)).collect();
        assert_eq!(operations.len(), count, "two operations have one id");
        Self {
            document,
            operations,
            statuses: BTreeSet::new(),
        }
    }

    fn operation(&self, id: &str) -> &Operation {
        let found = self.operations.get(id);
        found.unwrap_or_else(|| panic!("the document has no operation {id}"))
    }

    /// Holds an answer against the document and remembers it.
    #[track_caller]
    fn check(&mut self, id: &str, status: u16, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{id}: {text}");
        let operation = self.operation(id);
        let content = operation.content(status);
        let content = content.unwrap_or_else(|| panic!("{id} does not document {status}: {text}"));
        for header in ["x-request-id", "x-content-type-options", "cache-control"] {
            assert!(
                answer.headers.contains_key(header),
                "{id} {status} lacks {header}"
            );
        }
        if operation.method != Method::HEAD {
            self.check_body(id, &content, answer);
        }
        self.statuses.insert((id.to_owned(), status));
    }

    #[track_caller]
    fn check_body(&self, id: &str, content: &[(String, Value)], answer: &Answer) {
        if content.is_empty() {
            return assert!(
                answer.body.is_empty(),
                "{id}: a body that is not documented"
            );
        }
        let kind = answer.headers["content-type"].to_str().unwrap();
        let essence = kind.split(';').next().unwrap();
        let (_, schema) = content
            .iter()
            .find(|(known, _)| known == essence)
            .unwrap_or_else(|| panic!("{id} does not document {kind}"));
        if essence.ends_with("json") {
            let value: Value = serde_json::from_slice(&answer.body).unwrap();
            let findings = schema::findings(&self.document, schema, &value);
            assert!(findings.is_empty(), "{id}: {findings:#?} in {value:#}");
        }
        for (schema, item) in streamed(essence, &answer.body) {
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            let findings = schema::findings(&self.document, &schema, &item);
            assert!(findings.is_empty(), "{id}: {findings:#?} in {item:#}");
        }
    }
}

/// The parts of a stream, each with the schema that the description of the operation names.
fn streamed(kind: &str, body: &[u8]) -> Vec<(&'static str, Value)> {
    let text = String::from_utf8_lossy(body);
    let parse = |data: &str| serde_json::from_str::<Value>(data).unwrap();
    match kind {
        "application/jsonl" => text.lines().map(|line| ("LogLine", parse(line))).collect(),
        "text/event-stream" => {
            let blocks = text.split("\n\n");
            let events = blocks.filter_map(|block| {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let schema = match field("event: ")? {
                    "line" => "LogLine",
                    "error" => "Problem",
                    "end" if field("data: ") == Some("{}") => return None,
                    _ => "RunEvent",
                };
                Some((schema, parse(field("data: ")?)))
            });
            events.collect()
        }
        _ => Vec::new(),
    }
}

fn success(id: &str) -> &'static Case {
    let case = CASES.iter().find(|case| case.operation == id);
    case.unwrap_or_else(|| panic!("{id} is never sent: add its rows to tests/contract/cases.rs"))
}

#[tokio::test]
async fn every_operation_answers_as_documented() {
    let mut seen = Seen::new();
    let fixture = Fixture::start("all").await;
    for case in CASES {
        let answer = fixture.send(fixture.of(case)).await;
        seen.check(case.operation, case.status, &answer);
    }
    let guarded: Vec<Operation> = seen.operations.values().cloned().collect();
    for operation in &guarded {
        shared_errors(&fixture, &mut seen, operation).await;
    }
    while_reading_only(&fixture, &mut seen, &guarded).await;
    let requests: Vec<_> = guarded
        .iter()
        .map(|one| (one, fixture.of(success(&one.id))))
        .collect();
    let (_dir, stopped) = fixture.stop();
    for (operation, request) in requests {
        if operation.statuses().contains(&503) {
            let answer = send(&stopped, request).await;
            seen.check(&operation.id, 503, &answer);
        }
    }
    let missing: Vec<_> = guarded
        .iter()
        .flat_map(|one| {
            one.statuses()
                .into_iter()
                .map(|status| (one.id.clone(), status))
        })
        .filter(|pair| !seen.statuses.contains(pair))
        .filter(|(id, status)| !ELSEWHERE.contains(&(id.as_str(), *status)))
        .collect();
    assert!(missing.is_empty(), "documented and never seen: {missing:?}");
}

/// The errors that the layers around all handlers give.
async fn shared_errors(fixture: &Fixture, seen: &mut Seen, operation: &Operation) {
    let id = &operation.id;
    let statuses = operation.statuses();
    let case = success(id);
    let mut answers = Vec::new();
    if operation.needs_token() {
        let mut request = fixture.of(case);
        request.headers_mut().remove("authorization");
        answers.push((401, request));
        let mut request = fixture.of(case);
        let to = format!("{}?nonsense=1", request.uri().path());
        *request.uri_mut() = to.parse().unwrap();
        answers.push((400, request));
    }
    let with = |name: &'static str, value: &str| {
        let mut request = fixture.of(case);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    if statuses.contains(&406) {
        answers.push((406, with("accept", "image/png")));
    }
    if operation.takes_body() {
        answers.push((415, with("content-type", "text/x-nothing")));
        let mut request = with("content-length", &(u64::MAX / 2).to_string());
        *request.body_mut() = Body::from(vec![b' '; (4 << 20) + 1]);
        answers.push((413, request));
    }
    for (status, request) in answers {
        let answer = fixture.send(request).await;
        seen.check(id, status, &answer);
    }
    if statuses.contains(&429) {
        // The second request of an address that may send one.
        let stranger = || {
            let mut request = fixture.of(case);
            request.headers_mut().remove("authorization");
            let peer = SocketAddr::from(([192, 0, 2, 1], 1));
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        };
        fixture.send(stranger()).await;
        let answer = fixture.send(stranger()).await;
        seen.check(id, 429, &answer);
        assert!(answer.headers.contains_key("retry-after"));
    }
    if statuses.contains(&304) && case.status == 200 {
        let answer = unchanged(fixture, case).await;
        seen.check(id, 304, &answer);
    }
}

/// Asks again with the tag of the answer, until nothing changed in between.
async fn unchanged(fixture: &Fixture, case: &Case) -> Answer {
    let mut tag = String::from("\"none\"");
    for _ in 0..1_000 {
        let mut request = fixture.of(case);
        let known = tag.parse().unwrap();
        request.headers_mut().insert("if-none-match", known);
        let answer = fixture.send(request).await;
        if answer.status == 304 {
            return answer;
        }
        answer.headers["etag"]
            .to_str()
            .unwrap()
            .clone_into(&mut tag);
    }
    panic!("{} changes with every look", case.to);
}

/// Whoever opens a data directory for reading can look at everything and change nothing.
async fn while_reading_only(fixture: &Fixture, seen: &mut Seen, operations: &[Operation]) {
    let read_only = ReadOnly::open(&fixture.dir.path().join("data")).unwrap();
    let router = read_only.router();
    for operation in operations {
        let answer = send(&router, fixture.of(success(&operation.id))).await;
        let changes = ![Method::GET, Method::HEAD].contains(&operation.method);
        let status = if changes { 409 } else { answer.status };
        seen.check(&operation.id, status, &answer);
    }
}

#[tokio::test]
async fn every_route_is_documented() {
    let fixture = Fixture::start("routes").await;
    let document = document();
    let documented = document["paths"].as_object().unwrap();
    // The router tells its routes to nobody but those who debug it.
    let text = format!("{:?}", fixture.router);
    let routes = text.split('"').filter(|word| word.starts_with("/"));
    let nests =
        |route: &str| route == "/" || route.starts_with("/api/") && route.matches('/').count() < 3;
    let routes: BTreeSet<&str> = routes
        .filter(|route| !route.contains("{*") && !nests(route))
        .collect();
    assert!(routes.contains("/api/v1/runs/{id}"), "{text}");
    let itself = ["/api/v1/openapi.json", "/api-docs/openapi.json"];
    let undocumented: Vec<_> = routes
        .iter()
        .filter(|route| !documented.contains_key(**route) && !itself.contains(*route))
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
    for path in itself {
        let get = Request::get(path).body(Body::empty()).unwrap();
        let answer = fixture.send(get).await;
        assert_eq!(answer.body, rustci_server::api::openapi().into_bytes());
    }
    let _ = fixture.stop();
}

#[tokio::test]
async fn every_route_says_what_it_allows() {
    let fixture = Fixture::start("methods").await;
    let seen = Seen::new();
    for operation in seen.operations.values() {
        let request = fixture.of(success(&operation.id));
        let path = request.uri().path().to_owned();
        let options = fixture.request("OPTIONS", &path).body(Body::empty());
        let answer = fixture.send(options.unwrap()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}");
        let allow = answer.headers["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains(operation.method.as_str()), "{path}: {allow}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let other = fixture.request("BREW", &path).body(Body::empty());
        let answer = fixture.send(other.unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers["allow"], allow.as_str());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let _ = fixture.stop();
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let fixture = Fixture::start("head").await;
    for path in [
        "/api/v1/runs",
        "/api/v1/runs/1",
        "/livez",
        "/api/v1/runs/4096",
    ] {
        let [get, head] = ["GET", "HEAD"].map(|method| {
            let request = fixture.request(method, path);
            fixture.send(request.body(Body::empty()).unwrap())
        });
        let (get, head) = (get.await, head.await);
        assert_eq!(get.status, head.status, "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty());
        for header in ["content-type", "etag"] {
            assert_eq!(get.headers.get(header), head.headers.get(header), "{path}");
        }
    }
    let _ = fixture.stop();
}
