//! The section `telemetry`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use telemetry::Trust;
use telemetry::otlp::{Headers, OpenTelemetryConfig, OtlpProtocol};

use super::{Result, wrong};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    opentelemetry: Otel,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Otel {
    enabled: bool,
    endpoint: Option<String>,
    service_name: Option<String>,
    protocol: Option<String>,
    interval_seconds: Option<u64>,
    headers_env: Option<String>,
    ca_file: Option<PathBuf>,
}

/// The settings, with headers from the environment if they are used.
pub(super) fn config(section: Section) -> Result<OpenTelemetryConfig> {
    let otel = section.opentelemetry;
    let within = |problem: String| wrong(format!("telemetry.opentelemetry.{problem}"));
    let mut config = OpenTelemetryConfig {
        enabled: otel.enabled,
        ..OpenTelemetryConfig::default()
    };
    if let Some(endpoint) = otel.endpoint {
        config.endpoint = endpoint;
    }
    if let Some(name) = otel.service_name {
        config.service_name = name;
    }
    if let Some(name) = otel.protocol {
        let protocol = OtlpProtocol::named(&name);
        config.protocol =
            Some(protocol.ok_or_else(|| {
                within(format!("protocol is {name:?}; use grpc or http/protobuf"))
            })?);
    }
    match otel.interval_seconds {
        None => {}
        Some(seconds @ 1..=3_600) => config.interval = Duration::from_secs(seconds),
        Some(seconds) => {
            let problem = format!("interval_seconds is {seconds}; set it to 1 to 3600");
            return Err(within(problem));
        }
    }
    if let Some(name) = otel.headers_env.filter(|_| otel.enabled) {
        let text = std::env::var(&name)
            .map_err(|_| within(format!("headers_env names {name}, which is not set")))?;
        config.headers = Headers::from_text(&text).ok_or_else(|| {
            within(format!(
                "headers_env: {name} is not a list of name=value pairs with commas"
            ))
        })?;
    }
    if let Some(file) = otel.ca_file {
        let trust = Trust::from_file(file);
        config.trust = trust.map_err(|error| within(format!("ca_file: {error}")))?;
    }
    Ok(config)
}
