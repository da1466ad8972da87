//! What a program says about its collector.

use std::time::Duration;

use super::Headers;
use crate::Trust;

/// Where traces and metrics go, said by a program or its file.
#[derive(Clone, Debug)]
pub struct OpenTelemetryConfig {
    /// Whether anything is sent. Default: no.
    pub enabled: bool,
    /// The collector, without the paths of OTLP: `http://HOST:PORT` or `https://HOST:PORT`. Default:
    /// `http://localhost:4318`.
    pub endpoint: String,
    /// What this program is called there. Default: `rustci`.
    pub service_name: String,
    /// How it is spoken to. Default: gRPC where the port of `endpoint` is 4317, as is the convention,
    /// and HTTP elsewhere.
    pub protocol: Option<OtlpProtocol>,
    /// How often metrics are sent. Default: 15 s; at least 1 s.
    pub interval: Duration,
    /// How long one request may take. Default: 10 s.
    pub timeout: Duration,
    /// Headers of every request, often with a token in them. Default: none.
    pub headers: Headers,
    /// Whose certificates are believed.
    pub trust: Trust,
}

impl Default for OpenTelemetryConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: "http://localhost:4318".to_owned(),
            service_name: "rustci".to_owned(),
            protocol: None,
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            headers: Headers::default(),
            trust: Trust::default(),
        }
    }
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`: Protocol Buffers in HTTP/1.1 requests.
    Http,
    /// `grpc`: the same messages in calls over HTTP/2.
    Grpc,
}

impl OtlpProtocol {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "http/protobuf" => Some(Self::Http),
            "grpc" => Some(Self::Grpc),
            _ => None,
        }
    }
}
