//! What is sent: for every operation a request that succeeds, and one for each error of its own.
//!
//! A new route adds its rows to [`CASES`]. The first row of an operation is its success; the errors
//! that all routes share (400, 401, 406, 409 on a server that only reads, 413, 415, 503) are made
//! from it and need no rows. Rows are sent in this order to one server, which begins with what
//! `Fixture::start` in `main.rs` puts there: run 1 is over, run 2 waits for a runner, the jobs of
//! run 3 for somebody's approval; runner 1 is gone, runner 2 is connected.

use serde_json::{Value, json};

/// Answers that need files which only a real runner brings: the command line's tests of artifacts
/// and caches get them from a running server.
pub(crate) const ELSEWHERE: &[(&str, u16)] = &[
    ("get_artifact", 200),
    ("get_artifact", 304),
    ("remove_artifact", 204),
    ("get_artifact_file", 200),
    ("get_artifact_file", 206),
    ("get_artifact_file", 416),
    ("get_artifact_archive", 200),
    ("remove_cache", 204),
];

/// A request and the status of its answer.
pub(crate) struct Case {
    pub(crate) operation: &'static str,
    pub(crate) status: u16,
    /// Method and path with query.
    pub(crate) to: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: Body,
}

pub(crate) enum Body {
    None,
    Json(fn() -> Value),
    Bytes(&'static [u8]),
}

const fn get(operation: &'static str, status: u16, to: &'static str) -> Case {
    Case {
        operation,
        status,
        to,
        headers: &[],
        body: Body::None,
    }
}

const fn send(operation: &'static str, status: u16, to: &'static str, body: fn() -> Value) -> Case {
    Case {
        operation,
        status,
        to,
        headers: &[],
        body: Body::Json(body),
    }
}

impl Case {
    const fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    const fn bytes(self, bytes: &'static [u8]) -> Self {
        Self {
            body: Body::Bytes(bytes),
            ..self
        }
    }
}

/// A pipeline whose jobs the dummy executor does.
pub(crate) const DONE: &str = "\
version: 1
name: done
on: { manual: {} }
jobs:
  a: { runs-on: [executor=dummy], env: { DUMMY_OUTPUT_BYTES: '640' }, steps: [{ run: x }] }
";

/// A pipeline whose job waits for a runner that does not exist.
pub(crate) const WAITS: &str = "\
version: 1
name: waits
on: { manual: {} }
jobs:
  a: { runs-on: [nowhere=yes], steps: [{ run: x }] }
";

/// A pipeline whose jobs ask.
pub(crate) const ASKS: &str = "\
version: 1
name: asks
on: { manual: {} }
jobs:
  yes: { runs-on: [nowhere=yes], environment: { name: e, approval: {} }, steps: [{ run: x }] }
  no: { environment: { name: e, approval: {} }, steps: [{ run: x }] }
";

/// A pipeline of the older format.
pub(crate) const OLDER: &str = "name: older\nsteps: [make]\n";

/// The body that registers a pipeline.
fn pipeline() -> Value {
    json!({ "name": "done", "pipeline": { "file": ".rustci.yaml", "text": DONE } })
}

/// The body that starts a pipeline.
pub(crate) fn run_of(text: &str) -> Value {
    json!({
        "pipeline": { "file": ".rustci.yaml", "text": text },
        "event": { "name": "manual" },
        "project": "demo",
        "git": { "branch": "main", "commit": "1f0c" },
    })
}

pub(crate) const CASES: &[Case] = &[
    get("is_alive", 200, "GET /livez"),
    get("is_started", 200, "GET /startupz"),
    get("is_ready", 200, "GET /readyz"),
    get("metrics", 200, "GET /metrics"),
    get("version", 200, "GET /version"),
    send("create_run", 201, "POST /api/v1/runs", || run_of(WAITS))
        .with(&[("idempotency-key", "k1")]),
    send(
        "create_run",
        400,
        "POST /api/v1/runs",
        || json!({ "project": 7 }),
    ),
    send("create_run", 422, "POST /api/v1/runs", || {
        run_of("version: 1")
    }),
    get("list_runs", 200, "GET /api/v1/runs"),
    get(
        "list_runs",
        200,
        "GET /api/v1/runs?limit=1&project=demo&status=finished&conclusion=success&pipeline=done&event=manual&branch=main&commit=1f0c&since=1",
    ),
    get("list_runs", 400, "GET /api/v1/runs?limit=0"),
    get("list_runs", 400, "GET /api/v1/runs?status=lost"),
    get("get_run", 200, "GET /api/v1/runs/1"),
    get("get_run", 200, "GET /api/v1/runs/2"),
    get("get_run", 400, "GET /api/v1/runs/one"),
    get("get_run", 404, "GET /api/v1/runs/4096"),
    get("follow_run", 200, "GET /api/v1/runs/1/events"),
    get("follow_run", 400, "GET /api/v1/runs/1/events").with(&[("last-event-id", "x")]),
    get("follow_run", 404, "GET /api/v1/runs/4096/events"),
    get("read_log", 200, "GET /api/v1/runs/1/jobs/a/log"),
    get(
        "read_log",
        200,
        "GET /api/v1/runs/1/jobs/a/log?tail=2&follow=true",
    )
    .with(&[("accept", "text/event-stream")]),
    get("read_log", 200, "GET /api/v1/runs/1/jobs/a/log")
        .with(&[("accept", "application/octet-stream")]),
    get("read_log", 400, "GET /api/v1/runs/1/jobs/a/log?tail=-1"),
    get("read_log", 422, "GET /api/v1/runs/1/jobs/a/log?offset=3"),
    get("read_log", 404, "GET /api/v1/runs/1/jobs/b/log"),
    send(
        "cancel_run",
        202,
        "POST /api/v1/runs/2/cancel",
        || json!({}),
    ),
    send("cancel_run", 404, "POST /api/v1/runs/4096/cancel", || {
        json!({})
    }),
    send(
        "cancel_run",
        409,
        "POST /api/v1/runs/2/cancel",
        || json!({}),
    ),
    send(
        "approve_job",
        204,
        "POST /api/v1/runs/3/jobs/yes/approve",
        || json!({ "by": "ann", "comment": "go" }),
    ),
    send(
        "approve_job",
        409,
        "POST /api/v1/runs/3/jobs/yes/approve",
        || json!({}),
    ),
    send(
        "approve_job",
        404,
        "POST /api/v1/runs/3/jobs/maybe/approve",
        || json!({}),
    ),
    send(
        "decline_job",
        204,
        "POST /api/v1/runs/3/jobs/no/decline",
        || json!({}),
    ),
    send(
        "decline_job",
        409,
        "POST /api/v1/runs/3/jobs/no/decline",
        || json!({}),
    ),
    send(
        "decline_job",
        404,
        "POST /api/v1/runs/4096/jobs/no/decline",
        || json!({}),
    ),
    send(
        "rerun_run",
        201,
        "POST /api/v1/runs/1/rerun",
        || json!({ "jobs": ["a"] }),
    ),
    send("rerun_run", 404, "POST /api/v1/runs/4096/rerun", || {
        json!({})
    }),
    send("rerun_run", 409, "POST /api/v1/runs/3/rerun", || json!({})),
    send("rerun_run", 422, "POST /api/v1/runs/1/rerun", || json!({}))
        .with(&[("idempotency-key", "k1")]),
    get("explain_run", 200, "GET /api/v1/runs/2/explain"),
    get("explain_run", 200, "GET /api/v1/runs/1/explain"),
    get("explain_run", 404, "GET /api/v1/runs/4096/explain"),
    get("explain_job", 200, "GET /api/v1/runs/1/jobs/a/explain"),
    get("explain_job", 404, "GET /api/v1/runs/1/jobs/b/explain"),
    get("get_queue", 200, "GET /api/v1/queue?limit=1&project=demo"),
    get("get_queue", 400, "GET /api/v1/queue?cursor=7"),
    get("pause_queue", 200, "POST /api/v1/queue/pause"),
    get("resume_queue", 200, "POST /api/v1/queue/resume"),
    send(
        "set_quota",
        200,
        "PUT /api/v1/projects/demo/quota",
        || json!({ "running": 4, "queued": 1 }),
    ),
    send("create_run", 429, "POST /api/v1/runs", || run_of(WAITS)),
    send(
        "rerun_run",
        429,
        "POST /api/v1/runs/1/rerun",
        || json!({ "jobs": ["a"] }),
    ),
    get("get_quota", 200, "GET /api/v1/projects/demo/quota"),
    get("list_quotas", 200, "GET /api/v1/quotas?limit=1"),
    send(
        "set_quota",
        412,
        "PUT /api/v1/projects/demo/quota",
        || json!({ "running": 8 }),
    )
    .with(&[("if-match", "\"0\"")]),
    get("remove_quota", 412, "DELETE /api/v1/projects/demo/quota").with(&[("if-match", "\"0\"")]),
    get("remove_quota", 204, "DELETE /api/v1/projects/demo/quota"),
    send(
        "set_quota",
        400,
        "PUT /api/v1/projects/demo/quota",
        || json!({ "weight": 1_001 }),
    ),
    get("list_runners", 200, "GET /api/v1/runners"),
    get("list_runners", 200, "GET /api/v1/runners?limit=1"),
    get("list_runners", 200, "GET /api/v1/runners?elsewhere=true"),
    get("drain_runner", 200, "POST /api/v1/runners/2/drain"),
    get("drain_runner", 404, "POST /api/v1/runners/4096/drain"),
    get("undrain_runner", 200, "POST /api/v1/runners/2/undrain"),
    get("undrain_runner", 404, "POST /api/v1/runners/4096/undrain"),
    get("forget_runner", 204, "DELETE /api/v1/runners/1"),
    get("forget_runner", 404, "DELETE /api/v1/runners/1"),
    get("forget_runner", 409, "DELETE /api/v1/runners/2"),
    send(
        "set_secret",
        201,
        "PUT /api/v1/secrets/deploy",
        || json!({ "value": "x1" }),
    ),
    send(
        "set_secret",
        200,
        "PUT /api/v1/secrets/deploy",
        || json!({ "value": "x2" }),
    ),
    send(
        "set_secret",
        412,
        "PUT /api/v1/secrets/deploy",
        || json!({ "value": "x3" }),
    )
    .with(&[("if-none-match", "*")]),
    get("backup", 200, "GET /api/v1/backup"),
    get("backup", 200, "GET /api/v1/backup?keys=true"),
    get("state", 200, "GET /api/v1/state"),
    get("state", 200, "GET /api/v1/state?catalogue=true"),
    get("list_secrets", 200, "GET /api/v1/secrets"),
    get("remove_secret", 412, "DELETE /api/v1/secrets/deploy").with(&[("if-match", "\"0\"")]),
    get("remove_secret", 204, "DELETE /api/v1/secrets/deploy"),
    get("remove_secret", 404, "DELETE /api/v1/secrets/deploy"),
    get("rekey_secrets", 200, "POST /api/v1/secrets/rekey"),
    get("list_summaries", 200, "GET /api/v1/runs/1/summaries"),
    get("list_summaries", 404, "GET /api/v1/runs/4096/summaries"),
    get("list_run_tests", 200, "GET /api/v1/runs/1/tests"),
    get("list_run_tests", 404, "GET /api/v1/runs/4096/tests"),
    get("list_project_tests", 200, "GET /api/v1/projects/demo/tests"),
    get("get_test_history", 200, "GET /api/v1/projects/demo/tests/1"),
    get(
        "get_test_history",
        404,
        "GET /api/v1/projects/demo/tests/4096",
    ),
    get("get_quota", 422, "GET /api/v1/projects/%10/quota"),
    send("set_quota", 422, "PUT /api/v1/projects/%10/quota", || {
        json!({})
    }),
    get("remove_quota", 422, "DELETE /api/v1/projects/%10/quota"),
    get("pipeline_schema", 200, "GET /api/v1/schema/pipeline"),
    get("store_blob", 201, "PUT {archive}").bytes(b"archive"),
    get("store_blob", 200, "PUT {archive}").bytes(b"archive"),
    get(
        "store_blob",
        422,
        "PUT /api/v1/blobs/0000000000000000000000000000000000000000000000000000000000000000",
    )
    .bytes(b"archivf"),
    get("find_blob", 200, "HEAD {archive}"),
    get(
        "find_blob",
        404,
        "HEAD /api/v1/blobs/0000000000000000000000000000000000000000000000000000000000000000",
    ),
    get("pipeline_schema", 200, "GET /api/v1/schema/pipeline"),
    get("older_health", 200, "GET /api/healthchecker"),
    get("older_test", 200, "GET /api/ci/test"),
    send("create_pipeline", 201, "POST /api/v1/pipelines", pipeline)
        .with(&[("idempotency-key", "p1")]),
    send("create_pipeline", 409, "POST /api/v1/pipelines", pipeline),
    send(
        "create_pipeline",
        422,
        "POST /api/v1/pipelines",
        || json!({ "pipeline": { "file": "a", "text": "version: 1" } }),
    ),
    get("list_pipelines", 200, "GET /api/v1/pipelines?limit=1"),
    get("get_pipeline", 200, "GET /api/v1/pipelines/done"),
    get("get_pipeline", 404, "GET /api/v1/pipelines/none"),
    send("set_pipeline", 200, "PUT /api/v1/pipelines/done", pipeline),
    send("set_pipeline", 412, "PUT /api/v1/pipelines/done", pipeline)
        .with(&[("if-none-match", "*")]),
    get("remove_pipeline", 412, "DELETE /api/v1/pipelines/done").with(&[("if-match", "\"0\"")]),
    send(
        "set_pipeline",
        422,
        "PUT /api/v1/pipelines/done",
        || json!({ "pipeline": { "file": "a", "text": "version: 1" } }),
    ),
    send(
        "trigger_pipeline",
        201,
        "POST /api/v1/pipelines/done/trigger",
        || json!({}),
    )
    .with(&[("idempotency-key", "p2")]),
    send(
        "trigger_pipeline",
        404,
        "POST /api/v1/pipelines/none/trigger",
        || json!({}),
    ),
    send(
        "trigger_pipeline",
        422,
        "POST /api/v1/pipelines/done/trigger",
        || json!({ "inputs": { "none": 1 } }),
    ),
    send(
        "older_create_pipeline",
        200,
        "POST /api/ci/pipelines",
        || json!({ "yaml_content": OLDER }),
    ),
    send(
        "older_create_pipeline",
        422,
        "POST /api/ci/pipelines",
        || json!({ "yaml_content": "version: 1" }),
    ),
    get(
        "older_upload_pipeline",
        200,
        "POST /api/ci/pipelines/upload",
    )
    .bytes(b"--X\r\nContent-Disposition: form-data; name=file\r\n\r\nsteps: [make]\r\n--X--")
    .with(&[("content-type", "multipart/form-data; boundary=X")]),
    get(
        "older_upload_pipeline",
        422,
        "POST /api/ci/pipelines/upload",
    )
    .bytes(b"--X\r\nContent-Disposition: form-data; name=file\r\n\r\nsteps: []\r\n--X--")
    .with(&[("content-type", "multipart/form-data; boundary=X")]),
    get("older_list_pipelines", 200, "GET /api/ci/pipelines"),
    get("older_get_pipeline", 200, "GET /api/ci/pipelines/older"),
    get("older_get_pipeline", 404, "GET /api/ci/pipelines/none"),
    get("older_get_yaml", 200, "GET /api/ci/pipelines/older/yaml"),
    get("older_get_yaml", 404, "GET /api/ci/pipelines/none/yaml"),
    send(
        "older_trigger",
        200,
        "POST /api/ci/pipelines/older/trigger",
        || json!({ "trigger_type": "manual" }),
    ),
    send(
        "older_trigger",
        404,
        "POST /api/ci/pipelines/none/trigger",
        || json!({ "trigger_type": "manual" }),
    ),
    send(
        "older_trigger",
        422,
        "POST /api/ci/pipelines/older/trigger",
        || json!({ "trigger_type": "manual", "repository": "file:///nowhere/at/all" }),
    ),
    send(
        "older_webhook",
        200,
        "POST /api/ci/pipelines/older/webhook",
        || json!({ "ref": "refs/heads/main" }),
    ),
    send(
        "older_webhook",
        404,
        "POST /api/ci/pipelines/none/webhook",
        || json!({ "ref": "refs/heads/main" }),
    ),
    send(
        "older_create_pipeline",
        200,
        "POST /api/ci/pipelines",
        || json!({ "yaml_content": "name: lost\nrepo: file:///nowhere/at/all\nsteps: [make]\n" }),
    ),
    send(
        "older_webhook",
        422,
        "POST /api/ci/pipelines/lost/webhook",
        || json!({ "ref": "refs/heads/main" }),
    ),
    send(
        "set_quota",
        200,
        "PUT /api/v1/projects/older/quota",
        || json!({ "queued": 1 }),
    ),
    send(
        "older_trigger",
        429,
        "POST /api/ci/pipelines/older/trigger",
        || json!({ "trigger_type": "manual" }),
    ),
    send(
        "older_webhook",
        429,
        "POST /api/ci/pipelines/older/webhook",
        || json!({ "ref": "refs/heads/main" }),
    ),
    send(
        "set_pipeline",
        200,
        "PUT /api/v1/pipelines/waits",
        || json!({ "project": "older", "pipeline": { "file": "w.yaml", "text": WAITS } }),
    ),
    send(
        "trigger_pipeline",
        429,
        "POST /api/v1/pipelines/waits/trigger",
        || json!({}),
    ),
    get("list_artifacts", 200, "GET /api/v1/runs/1/artifacts"),
    get("list_artifacts", 404, "GET /api/v1/runs/4096/artifacts"),
    get("get_artifact", 404, "GET /api/v1/artifacts/4096"),
    get("remove_artifact", 404, "DELETE /api/v1/artifacts/4096"),
    get(
        "get_artifact_file",
        404,
        "GET /api/v1/artifacts/4096/files/a",
    ),
    get(
        "get_artifact_archive",
        404,
        "GET /api/v1/artifacts/4096/archive",
    ),
    get("list_caches", 200, "GET /api/v1/caches?project=older"),
    get("remove_cache", 404, "DELETE /api/v1/caches/4096"),
    get("older_list_executions", 200, "GET /api/ci/executions"),
    get(
        "older_list_executions",
        200,
        "GET /api/ci/executions?pipeline_id=older",
    ),
    get(
        "older_list_executions",
        404,
        "GET /api/ci/executions?pipeline_id=none",
    ),
    get("older_get_execution", 200, "GET /api/ci/executions/1"),
    get("older_get_execution", 404, "GET /api/ci/executions/4096"),
    get(
        "older_cancel_execution",
        200,
        "DELETE /api/ci/executions/8/cancel",
    ),
    get(
        "older_cancel_execution",
        404,
        "DELETE /api/ci/executions/4096/cancel",
    ),
    get(
        "older_cancel_execution",
        409,
        "DELETE /api/ci/executions/1/cancel",
    ),
    send("set_pipeline", 200, "PUT /api/v1/pipelines/gone", pipeline),
    get("remove_pipeline", 204, "DELETE /api/v1/pipelines/gone"),
    get("remove_pipeline", 404, "DELETE /api/v1/pipelines/gone"),
];
