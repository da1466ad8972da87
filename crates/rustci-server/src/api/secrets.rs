//! Secrets: what there is, setting and removing. No route gives a value back.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound, Precondition};
use crate::api::blob::blocking;
use crate::api::extract::{Json, Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Limit, Page};
use crate::api::problem::{ApiError, Large, Listed};
use crate::api::tag;
use crate::api::view::{NewSecret, Rekeyed, SecretList, SecretView};
use crate::expected::Expected;
use crate::hex;
use crate::limits::{SECRET_BODY_BYTES_MAX, SECRET_BYTES_MAX};
use crate::secrets::{Scope, SecretInfo, SecretName, SecretStore, SecretsError};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, remove))
        .routes(routes!(rekey))
        .layer(DefaultBodyLimit::max(SECRET_BODY_BYTES_MAX))
}

/// The query of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only secrets of this project.
    project: Option<String>,
    /// Secrets in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the last page ended.
    #[param(pattern = "^([0-9a-f]{2})*$")]
    cursor: Option<String>,
}

/// The query that says whose secret is meant.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopeQuery {
    /// The project it is for; all projects without it.
    #[param(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    project: Option<String>,
}

/// Lists secrets: names, versions and times, never values.
#[utoipa::path(
    get, path = "/secrets", operation_id = "list_secrets", tag = "secrets", params(ListQuery),
    responses((status = 200, description = "A page of secrets.", body = SecretList), Conflict)
)]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Page<SecretList>, ApiError> {
    let limit = usize::try_from(query.limit.get()).unwrap_or(usize::MAX);
    let mut infos = store(&app)?.list();
    if let Some(project) = &query.project {
        infos.retain(|info| info.scope.project() == Some(project.as_str()));
    }
    if let Some(cursor) = &query.cursor {
        let after = hex::decode(cursor).ok_or_else(|| {
            ApiError::Invalid("cursor is not one that a list gave out".to_owned())
        })?;
        infos.retain(|info| place(info) > after);
    }
    let next = infos
        .get(limit)
        .and_then(|_| infos.get(limit.saturating_sub(1)))
        .map(|last| hex::encode(&place(last)));
    let secrets = infos.iter().take(limit).map(SecretView::from).collect();
    Ok(Page {
        next: next.clone(),
        body: SecretList { secrets, next },
    })
}

/// Sets a secret: 201 for a new one, 200 for a new value.
#[utoipa::path(
    put, path = "/secrets/{name}", operation_id = "set_secret", tag = "secrets",
    params(
        ("name" = String, Path, pattern = "^[A-Za-z_][A-Za-z0-9_-]{0,99}$",
            description = "Letters, digits, _ and -."), ScopeQuery,
        ("If-Match" = Option<String>, Header, description = "set it only in this state"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: set it only when it is new"),
    ),
    request_body = NewSecret,
    responses(
        (status = 200, description = "It has a new value.", body = SecretView),
        (status = 201, description = "It is new.", body = SecretView),
        Precondition
    )
)]
async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<ScopeQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<SecretView>), ApiError> {
    accepting(&app)?;
    let scope = Scope::of(query.project.as_deref())?;
    let name = SecretName::new(&name)?;
    let expected = tag::expected(&headers);
    let body = body.map_err(|_| SecretsError::TooLarge(SECRET_BODY_BYTES_MAX))?;
    // The parser's own words would repeat what it did not understand.
    let new: NewSecret = serde_json::from_slice(&body)
        .map_err(|_| ApiError::Invalid("the body is not {\"value\": \"...\"}".to_owned()))?;
    let value = Zeroizing::new(new.value);
    let put = blocking(move || {
        let at = (&expected, now_ms());
        let put = store(&app)?.put(scope, name, &value, at);
        put.map_err(|error| match error {
            SecretsError::Changed(name) if expected == Expected::Absent => ApiError::Exists {
                what: format!("a secret {name}"),
            },
            error => error.into(),
        })
    })
    .await?;
    let status = if put.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = SecretView::from(&put.info);
    let tag = HeaderValue::from_str(&format!("\"{}\"", put.info.tag()))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok((status, [(ETAG, tag)], Json(view)))
}

/// Removes a secret.
#[utoipa::path(
    delete, path = "/secrets/{name}", operation_id = "remove_secret", tag = "secrets",
    params(
        ("name" = String, Path, pattern = "^[A-Za-z_][A-Za-z0-9_-]{0,99}$",
            description = "Letters, digits, _ and -."), ScopeQuery,
        ("If-Match" = Option<String>, Header, description = "remove it only in this state"),
    ),
    responses((status = 204, description = "It is gone."), NotFound, Precondition)
)]
async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<ScopeQuery>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    let scope = Scope::of(query.project.as_deref())?;
    let name = SecretName::new(&name)?;
    let expected = tag::expected(&headers);
    blocking(move || Ok(store(&app)?.remove(scope, name, &expected)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new key and seals every value anew.
#[utoipa::path(
    post, path = "/secrets/rekey", operation_id = "rekey_secrets", tag = "secrets",
    responses((status = 200, description = "The new key is in force.", body = Rekeyed))
)]
async fn rekey(State(app): State<App>) -> Result<Json<Rekeyed>, ApiError> {
    accepting(&app)?;
    let secrets = blocking(move || Ok(store(&app)?.rekey()?)).await?;
    let secrets = u64::try_from(secrets).unwrap_or(u64::MAX);
    tracing::info!(secrets, "the secrets have a new key");
    Ok(Json(Rekeyed { secrets }))
}

fn store(app: &App) -> Result<&SecretStore, ApiError> {
    app.secrets.as_deref().ok_or(ApiError::ReadOnly)
}

/// Where a secret stands in the list.
fn place(info: &SecretInfo) -> Vec<u8> {
    let project = info.scope.project();
    let mut bytes = vec![u8::from(project.is_some())];
    bytes.extend_from_slice(project.unwrap_or_default().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(info.name.as_str().as_bytes());
    bytes
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl From<&SecretInfo> for SecretView {
    fn from(info: &SecretInfo) -> Self {
        Self {
            name: info.name.to_string(),
            project: info.scope.project().map(str::to_owned),
            version: info.version,
            created_ms: info.created_ms,
            updated_ms: info.updated_ms,
            etag: info.tag(),
        }
    }
}

impl From<SecretsError> for ApiError {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Name(_) | SecretsError::Value(_) | SecretsError::Full => {
                Self::Invalid(error.to_string())
            }
            SecretsError::TooLarge(_) => Self::TooLarge {
                what: Large::Secret,
                max: u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX),
            },
            SecretsError::Unknown(name) => Self::NotFound {
                listed: Listed::Secrets,
                what: format!("secret {name}"),
            },
            SecretsError::Changed(name) => Self::PreconditionFailed {
                what: format!("secret {name}"),
            },
            SecretsError::KeyElsewhere(_) => Self::KeyElsewhere(error.to_string()),
            // What could not be stored was not acknowledged: only this request suffers.
            SecretsError::Io { .. } => Self::Storage(error.to_string()),
            other => Self::Internal(other.to_string()),
        }
    }
}
