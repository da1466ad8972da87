//! Holds requests against the OpenAPI document before a handler sees them, and gives answers what
//! the document promises for all: entity tags, links to the next page.
//!
//! What a route documents is what it takes, so a parameter that is misspelled, or a header that
//! nobody reads, cannot pass in silence.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, OriginalUri, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::api::App;
use crate::api::document::{JSON, operations, template};
use crate::api::page::add_link;
use crate::api::problem::ApiError;
use crate::api::tag;
use crate::health::Health;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;

/// The header by which a request that is sent again is known.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the document says of every operation.
#[derive(Debug)]
pub(crate) struct Contract(HashMap<(Method, String), Rules>);

#[derive(Debug)]
struct Rules {
    /// Names in the query.
    query: Vec<String>,
    /// Parameters that are numbers, and how large they can be.
    numbers: Vec<Number>,
    /// Media types of the answer; empty when it has no body.
    produces: Vec<String>,
    /// Media types of the body.
    consumes: Vec<String>,
    /// Whether something is made that must not be made twice.
    creates: bool,
}

#[derive(Debug)]
struct Number {
    name: String,
    is_header: bool,
    min: i64,
    max: i64,
}

impl Contract {
    /// Reads `document`, whose paths are the templates of the router.
    pub(crate) fn of(mut document: OpenApi) -> Self {
        let mut all = HashMap::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                all.insert((name(&method), path.clone()), Rules::of(operation));
            }
        }
        Self(all)
    }

    fn rules(&self, request: &Request) -> Option<&Rules> {
        let route = request.extensions().get::<MatchedPath>()?;
        let path = template(route.as_str());
        let find = |method: Method| self.0.get(&(method, path.clone()));
        // A HEAD without a handler of its own is answered by that of GET.
        find(request.method().clone())
            .or_else(|| find(Method::GET).filter(|_| request.method() == Method::HEAD))
    }
}

impl Rules {
    fn of(operation: &Operation) -> Self {
        let numbers = operation.parameters.iter().flatten();
        let numbers = numbers.filter_map(Number::of).collect();
        let parameters = operation.parameters.iter().flatten();
        let in_query =
            |parameter: &&Parameter| matches!(parameter.parameter_in, ParameterIn::Query);
        let query = parameters.filter(in_query).map(|one| one.name.clone());
        let successes = operation.responses.responses.iter();
        let successes = successes.filter(|(status, _)| status.starts_with('2'));
        let produces = successes.clone().flat_map(|(_, response)| match response {
            RefOr::T(response) => response.content.keys().cloned().collect(),
            RefOr::Ref(_) => Vec::new(),
        });
        let body = operation.request_body.iter();
        let consumes = body.flat_map(|body| body.content.keys().cloned());
        Self {
            query: query.collect(),
            numbers,
            produces: produces.collect(),
            consumes: consumes.collect(),
            creates: successes.clone().any(|(status, _)| status == "201"),
        }
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        self.check_query(uri, headers)?;
        self.check_accept(headers)?;
        self.check_body(headers)?;
        if self.creates && method == Method::POST {
            check_key(headers)?;
        }
        Ok(())
    }

    fn check_query(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = pairs.map_err(|error| ApiError::Invalid(error.body_text()))?;
        let unknown = pairs.iter().find(|(name, _)| !self.query.contains(name));
        let Some((name, _)) = unknown else {
            let checks = self.numbers.iter();
            let mut checks = checks.map(|number| number.check(&pairs, headers));
            return checks.find(Result::is_err).unwrap_or(Ok(()));
        };
        Err(ApiError::Invalid(match self.query.as_slice() {
            [] => format!("this route takes no query, so no {name:?}"),
            known => format!("the query has no {name:?}; it has {}", known.join(", ")),
        }))
    }

    fn check_accept(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut ranges = headers.get_all(ACCEPT).iter().peekable();
        if self.produces.is_empty() || ranges.peek().is_none() {
            return Ok(());
        }
        let text = ranges.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let accepted = text
            .flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
            .any(|range| self.produces.iter().any(|kind| matches(&range, kind)));
        accepted
            .then_some(())
            .ok_or_else(|| ApiError::NotAcceptable(self.produces.join(", ")))
    }

    /// Refuses a body that says that it is something else; one that says nothing is believed.
    fn check_body(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(kind) = headers
            .get(CONTENT_TYPE)
            .filter(|_| !self.consumes.is_empty())
        else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(kind.as_bytes());
        let taken = self.consumes.iter().any(|known| is(&text, known));
        taken.then_some(()).ok_or_else(|| ApiError::MediaType {
            sent: text.into_owned(),
            taken: self.consumes.join(", "),
        })
    }
}

impl Number {
    fn of(parameter: &Parameter) -> Option<Self> {
        let is_header = match parameter.parameter_in {
            ParameterIn::Query => false,
            ParameterIn::Header => true,
            ParameterIn::Path | ParameterIn::Cookie => return None,
        };
        let schema = serde_json::to_value(&parameter.schema).ok()?;
        let bound = |name: &str| schema.get(name)?.as_i64();
        (schema.get("type")? == "integer").then(|| Self {
            name: parameter.name.clone(),
            is_header,
            min: bound("minimum").unwrap_or(i64::MIN),
            max: bound("maximum").unwrap_or(i64::MAX),
        })
    }

    fn check(&self, query: &[(String, String)], headers: &HeaderMap) -> Result<(), ApiError> {
        let Self { name, min, max, .. } = self;
        let text = match self.is_header {
            true => headers.get(name).map(|value| value.to_str().unwrap_or("")),
            false => {
                let pair = query.iter().find(|(known, _)| known == name);
                pair.map(|(_, text)| text.as_str())
            }
        };
        let fits = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                && text
                    .parse()
                    .is_ok_and(|number| (*min..=*max).contains(&number))
        };
        match text {
            Some(text) if !fits(text) => Err(ApiError::Invalid(format!(
                "{name} is a number from {min} to {max}, not {text:?}"
            ))),
            _ => Ok(()),
        }
    }
}

/// The middleware.
pub(crate) async fn keep(
    State((contract, app)): State<(Arc<Contract>, App)>,
    OriginalUri(uri): OriginalUri,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if app.health.get() == Health::Stopping {
        return Err(ApiError::Stopping);
    }
    let Some(rules) = contract.rules(&request) else {
        return Ok(next.run(request).await);
    };
    let headers = request.headers();
    rules.check(request.method(), &uri, headers)?;
    let key = headers
        .get(IDEMPOTENCY_KEY)
        .filter(|_| rules.creates)
        .cloned();
    let wanted = headers.clone();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    if !is_read && response.status().is_success() {
        // Whoever reads next finds what was done. A catalogue that has stopped has nothing to
        // find, and what was done is done all the same.
        let _ = app.queries.settled().await;
    }
    if let Some(key) = key {
        response.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
    add_link(&mut response, &uri);
    if is_read && rules.produces.iter().any(|kind| kind == JSON) {
        response = tag::add(response, &wanted).await?;
    }
    Ok(response)
}

/// Whether a key can be stored and compared: visible ASCII, as many as fit a header of a proxy.
fn check_key(headers: &HeaderMap) -> Result<(), ApiError> {
    let visible = |key: &HeaderValue| key.as_bytes().iter().all(u8::is_ascii_graphic);
    let fits = |key: &HeaderValue| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(()),
        (Some(key), None) if visible(key) && fits(key) => Ok(()),
        _ => Err(ApiError::Invalid(format!(
            "Idempotency-Key is one word of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters"
        ))),
    }
}

/// Whether a range of `Accept`, such as `text/*;q=0.5`, includes a media type.
fn matches(range: &str, kind: &str) -> bool {
    let range = range.split(';').next().unwrap_or_default().trim();
    let prefix = range
        .strip_suffix('*')
        .filter(|prefix| prefix.ends_with('/'));
    match prefix {
        Some("*/") => true,
        Some(prefix) => kind.starts_with(&prefix.to_ascii_lowercase()),
        None => range.eq_ignore_ascii_case(kind),
    }
}

/// Whether a `Content-Type`, perhaps with parameters, is a media type.
fn is(sent: &str, kind: &str) -> bool {
    let essence = sent.split(';').next().unwrap_or_default();
    kind == "*/*" || essence.trim().eq_ignore_ascii_case(kind)
}

fn name(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}
