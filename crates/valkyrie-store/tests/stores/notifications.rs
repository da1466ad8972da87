//! The sections `notifications` and `telemetry` of `valkyrie.yaml`.

use std::collections::HashMap;
use std::time::Duration;

use telemetry::otlp::OtlpProtocol;
use valkyrie_store::{NotificationsConfig, StoreConfig};

const ALL: &str = "
notifications:
  adapters:
    - { type: console, enabled: true, fields: { host: one } }
    - type: sendgrid
      enabled: true
      from: ci@example.org
      to: [ops@example.org]
      api_key_env: SENDGRID_KEY
    - type: smtp
      enabled: true
      host: mail.example.org
      security: implicit
      from: CI <ci@example.org>
      to: [ops@example.org]
      username: ci
      password_env: SMTP_PASSWORD
    - { type: webhook, enabled: true, url: 'https://example.org/x', signing_key_env: HOOK_KEY }
    - { type: slack, enabled: true, url_env: SLACK_URL }
    - { type: slack, url_env: NOT_SET }
  rules:
    - { kind: fell_back, min_severity: error, window_seconds: 60, per_hour: 5 }
";

fn variables() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("SENDGRID_KEY", "canary-1"),
        ("SMTP_PASSWORD", "canary-2"),
        ("HOOK_KEY", "canary-3"),
        ("SLACK_URL", "https://example.org/canary-4"),
    ])
}

#[tokio::test]
async fn every_adapter_is_made_with_its_secret_from_the_environment() {
    let config = NotificationsConfig::from_text(ALL).unwrap();
    let all = variables();
    let manager = |set: &HashMap<&str, &'static str>| {
        config.manager(|name| set.get(name).map(|value| (*value).to_owned()))
    };
    let made = manager(&all).unwrap();
    let names: Vec<_> = made.counts().into_iter().map(|lane| lane.adapter).collect();
    assert_eq!(names, ["console", "sendgrid", "smtp", "webhook", "slack"]);
    assert!(!format!("{config:?} {made:?}").contains("canary"));
    for missing in all.keys() {
        let mut some = all.clone();
        some.remove(missing);
        let error = manager(&some).unwrap_err().to_string();
        assert!(
            error.contains(&format!("the environment variable {missing}")),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn what_is_wrong_in_the_sections_is_named() {
    let adapter = |fields: &str| format!("notifications: {{ adapters: [{{ {fields} }}] }}");
    let rule = |fields: &str| format!("notifications: {{ rules: [{{ {fields} }}] }}");
    for (text, part) in [
        (adapter("type: pager, enabled: true"), "pager"),
        (adapter("enabled: true"), "type"),
        (adapter("type: console, colour: red"), "colour"),
        (
            adapter("type: slack, enabled: true, url: 'https://x'"),
            "url",
        ),
        (
            adapter("type: smtp, host: h, from: a@b, to: [c@d], password: p"),
            "password",
        ),
        (adapter("type: webhook, enabled: true"), "url_env"),
        (
            adapter("type: webhook, url: 'https://x', url_env: X"),
            "url_env",
        ),
        (rule("kind: nothing"), "fell_back"),
        (rule("kind: other, min_severity: bad"), "critical"),
        (rule("kind: other, per_hour: 0"), "1 to 1000"),
        (rule("kind: other, window_seconds: 86401"), "0 to 86400"),
    ] {
        let whole = format!("store: {{ mode: memory }}\n{text}");
        let error = StoreConfig::from_text(&whole).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in {error}");
        assert!(NotificationsConfig::from_text(&text).is_err());
    }
    let smtp = adapter("type: smtp, enabled: true, host: h, from: nobody, to: [c@d]");
    let config = NotificationsConfig::from_text(&smtp).unwrap();
    let error = config.manager(|_| None).unwrap_err().to_string();
    assert!(error.contains("smtp: from has \"nobody\""), "{error}");
}

#[test]
fn opentelemetry_of_a_file_is_read() {
    let read = |fields: &str| {
        StoreConfig::from_text(&format!(
            "store: {{ mode: memory }}\ntelemetry: {{ opentelemetry: {{ {fields} }} }}"
        ))
    };
    let config = read(
        "enabled: true, endpoint: 'http://c:4317', service_name: s, interval_seconds: 5, protocol: grpc",
    );
    let config = config.unwrap();
    let otel = config.opentelemetry();
    assert!(otel.enabled);
    assert_eq!(
        (otel.endpoint.as_str(), otel.service_name.as_str()),
        ("http://c:4317", "s")
    );
    assert_eq!(
        (otel.interval, otel.protocol),
        (Duration::from_secs(5), Some(OtlpProtocol::Grpc))
    );
    assert!(!read("").unwrap().opentelemetry().enabled);
    for (fields, part) in [
        ("protocol: json", "http/protobuf"),
        ("interval_seconds: 0", "1 to 3600"),
        (
            "enabled: true, headers_env: NO_SUCH_VARIABLE",
            "NO_SUCH_VARIABLE",
        ),
        ("headers: { a: b }", "headers"),
        ("ca_file: /nowhere", "/nowhere"),
    ] {
        let error = read(fields).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in {error}");
    }
}
