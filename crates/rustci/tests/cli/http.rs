//! Just enough HTTP to ask a server something that no command asks.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// A server and its token.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Http {
    /// Status and body; none when the server is away.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, Vec<u8>)> {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        Some((status, answer[end + 4..].to_vec()))
    }

    /// The JSON of a successful answer.
    #[track_caller]
    pub(crate) fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask(method, path, body).expect("the server answers");
        let text = String::from_utf8_lossy(&answer);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {text}"
        );
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}
