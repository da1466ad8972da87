//! The one table of codes: what each error is called, its status, and what to do about it.
//!
//! `docs/api.md` repeats it for readers; a test compares the two.

use axum::http::StatusCode;

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// Stable word to match on.
    pub(crate) code: &'static str,
    /// What kind of problem it is.
    pub(crate) title: &'static str,
    /// What to do.
    pub(crate) hint: &'static str,
}

pub(crate) const UNAUTHORIZED: Row = Row {
    status: StatusCode::UNAUTHORIZED,
    code: "unauthorized",
    title: "Token missing or wrong",
    hint: "the token is in the file `token` of the server's data directory",
};

pub(crate) const FORBIDDEN: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "forbidden",
    title: "Not for this token",
    hint: "name what the job needs in its `permissions`; a job sees its own project only",
};

pub(crate) const INVALID_REQUEST: Row = Row {
    status: StatusCode::BAD_REQUEST,
    code: "invalid_request",
    title: "Request not understood",
    hint: "see docs/api.md for the route",
};

pub(crate) const INVALID_PIPELINE: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "invalid_pipeline",
    title: "Pipeline file has errors",
    hint: "fix what `diagnostics` lists; `rustci lint` shows the same",
};

pub(crate) const RUN_SKIPPED: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "run_skipped",
    title: "Commit asks not to be run",
    hint: "start it with the event `manual` to run it all the same",
};

pub(crate) const BLOB_MISSING: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "blob_missing",
    title: "Source not uploaded",
    hint: "upload the archive first with PUT /api/v1/blobs/{digest}",
};

pub(crate) const SECRET_MISSING: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "secret_missing",
    title: "Secret not set",
    hint: "`rustci secrets set NAME --server URL` reads its value from standard input",
};

pub(crate) const UNUSABLE_VALUE: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "unusable_value",
    title: "Value cannot be used",
    hint: "send the value that is named in another form; docs/api.md has the rules",
};

pub(crate) const DIGEST_MISMATCH: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "digest_mismatch",
    title: "Body changed on its way",
    hint: "compute the BLAKE3 digest of the bytes that are sent, and send again",
};

pub(crate) const INVALID_OFFSET: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "invalid_offset",
    title: "No record begins there",
    hint: "begin at 0, or at a `next` or an event's id that the server gave out",
};

pub(crate) const INVALID_NAME: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "invalid_name",
    title: "Not a name",
    hint: "take a shorter name of printable characters",
};

pub(crate) const CONTRADICTION: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "contradiction",
    title: "Request contradicts itself",
    hint: "leave one of the two out",
};

pub(crate) const UNKNOWN_JOB: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "unknown_job",
    title: "No such job",
    hint: "name a job by its id in the file or by its key, as `rustci plan` lists them",
};

pub(crate) const RANGE_UNSATISFIABLE: Row = Row {
    status: StatusCode::RANGE_NOT_SATISFIABLE,
    code: "range_unsatisfiable",
    title: "Range without a byte in it",
    hint: "ask for a range inside of the file, or leave `Range` out for all of it",
};

pub(crate) const TOO_LARGE: Row = Row {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    code: "too_large",
    title: "Body too large",
    hint: "leave large and generated files out of the source",
};

pub(crate) const UNSUPPORTED_MEDIA_TYPE: Row = Row {
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    code: "unsupported_media_type",
    title: "Media type not taken",
    hint: "send the header Content-Type: application/json",
};

pub(crate) const NOT_ACCEPTABLE: Row = Row {
    status: StatusCode::NOT_ACCEPTABLE,
    code: "not_acceptable",
    title: "No media type fits",
    hint: "leave the header Accept out, or name one of these types",
};

pub(crate) const PRECONDITION_FAILED: Row = Row {
    status: StatusCode::PRECONDITION_FAILED,
    code: "precondition_failed",
    title: "Not in the expected state",
    hint: "read it again, and send the change with its new ETag in If-Match",
};

pub(crate) const NOT_FOUND: Row = Row {
    status: StatusCode::NOT_FOUND,
    code: "not_found",
    title: "Not found",
    hint: "GET /api/v1/runs lists what there is",
};

pub(crate) const NO_ROUTE: Row = Row {
    status: StatusCode::NOT_FOUND,
    code: "no_route",
    title: "Route not found",
    hint: "see docs/api.md for all routes",
};

pub(crate) const METHOD_NOT_ALLOWED: Row = Row {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "method_not_allowed",
    title: "Method not allowed",
    hint: "see docs/api.md for the route",
};

pub(crate) const RUN_FINISHED: Row = Row {
    status: StatusCode::CONFLICT,
    code: "run_finished",
    title: "Run has ended",
    hint: "nothing is left to cancel",
};

pub(crate) const KEY_ELSEWHERE: Row = Row {
    status: StatusCode::CONFLICT,
    code: "key_elsewhere",
    title: "Key not the server's own",
    hint: "stop the server and use `rustci secrets rekey --data-dir DIR --new-key-file FILE`",
};

pub(crate) const PIPELINE_EXISTS: Row = Row {
    status: StatusCode::CONFLICT,
    code: "pipeline_exists",
    title: "Name is taken",
    hint: "choose another name, or change it with PUT /api/v1/pipelines/{name}",
};

pub(crate) const SOURCE_UNREACHABLE: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "source_unreachable",
    title: "Repository gave no commit",
    hint: "try `git ls-remote URL REF` as the user of the server",
};

pub(crate) const RUNNER_IN_USE: Row = Row {
    status: StatusCode::CONFLICT,
    code: "runner_in_use",
    title: "Runner is in use",
    hint: "drain it, wait for its jobs, stop it, then remove it",
};

pub(crate) const QUOTA_EXCEEDED: Row = Row {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "quota_exceeded",
    title: "Quota reached",
    hint: "wait until jobs of the project have ended, cancel some, or raise its quota",
};

pub(crate) const BACKUP_RUNNING: Row = Row {
    status: StatusCode::CONFLICT,
    code: "backup_running",
    title: "Another backup is being made",
    hint: "try again when it is finished",
};

pub(crate) const BACKUP_FAILED: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "backup_failed",
    title: "Backup not made",
    hint: "free space on the disk of the server's data directory and try again",
};

pub(crate) const NOT_ASKING: Row = Row {
    status: StatusCode::CONFLICT,
    code: "not_asking",
    title: "Job waits for no approval",
    hint: "the first answer counts; GET /api/v1/runs/{id} shows who gave it",
};

pub(crate) const RUN_NOT_FINISHED: Row = Row {
    status: StatusCode::CONFLICT,
    code: "run_not_finished",
    title: "Run goes on",
    hint: "wait for its end, or cancel it first",
};

pub(crate) const NOTHING_TO_RERUN: Row = Row {
    status: StatusCode::CONFLICT,
    code: "nothing_to_rerun",
    title: "Nothing to repeat",
    hint: "repeat the whole run, or name its jobs",
};

pub(crate) const ORIGIN_UNKNOWN: Row = Row {
    status: StatusCode::CONFLICT,
    code: "origin_unknown",
    title: "Run cannot be repeated",
    hint: "start a new run of the pipeline",
};

pub(crate) const SOURCE_GONE: Row = Row {
    status: StatusCode::CONFLICT,
    code: "source_gone",
    title: "Source removed",
    hint: "start a new run of the pipeline; sources of old runs are removed",
};

pub(crate) const IDEMPOTENCY_MISMATCH: Row = Row {
    status: StatusCode::UNPROCESSABLE_ENTITY,
    code: "idempotency_mismatch",
    title: "Key of another request",
    hint: "use a new Idempotency-Key for each request, and the old one only to repeat it unchanged",
};

pub(crate) const IDEMPOTENCY_ELSEWHERE: Row = Row {
    status: StatusCode::CONFLICT,
    code: "idempotency_elsewhere",
    title: "Key of another server",
    hint: "repeat the request at the server that is named, which knows what came of it",
};

pub(crate) const STORE_UNAVAILABLE: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "store_unavailable",
    title: "Shared store not available",
    hint: "try again; see that the first store of `rustci serve --store` runs",
};

pub(crate) const READ_ONLY: Row = Row {
    status: StatusCode::CONFLICT,
    code: "read_only",
    title: "Only reading is possible",
    hint: "start `rustci serve` on this data directory",
};

pub(crate) const RATE_LIMITED: Row = Row {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "rate_limited",
    title: "Too many requests",
    hint: "wait as long as `Retry-After` says; `rustci serve --api-rate` sets how many are taken",
};

pub(crate) const OVERLOADED: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "overloaded",
    title: "Server overloaded",
    hint: "try again in a second",
};

pub(crate) const STORAGE_FAILED: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "storage_failed",
    title: "Storage failed",
    hint: "free or repair the disk of the data directory and start again; everything acknowledged is kept",
};

pub(crate) const STOPPING: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "stopping",
    title: "Server is shutting down",
    hint: "try again when it is back",
};

pub(crate) const INTERNAL: Row = Row {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "internal",
    title: "Server error",
    hint: "the server's log says more; please report it",
};

/// All rows.
#[cfg(test)]
pub(crate) const ALL: &[&Row] = &[
    &UNAUTHORIZED,
    &FORBIDDEN,
    &INVALID_REQUEST,
    &INVALID_PIPELINE,
    &RUN_SKIPPED,
    &BLOB_MISSING,
    &SECRET_MISSING,
    &UNUSABLE_VALUE,
    &DIGEST_MISMATCH,
    &INVALID_OFFSET,
    &INVALID_NAME,
    &CONTRADICTION,
    &UNKNOWN_JOB,
    &RANGE_UNSATISFIABLE,
    &TOO_LARGE,
    &UNSUPPORTED_MEDIA_TYPE,
    &NOT_ACCEPTABLE,
    &PRECONDITION_FAILED,
    &NOT_FOUND,
    &NO_ROUTE,
    &METHOD_NOT_ALLOWED,
    &RUN_FINISHED,
    &KEY_ELSEWHERE,
    &PIPELINE_EXISTS,
    &SOURCE_UNREACHABLE,
    &RUNNER_IN_USE,
    &QUOTA_EXCEEDED,
    &BACKUP_RUNNING,
    &BACKUP_FAILED,
    &NOT_ASKING,
    &RUN_NOT_FINISHED,
    &NOTHING_TO_RERUN,
    &ORIGIN_UNKNOWN,
    &SOURCE_GONE,
    &IDEMPOTENCY_MISMATCH,
    &IDEMPOTENCY_ELSEWHERE,
    &STORE_UNAVAILABLE,
    &READ_ONLY,
    &RATE_LIMITED,
    &OVERLOADED,
    &STORAGE_FAILED,
    &STOPPING,
    &INTERNAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_codes() {
        let docs = include_str!("../../../../docs/api.md");
        let line = |row: &Row| {
            format!(
                "| `{}` | {} | {} |",
                row.code,
                row.status.as_u16(),
                row.title
            )
        };
        for row in ALL {
            assert!(
                docs.contains(&line(row)),
                "docs/api.md lacks: {}",
                line(row)
            );
        }
        let (_, table) = docs.split_once("| Code | Status | Title |").unwrap();
        let listed = table.lines().filter(|line| line.starts_with("| `"));
        assert_eq!(listed.count(), ALL.len());
    }
}
