//! Where traces go, from the environment variables that OpenTelemetry defines.

use std::{fmt, time::Duration};

use hyper::Uri;

use super::client::Signal;
use super::{OpenTelemetryConfig, OtlpProtocol};
use crate::Trust;

/// Where traces and metrics go, checked. Made from the environment by [`OtlpConfig::from_env`], or by
/// [`OtlpConfig::new`].
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// How the collector is spoken to.
    pub(crate) protocol: OtlpProtocol,
    /// The whole URL for traces.
    pub(crate) traces: Uri,
    /// The whole URL for metrics.
    pub(crate) metrics: Uri,
    /// Whose certificates are believed.
    pub(crate) trust: Trust,
    /// Headers of every request.
    pub(crate) headers: Headers,
    /// How long one request may take. Default 10 s.
    pub(crate) timeout: Duration,
    /// What the collector is told about this program.
    pub(crate) resource: Vec<(String, String)>,
}

/// Headers, often with a token in them: `Debug` shows their names only.
#[derive(Clone, Default)]
pub struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// Headers from `name=value` pairs with commas between them, values percent-encoded; `None` where
    /// the text is no such list.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        pairs("", Some(text.to_owned())).ok().map(Self)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// A variable of the environment that cannot be used. The operator's mistake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpConfigError {
    /// Not a URL that can be reached.
    #[error("{variable} is {value:?}; give an http:// URL such as http://127.0.0.1:4318")]
    Endpoint {
        /// Its name.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// A program's settings name no collector.
    #[error("the endpoint {0:?} cannot be used; give http://HOST:PORT or https://HOST:PORT")]
    Collector(String),
    /// Another encoding than the one there is.
    #[error("OTEL_EXPORTER_OTLP_PROTOCOL is {0:?}; only http/protobuf is spoken")]
    Protocol(String),
    /// Not a list of pairs. The value is not repeated: headers hold tokens.
    #[error("{0} is not a list of name=value pairs with commas between them")]
    Pairs(&'static str),
    /// Not a number of milliseconds.
    #[error("OTEL_EXPORTER_OTLP_TIMEOUT is {0:?}; give whole milliseconds above 0")]
    Timeout(String),
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";

impl OtlpConfig {
    /// Settings from variables, looked up with `var`; `None` when no collector is named, or traces
    /// are switched off with `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`.
    ///
    /// # Errors
    /// [`OtlpConfigError`] names the variable.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpConfigError> {
        let var = |name| var(name).filter(|value: &String| !value.is_empty());
        let off = var("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || var("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none");
        let Some(endpoint) = endpoint(&var)?.filter(|_| !off) else {
            return Ok(None);
        };
        match var("OTEL_EXPORTER_OTLP_PROTOCOL") {
            Some(other) if other != "http/protobuf" => {
                return Err(OtlpConfigError::Protocol(other));
            }
            _ => {}
        }
        Ok(Some(Self {
            protocol: OtlpProtocol::Http,
            // Only traces are sent with settings of the environment.
            metrics: endpoint.clone(),
            traces: endpoint,
            trust: Trust::default(),
            headers: Headers(pairs(HEADERS, var(HEADERS))?),
            timeout: timeout(var("OTEL_EXPORTER_OTLP_TIMEOUT"))?,
            resource: resource(&var)?,
        }))
    }
}

impl OtlpConfig {
    /// Settings of a program or its file. The paths of OTLP are added to the endpoint: `/v1/traces`
    /// and `/v1/metrics`, or the methods of gRPC.
    ///
    /// # Errors
    /// [`OtlpConfigError::Collector`] where the endpoint is no URL, has another scheme than `http` or
    /// `https`, or has a query.
    pub fn new(config: &OpenTelemetryConfig) -> Result<Self, OtlpConfigError> {
        let wrong = || OtlpConfigError::Collector(without_user(&config.endpoint));
        let base: Uri = config.endpoint.parse().map_err(|_| wrong())?;
        let scheme = base.scheme_str().unwrap_or_default();
        let host = base.host().unwrap_or_default();
        let plain = base.query().is_none() && !config.endpoint.contains('@');
        if !matches!(scheme, "http" | "https") || host.is_empty() || !plain {
            return Err(wrong());
        }
        let by_port = match base.port_u16() {
            Some(4317) => OtlpProtocol::Grpc,
            _ => OtlpProtocol::Http,
        };
        let protocol = config.protocol.unwrap_or(by_port);
        let url = |http: &str, grpc: &str| {
            let base = config.endpoint.trim_end_matches('/');
            let path = match protocol {
                OtlpProtocol::Http => http,
                OtlpProtocol::Grpc => grpc,
            };
            format!("{base}{path}").parse().map_err(|_| wrong())
        };
        const SERVICES: &str = "/opentelemetry.proto.collector";
        Ok(Self {
            traces: url(
                "/v1/traces",
                &format!("{SERVICES}.trace.v1.TraceService/Export"),
            )?,
            metrics: url(
                "/v1/metrics",
                &format!("{SERVICES}.metrics.v1.MetricsService/Export"),
            )?,
            protocol,
            trust: config.trust.clone(),
            headers: config.headers.clone(),
            timeout: config.timeout,
            resource: with_own(vec![(
                "service.name".to_owned(),
                config.service_name.clone(),
            )]),
        })
    }

    pub(super) fn url(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }

    /// The address as errors name it.
    pub(super) fn shown(&self, signal: Signal) -> String {
        self.url(signal).to_string()
    }
}

/// A URL in which nobody's password is repeated.
fn without_user(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("...@{host}"),
        None => url.to_owned(),
    }
}

fn endpoint(var: &impl Fn(&'static str) -> Option<String>) -> Result<Option<Uri>, OtlpConfigError> {
    let (variable, value, url) = match (var(TRACES_ENDPOINT), var(ENDPOINT)) {
        (Some(whole), _) => (TRACES_ENDPOINT, whole.clone(), whole),
        (None, Some(base)) => {
            let url = format!("{}/v1/traces", base.trim_end_matches('/'));
            (ENDPOINT, base, url)
        }
        (None, None) => return Ok(None),
    };
    let uri: Option<Uri> = url.parse().ok();
    let usable = uri.filter(|uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    usable
        .map(Some)
        .ok_or(OtlpConfigError::Endpoint { variable, value })
}

fn timeout(text: Option<String>) -> Result<Duration, OtlpConfigError> {
    let Some(text) = text else {
        return Ok(Duration::from_secs(10));
    };
    match text.parse() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(OtlpConfigError::Timeout(text)),
    }
}

/// The program's own attributes; what the operator says wins.
fn resource(
    var: &impl Fn(&'static str) -> Option<String>,
) -> Result<Vec<(String, String)>, OtlpConfigError> {
    let mut found = pairs(RESOURCE, var(RESOURCE))?;
    let name = var("OTEL_SERVICE_NAME");
    if let Some(name) = name {
        found.retain(|(key, _)| key != "service.name");
        found.push(("service.name".to_owned(), name));
    }
    Ok(with_own(found))
}

/// These attributes, and the program's own that are not among them.
fn with_own(mut found: Vec<(String, String)>) -> Vec<(String, String)> {
    let own = [
        ("service.name", "rustci"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.language", "rust"),
    ];
    for (key, value) in own {
        if !found.iter().any(|(known, _)| known == key) {
            found.push((key.to_owned(), value.to_owned()));
        }
    }
    found
}

/// `a=b,c=d` with percent-encoded values, as in W3C Baggage.
fn pairs(
    variable: &'static str,
    text: Option<String>,
) -> Result<Vec<(String, String)>, OtlpConfigError> {
    let text = text.unwrap_or_default();
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = key.trim();
            (!key.is_empty())
                .then(|| percent_decoded(value.trim()))
                .flatten()
                .map(|value| (key.to_owned(), value))
        })
        .collect::<Option<_>>()
        .ok_or(OtlpConfigError::Pairs(variable))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Option<OtlpConfig>, OtlpConfigError> {
        OtlpConfig::from_env(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_unless_a_collector_is_named() {
        assert!(config(&[]).unwrap().is_none());
        let named = (ENDPOINT, "http://127.0.0.1:4318");
        assert!(config(&[named]).unwrap().is_some());
        assert!(
            config(&[named, ("OTEL_SDK_DISABLED", "true")])
                .unwrap()
                .is_none()
        );
        assert!(
            config(&[named, ("OTEL_TRACES_EXPORTER", "none")])
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn the_variables_mean_what_the_specification_says() {
        let config = config(&[
            (ENDPOINT, "http://collector:4318/"),
            (HEADERS, "authorization=Bearer%20abc, x=1"),
            (RESOURCE, "deployment.environment=prod,service.name=other"),
            ("OTEL_SERVICE_NAME", "ci"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(config.traces.to_string(), "http://collector:4318/v1/traces");
        assert_eq!(
            config.headers.0,
            [
                ("authorization".to_owned(), "Bearer abc".to_owned()),
                ("x".to_owned(), "1".to_owned())
            ]
        );
        assert!(!format!("{config:?}").contains("abc"), "{config:?}");
        let has = |key: &str, value: &str| {
            config
                .resource
                .contains(&(key.to_owned(), value.to_owned()))
        };
        assert!(has("service.name", "ci") && has("deployment.environment", "prod"));
        assert!(!has("service.name", "other"));
    }

    #[test]
    fn a_mistake_names_its_variable_and_no_token() {
        let wrong = |vars: &[(&str, &str)]| config(vars).unwrap_err().to_string();
        let https = wrong(&[(ENDPOINT, "https://collector")]);
        assert!(
            https.starts_with(ENDPOINT) && https.contains("https://collector"),
            "{https}"
        );
        let named = (ENDPOINT, "http://c");
        let headers = wrong(&[named, (HEADERS, "secret-token")]);
        assert!(
            headers.starts_with(HEADERS) && !headers.contains("secret"),
            "{headers}"
        );
        assert!(wrong(&[named, ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")]).contains("TIMEOUT"));
        assert!(wrong(&[named, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).contains("grpc"));
    }
}
