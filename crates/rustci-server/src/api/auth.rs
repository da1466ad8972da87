//! The door: no token, no entry. The token of the server opens everything; that of a job what its
//! permissions name, in its own project, as long as its attempt runs.

use axum::extract::{FromRequestParts, MatchedPath, Query, RawPathParams, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use rustci_pipeline::Access;

use crate::api::App;
use crate::api::problem::{ApiError, Listed};
use crate::job_token::{ApiScope, JobClaims};

/// Lets a request pass that carries a token which is good for it.
pub(crate) async fn require_token(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(token) = &app.token else {
        return Ok(next.run(request).await);
    };
    let offered = offered(&request).ok_or(ApiError::Unauthorized)?;
    if token.matches(offered) {
        return Ok(next.run(request).await);
    }
    let text = std::str::from_utf8(offered).unwrap_or_default();
    let claims = app
        .job_tokens
        .as_ref()
        .and_then(|tokens| tokens.check(text));
    let claims = claims.ok_or(ApiError::Unauthorized)?;
    let request = admit(&app, claims, request).await?;
    Ok(next.run(request).await)
}

fn offered(request: &Request) -> Option<&[u8]> {
    let header = request.headers().get(AUTHORIZATION)?.as_bytes();
    // The scheme's case does not matter (RFC 9110, 11.1), the token's does.
    match header.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            Some(token.trim_ascii())
        }
        _ => None,
    }
}

/// Where a request says which project it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// In the query, as `project`.
    Query,
    /// In the body, where the handler looks.
    Body,
    /// In the path, as a run.
    Run,
    /// In the path, as a project.
    Project,
    /// Nowhere: it is about content that only its digest names.
    Content,
}

/// What a job needs for a route; none for routes that are not for jobs. Whatever is not named here
/// is refused: also routes that are added later, and approvals, which are for people.
fn rule(method: &Method, route: &str) -> Option<(ApiScope, Access, Subject)> {
    let parts: Vec<&str> = route.strip_prefix("/api/v1/")?.split('/').collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let access = if reads { Access::Read } else { Access::Write };
    let scope = |part: &str| match part {
        "artifacts" => ApiScope::Artifacts,
        "cache" | "caches" => ApiScope::Caches,
        _ => ApiScope::Runs,
    };
    match parts.as_slice() {
        ["runs"] if reads => Some((ApiScope::Runs, access, Subject::Query)),
        ["runs"] => Some((ApiScope::Runs, access, Subject::Body)),
        ["runs", "{id}", "cancel" | "rerun"] => Some((ApiScope::Runs, access, Subject::Run)),
        ["runs", "{id}", rest @ ..] if reads || rest.first() == Some(&"artifacts") => {
            let scope = rest.first().map_or(ApiScope::Runs, |part| scope(part));
            Some((scope, access, Subject::Run))
        }
        [
            "projects",
            "{project}",
            part @ ("tests" | "artifacts" | "cache" | "caches"),
            ..,
        ] => Some((scope(part), access, Subject::Project)),
        // Sources of runs that the job starts; nothing can be read that way.
        ["blobs", "{digest}"] if *method != Method::GET => {
            Some((ApiScope::Runs, Access::Write, Subject::Content))
        }
        _ => None,
    }
}

/// The request, with the claims for its handler, if they are good for it.
async fn admit(app: &App, claims: JobClaims, request: Request) -> Result<Request, ApiError> {
    let engine = app.engine.as_ref().ok_or(ApiError::Unauthorized)?;
    if !engine.is_running(claims.attempt()).await? {
        return Err(ApiError::Unauthorized);
    }
    let route = request.extensions().get::<MatchedPath>().cloned();
    let rule = route.and_then(|route| rule(request.method(), route.as_str()));
    let (scope, access, subject) =
        rule.ok_or_else(|| ApiError::Forbidden("this route is not for jobs".to_owned()))?;
    if !claims.allows(scope, access) {
        let word = if access == Access::Read {
            "read"
        } else {
            "write"
        };
        return Err(ApiError::Forbidden(format!(
            "the job's permissions do not have `{}: {word}`",
            scope.as_str()
        )));
    }
    let (mut parts, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut parts, &())
        .await
        .ok();
    let param = |name: &str| {
        let found = params.iter().flatten().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let is_own = match subject {
        Subject::Content | Subject::Body => true,
        Subject::Project => param("project") == claims.project,
        Subject::Run => is_of_project(app, &param("id"), &claims.project).await?,
        Subject::Query => {
            let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
            let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
            let mut named = pairs.iter().filter(|(name, _)| name == "project");
            named
                .next()
                .is_some_and(|(_, name)| *name == claims.project)
                && named.next().is_none()
        }
    };
    if !is_own {
        let project = &claims.project;
        return Err(ApiError::Forbidden(format!(
            "the job may only see project {project:?}"
        )));
    }
    parts.extensions.insert(claims);
    Ok(Request::from_parts(parts, body))
}

/// Whether a run is one of `project`.
///
/// # Errors
/// The same for a run that is not there and for one of another project: whether there is one is
/// none of the job's business.
async fn is_of_project(app: &App, id: &str, project: &str) -> Result<bool, ApiError> {
    // What is no number is refused by the handler, in its own words.
    let Ok(id) = id.parse::<u64>() else {
        return Ok(true);
    };
    let run = app.queries.ask(move |catalogue| catalogue.run(id)).await?;
    let own = run.is_some_and(|run| run.project == project);
    own.then_some(true).ok_or_else(|| ApiError::NotFound {
        listed: Listed::Runs,
        what: format!("run {id}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_for_jobs() {
        use Access::{Read, Write};
        use ApiScope::{Artifacts, Caches, Runs};
        let allowed = [
            ("GET", "/api/v1/runs", (Runs, Read, Subject::Query)),
            ("POST", "/api/v1/runs", (Runs, Write, Subject::Body)),
            ("GET", "/api/v1/runs/{id}", (Runs, Read, Subject::Run)),
            (
                "GET",
                "/api/v1/runs/{id}/jobs/{job}/log",
                (Runs, Read, Subject::Run),
            ),
            (
                "POST",
                "/api/v1/runs/{id}/cancel",
                (Runs, Write, Subject::Run),
            ),
            (
                "GET",
                "/api/v1/runs/{id}/artifacts/{name}",
                (Artifacts, Read, Subject::Run),
            ),
            (
                "DELETE",
                "/api/v1/projects/{project}/caches/{id}",
                (Caches, Write, Subject::Project),
            ),
            (
                "PUT",
                "/api/v1/blobs/{digest}",
                (Runs, Write, Subject::Content),
            ),
        ];
        for (method, route, expected) in allowed {
            assert_eq!(
                rule(&method.parse().unwrap(), route),
                Some(expected),
                "{method} {route}"
            );
        }
        let refused = [
            ("GET", "/api/v1/secrets"),
            ("PUT", "/api/v1/secrets/{name}"),
            ("GET", "/api/v1/backup"),
            ("GET", "/api/v1/state"),
            ("GET", "/api/v1/runners"),
            ("GET", "/api/v1/queue"),
            ("POST", "/api/v1/queue/pause"),
            ("GET", "/api/v1/blobs/{digest}"),
            ("POST", "/api/v1/runs/{id}/jobs/{job}/approve"),
            ("PUT", "/api/v1/projects/{project}/quota"),
            ("GET", "/api/v1/what/comes/later"),
            ("GET", "/metrics"),
        ];
        for (method, route) in refused {
            assert_eq!(
                rule(&method.parse().unwrap(), route),
                None,
                "{method} {route}"
            );
        }
    }
}
