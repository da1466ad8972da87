//! SendGrid, webhooks and Slack.

use std::process::Command;

use serde_json::json;
use telemetry::notify::{
    NotificationSeverity, NotifyError, Secret, SendGridConfig, SendGridNotificationAdapter,
    SlackNotificationAdapter, WebhookNotificationAdapter,
};

use crate::certificates::Certificates;
use crate::web_server::{Answer, WebServer};
use crate::{CANARY, hostile, send};

/// What the title of [`hostile`] is where it arrives.
const TITLE: &str = "Käse  Bcc: eve@example.org <!channel> & more";

fn sendgrid(server: &WebServer) -> SendGridNotificationAdapter {
    let mut adapter = SendGridNotificationAdapter::new(SendGridConfig {
        from: "ci@example.org".to_owned(),
        to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
        base_url: server.url(),
        ..SendGridConfig::default()
    });
    adapter.set_api_key(CANARY.to_owned());
    adapter
}

fn webhook(server: &WebServer) -> WebhookNotificationAdapter {
    let url = format!("{}/hook/{CANARY}?a=b", server.url());
    WebhookNotificationAdapter::new(Secret::new(url))
}

fn slack(server: &WebServer) -> SlackNotificationAdapter {
    let url = format!("{}/services/{CANARY}", server.url());
    SlackNotificationAdapter::new(Secret::new(url))
}

#[tokio::test]
async fn sendgrid_gets_a_mail_for_each_address() {
    let server = WebServer::start(&[Answer::Status(202)]).await;
    let answer = send(sendgrid(&server), hostile()).await.unwrap();
    assert_eq!(answer, "202 Accepted");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.line, "POST /v3/mail/send HTTP/1.1");
    assert_eq!(request.headers["authorization"], format!("Bearer {CANARY}"));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        request.headers["host"],
        format!("127.0.0.1:{}", server.port)
    );
    let expected = json!({
        "personalizations": [{"to": [{"email": "a@example.org"}, {"email": "b@example.org"}]}],
        "from": {"email": "ci@example.org"},
        "subject": format!("[warning] {TITLE}"),
        "content": [{"type": "text/plain", "value": "Grüße: 雪\n.\n<@U123> said \"no\"\n\n\n\
            severity: warning\ntags: storage, a<b\ntime: 2023-11-14T22:13:20.123Z\n"}],
        "headers": {"Auto-Submitted": "auto-generated"},
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn sendgrid_without_a_key_is_an_error_and_sends_nothing() {
    let server = WebServer::start(&[Answer::Status(202)]).await;
    let adapter = SendGridNotificationAdapter::new(SendGridConfig {
        base_url: server.url(),
        ..SendGridConfig::default()
    });
    let error = send(adapter, hostile()).await.unwrap_err();
    assert!(error.to_string().contains("set_api_key"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn webhook_gets_json_with_a_signature_that_openssl_finds_too() {
    let server = WebServer::start(&[Answer::Status(500), Answer::Status(204)]).await;
    let mut adapter = webhook(&server);
    adapter.set_signing_key(Secret::new("key"));
    send(adapter, hostile()).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        requests[0].line,
        format!("POST /hook/{CANARY}?a=b HTTP/1.1")
    );
    let expected = json!({
        "title": TITLE,
        "body": "Grüße: 雪\n.\n<@U123> said \"no\"\n",
        "severity": "warning",
        "tags": ["storage", "a<b"],
        "timestamp": "2023-11-14T22:13:20.123Z",
    });
    for request in &requests {
        assert_eq!(request.json(), expected);
        let signed = format!("{}.{}", request.headers["x-rustci-timestamp"], request.body);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("signed");
        std::fs::write(&file, signed).unwrap();
        let openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-hmac", "key", "-r"])
            .arg(&file)
            .output()
            .expect("openssl; install it with: apt-get install openssl");
        let digest = String::from_utf8(openssl.stdout).unwrap();
        let digest = digest.split(' ').next().unwrap();
        assert_eq!(
            request.headers["x-rustci-signature"],
            format!("v1={digest}")
        );
    }
    let id = |at: usize| &requests[at].headers["x-rustci-id"];
    assert_eq!((id(0), id(0).len()), (id(1), 32));
}

#[tokio::test]
async fn webhook_without_a_key_has_no_signature() {
    let server = WebServer::start(&[Answer::Status(200)]).await;
    send(webhook(&server), hostile()).await.unwrap();
    assert!(
        !server.requests()[0]
            .headers
            .contains_key("x-rustci-signature")
    );
}

#[tokio::test]
async fn slack_gets_text_in_which_nothing_is_special() {
    let server = WebServer::start(&[Answer::Status(200)]).await;
    send(slack(&server), hostile()).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.line, format!("POST /services/{CANARY} HTTP/1.1"));
    let title = "Käse  Bcc: eve@example.org &lt;!channel&gt; &amp; more";
    let section = format!(":warning: *{title}*\nGrüße: 雪\n.\n&lt;@U123&gt; said \"no\"\n");
    let facts = "warning | 2023-11-14T22:13:20.123Z | storage | a&lt;b";
    let expected = json!({
        "text": format!("[warning] {title}"),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": section, "verbatim": true}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": facts, "verbatim": true}]},
        ],
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_the_rest_once() {
    let cases: [(&'static [Answer], usize, &str); 6] = [
        (
            &[
                Answer::Status(500),
                Answer::Status(429),
                Answer::Status(200),
            ],
            3,
            "",
        ),
        (&[Answer::Status(503)], 3, "answered 503"),
        (&[Answer::Status(400)], 1, "answered 400"),
        (&[Answer::Status(302)], 1, "answered 302"),
        (
            &[Answer::Garbage, Answer::HangUp, Answer::Status(200)],
            3,
            "",
        ),
        (&[Answer::HangUp], 3, "cannot be reached"),
    ];
    for (answers, tries, expected) in cases {
        let server = WebServer::start(answers).await;
        let answer = send(slack(&server), hostile()).await;
        let said = answer.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{said}"
        );
        assert_eq!(server.requests().len(), tries, "{answers:?}");
    }
    let nobody = SlackNotificationAdapter::new(Secret::new("http://127.0.0.1:9/x"));
    let error = send(nobody, hostile()).await.unwrap_err();
    assert!(matches!(error, NotifyError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn answer_without_an_end_is_not_read_to_it() {
    let server = WebServer::start(&[Answer::Flood]).await;
    let error = send(webhook(&server), hostile()).await.unwrap_err();
    assert_eq!(error.to_string(), "webhook: 127.0.0.1 answered 400: ");
}

#[tokio::test]
async fn receiver_that_never_answers_is_given_up() {
    let server = WebServer::start(&[Answer::Silence]).await;
    let sending = tokio::spawn(send(webhook(&server), hostile()));
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let error = sending.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no answer in 10s"), "{error}");
}

#[tokio::test]
async fn secrets_are_in_no_error_even_when_the_receiver_repeats_them() {
    let server = WebServer::start(&[Answer::Echo(400)]).await;
    let mut signed = webhook(&server);
    signed.set_signing_key(Secret::new(CANARY));
    for debug in [
        format!("{:?}", sendgrid(&server)),
        format!("{signed:?}"),
        format!("{:?}", slack(&server)),
    ] {
        assert!(!debug.contains(CANARY), "{debug}");
    }
    let errors = [
        send(sendgrid(&server), hostile()).await,
        send(signed, hostile()).await,
        send(slack(&server), hostile()).await,
    ];
    for error in errors {
        let error = error.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("***"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}

#[tokio::test]
async fn https_needs_a_certificate_of_the_right_authority_and_name() {
    let certificates = Certificates::new();
    let server = WebServer::encrypted(&[Answer::Status(200)], certificates.acceptor()).await;
    let adapter = |host: &str| {
        let url = format!("https://{host}:{}/x", server.port);
        let mut adapter = WebhookNotificationAdapter::new(Secret::new(url));
        adapter.set_trust(certificates.trust());
        adapter
    };
    assert_eq!(
        send(adapter("localhost"), hostile()).await.unwrap(),
        "200 OK"
    );
    let error = send(adapter("127.0.0.1"), hostile()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let mut others = adapter("localhost");
    others.set_trust(Certificates::new().trust());
    let error = send(others, hostile()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn url_that_others_could_read_is_refused_without_being_repeated() {
    for url in [
        "http://example.org/canary-5f1c",
        "ftp://localhost/x",
        "x",
        "",
        "https:///x",
    ] {
        let adapter = WebhookNotificationAdapter::new(Secret::new(url));
        let mut message = hostile();
        message.severity = NotificationSeverity::Critical;
        let error = send(adapter, message).await.unwrap_err();
        assert!(matches!(error, NotifyError::Config { .. }), "{error}");
        assert!(!error.to_string().contains(CANARY), "{error}");
    }
}
