//! Mail.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use telemetry::notify::{
    NotificationMessage, NotificationSeverity, NotifyError, Secret, SmtpConfig,
    SmtpNotificationAdapter, SmtpSecurity,
};

use crate::certificates::Certificates;
use crate::mail_server::{MailServer, Manner};
use crate::{CANARY, hostile, send};

fn config(server: &MailServer, security: SmtpSecurity) -> SmtpConfig {
    SmtpConfig {
        host: "localhost".to_owned(),
        port: Some(server.port),
        security,
        from: "Cä <ci@example.org>".to_owned(),
        to: vec!["a@example.org".to_owned(), "B <b@example.org>".to_owned()],
        ..SmtpConfig::default()
    }
}

fn with_password(config: SmtpConfig) -> SmtpConfig {
    SmtpConfig {
        username: Some("ci".to_owned()),
        password: Some(Secret::new(CANARY)),
        ..config
    }
}

async fn mailed(config: SmtpConfig, message: NotificationMessage) -> Result<String, NotifyError> {
    send(SmtpNotificationAdapter::new(config)?, message).await
}

/// Header fields with their continuation lines joined, and the body.
fn parsed(mail: &str) -> (Vec<(String, String)>, String) {
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    (fields.collect(), body.to_owned())
}

/// Takes encoded words apart (RFC 2047).
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut after_word = false;
    for word in value.split(' ') {
        let encoded = word
            .strip_prefix("=?utf-8?b?")
            .and_then(|word| word.strip_suffix("?="));
        match encoded {
            Some(encoded) => {
                if !after_word && !bytes.is_empty() {
                    bytes.push(b' ');
                }
                bytes.extend(STANDARD.decode(encoded).unwrap());
            }
            None => {
                if !bytes.is_empty() {
                    bytes.push(b' ');
                }
                bytes.extend(word.as_bytes());
            }
        }
        after_word = encoded.is_some();
    }
    String::from_utf8(bytes).unwrap()
}

/// Takes a body apart by its transfer encoding.
fn text(fields: &[(String, String)], body: &str) -> String {
    let encoding = fields
        .iter()
        .find(|(name, _)| name == "content-transfer-encoding")
        .map(|(_, value)| value.as_str());
    match encoding {
        Some("base64") => {
            let body: String = body.split_whitespace().collect();
            String::from_utf8(STANDARD.decode(body).unwrap()).unwrap()
        }
        Some("quoted-printable") => {
            let mut bytes = Vec::new();
            let joined = body.replace("=\r\n", "");
            let mut rest = joined.as_bytes();
            while let [first, tail @ ..] = rest {
                rest = tail;
                match first {
                    b'=' => {
                        let code = std::str::from_utf8(&rest[..2]).unwrap();
                        bytes.push(u8::from_str_radix(code, 16).unwrap());
                        rest = &rest[2..];
                    }
                    byte => bytes.push(*byte),
                }
            }
            String::from_utf8(bytes).unwrap()
        }
        _ => body.to_owned(),
    }
}

#[tokio::test]
async fn mail_arrives_whole_and_its_title_makes_no_header() {
    let server = MailServer::start(Manner::default()).await;
    let answer = mailed(config(&server, SmtpSecurity::None), hostile()).await;
    assert_eq!(answer.unwrap(), "250 queued as 7");
    let said: Vec<String> = server.said().into_iter().map(|(line, _)| line).collect();
    assert_eq!(
        said[..5],
        [
            "EHLO [127.0.0.1]",
            "MAIL FROM:<ci@example.org>",
            "RCPT TO:<a@example.org>",
            "RCPT TO:<b@example.org>",
            "DATA",
        ]
    );
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].is_ascii(), "{}", mails[0]);
    assert!(mails[0].lines().all(|line| line.len() <= 998));
    let (fields, body) = parsed(&mails[0].replace("\r\n..", "\r\n."));
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| decoded(value));
        assert_eq!(found.next(), None, "{name} twice");
        value
    };
    let subject = "[warning] Käse  Bcc: eve@example.org <!channel> & more";
    assert_eq!(field("subject").unwrap(), subject);
    assert_eq!(field("bcc"), None);
    assert_eq!(field("from").unwrap(), "Cä <ci@example.org>");
    assert_eq!(field("to").unwrap(), "a@example.org, B <b@example.org>");
    assert_eq!(field("date").unwrap(), "Tue, 14 Nov 2023 22:13:20 +0000");
    assert_eq!(field("auto-submitted").unwrap(), "auto-generated");
    assert_eq!(field("mime-version").unwrap(), "1.0");
    assert_eq!(field("content-type").unwrap(), "text/plain; charset=utf-8");
    assert!(field("message-id").unwrap().ends_with("@example.org>"));
    assert_eq!(
        text(&fields, &body).replace("\r\n", "\n").trim_end(),
        "Grüße: 雪\n.\n<@U123> said \"no\"\n\n\nseverity: warning\ntags: storage, a<b\n\
         time: 2023-11-14T22:13:20.123Z"
    );
}

#[tokio::test]
async fn line_that_is_a_dot_does_not_end_the_mail() {
    let server = MailServer::start(Manner::default()).await;
    let message =
        NotificationMessage::new(NotificationSeverity::Info, "plain", "first\n.\n.last\nRSET");
    mailed(config(&server, SmtpSecurity::None), message)
        .await
        .unwrap();
    let mail = &server.mails()[0];
    assert!(mail.contains("first\r\n..\r\n..last\r\nRSET\r\n"), "{mail}");
    assert!(server.commands("RSET").is_empty());
}

#[tokio::test]
async fn starttls_comes_before_the_password_and_the_mail() {
    let certificates = Certificates::new();
    let server = MailServer::start(Manner {
        tls: Some(certificates.acceptor()),
        auth: "CRAM-MD5 PLAIN LOGIN",
        ..Manner::default()
    })
    .await;
    let config = SmtpConfig {
        trust: certificates.trust(),
        ..with_password(config(&server, SmtpSecurity::StartTls))
    };
    mailed(config, hostile()).await.unwrap();
    let open: Vec<String> = server
        .said()
        .into_iter()
        .filter(|(_, encrypted)| !encrypted)
        .map(|(line, _)| line)
        .collect();
    assert_eq!(open, ["EHLO [127.0.0.1]", "STARTTLS"]);
    let plain = STANDARD.encode(format!("\0ci\0{CANARY}"));
    assert_eq!(
        server.commands("AUTH"),
        [(format!("AUTH PLAIN {plain}"), true)]
    );
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn implicit_tls_encrypts_everything_and_login_works_too() {
    let certificates = Certificates::new();
    let server = MailServer::start(Manner {
        tls: Some(certificates.acceptor()),
        implicit: true,
        auth: "LOGIN",
        ..Manner::default()
    })
    .await;
    let config = SmtpConfig {
        trust: certificates.trust(),
        ..with_password(config(&server, SmtpSecurity::Implicit))
    };
    mailed(config, hostile()).await.unwrap();
    assert!(server.said().iter().all(|(_, encrypted)| *encrypted));
    assert_eq!(server.commands(&STANDARD.encode(CANARY)).len(), 1);
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_cannot_prove_its_name() {
    let certificates = Certificates::new();
    let tls = Some(certificates.acceptor());
    let server = MailServer::start(Manner {
        tls,
        auth: "PLAIN",
        ..Manner::default()
    })
    .await;
    // Another authority; the right one, but another name.
    let strange = SmtpConfig {
        trust: Certificates::new().trust(),
        ..with_password(config(&server, SmtpSecurity::StartTls))
    };
    let named = SmtpConfig {
        trust: certificates.trust(),
        host: "127.0.0.1".to_owned(),
        ..with_password(config(&server, SmtpSecurity::StartTls))
    };
    for config in [strange, named] {
        let error = mailed(config, hostile()).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert!(server.commands("AUTH").is_empty() && server.mails().is_empty());
}

#[tokio::test]
async fn server_that_hides_starttls_or_speaks_ahead_gets_nothing() {
    let server = MailServer::start(Manner {
        auth: "PLAIN",
        ..Manner::default()
    })
    .await;
    let error = mailed(
        with_password(config(&server, SmtpSecurity::StartTls)),
        hostile(),
    )
    .await
    .unwrap_err();
    assert!(
        error.to_string().contains("does not offer STARTTLS"),
        "{error}"
    );
    assert!(server.commands("AUTH").is_empty());

    let certificates = Certificates::new();
    let server = MailServer::start(Manner {
        tls: Some(certificates.acceptor()),
        instead: vec![("STARTTLS", "220 go\r\n250 AUTH PLAIN\r\n".to_owned(), 9)],
        ..Manner::default()
    })
    .await;
    let config = SmtpConfig {
        trust: certificates.trust(),
        ..with_password(config(&server, SmtpSecurity::StartTls))
    };
    let error = mailed(config, hostile()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("before the connection was encrypted"),
        "{error}"
    );
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn temporary_refusals_are_tried_again_and_final_ones_are_not() {
    for (word, answer, times, mails, expected) in [
        ("RCPT", "451 later", 2, 1, ""),
        ("", "421 busy", 1, 1, ""),
        (
            "RCPT",
            "550 unknown",
            9,
            0,
            "localhost answered 550: unknown",
        ),
        (
            ".",
            "554-spam\r\n554 really",
            9,
            1,
            "answered 554: spam really",
        ),
        ("DATA", "451 never", 9, 0, "answered 451: never"),
        ("EHLO", "hello", 9, 0, "does not speak SMTP: hello"),
        (
            "MAIL",
            "250-more\r\n999 x",
            9,
            0,
            "does not speak SMTP: 999 x",
        ),
    ] {
        let server = MailServer::start(Manner {
            instead: vec![(word, format!("{answer}\r\n"), times)],
            ..Manner::default()
        })
        .await;
        let sent = mailed(config(&server, SmtpSecurity::None), hostile()).await;
        let said = sent.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{said}"
        );
        assert_eq!(server.mails().len(), mails, "{answer}");
    }
}

#[tokio::test]
async fn answers_without_an_end_are_not_read_to_it() {
    let endless = [
        ("x".repeat(100_000), "no end"),
        ("250-x\r\n".repeat(1_000), "answered 250"),
    ];
    for (answer, expected) in endless {
        let server = MailServer::start(Manner {
            instead: vec![("EHLO", answer, 9)],
            ..Manner::default()
        })
        .await;
        let error = mailed(config(&server, SmtpSecurity::None), hostile()).await;
        let said = error.unwrap_or_else(|error| error.to_string());
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn password_is_in_no_error_even_when_the_server_repeats_it() {
    let plain = STANDARD.encode(format!("\0ci\0{CANARY}"));
    let echo = format!(
        "535 {CANARY} {plain} {} is wrong\r\n",
        STANDARD.encode(CANARY)
    );
    let server = MailServer::start(Manner {
        auth: "PLAIN",
        instead: vec![("AUTH", echo, 9)],
        ..Manner::default()
    })
    .await;
    let config = with_password(config(&server, SmtpSecurity::None));
    assert!(!format!("{config:?}").contains(CANARY));
    let error = mailed(config, hostile()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "smtp: localhost answered 535: *** *** *** is wrong"
    );
}

#[tokio::test]
async fn server_without_a_known_way_to_log_in_is_an_error() {
    let server = MailServer::start(Manner {
        auth: "CRAM-MD5",
        ..Manner::default()
    })
    .await;
    let error = mailed(
        with_password(config(&server, SmtpSecurity::None)),
        hostile(),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("PLAIN or LOGIN"), "{error}");
    assert!(server.mails().is_empty());
}
