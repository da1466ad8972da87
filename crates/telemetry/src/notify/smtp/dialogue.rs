//! What client and server say to each other (RFC 5321, with STARTTLS of RFC 3207 and AUTH of RFC
//! 4954). Everything that the server says has a bound, and nothing that it said in the open is
//! believed once the connection is encrypted.

use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::SmtpSecurity;
use crate::Trust;
use crate::outbound::Stream;

/// The longest line of an answer, four times what the standard allows.
const LINE_BYTES_MAX: usize = 2048;
/// The most lines of an answer.
const LINES_MAX: usize = 64;

/// Why a mail was not taken.
#[derive(Debug)]
pub(super) enum DialogueError {
    /// The connection, or what came over it is no SMTP.
    Io(String),
    /// The server said no.
    Refused { code: u16, text: String },
    /// The server cannot do what the settings ask for.
    Unable(&'static str),
}

impl From<io::Error> for DialogueError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

type Result<T> = std::result::Result<T, DialogueError>;

/// A connection to a mail server that has said hello.
pub(super) struct Dialogue {
    stream: Stream,
    /// What came and was not read as an answer yet.
    rest: Vec<u8>,
    /// What the server can do, in capitals, a line each.
    able: Vec<String>,
    /// Who this is.
    name: String,
}

struct Answer {
    code: u16,
    lines: Vec<String>,
}

impl Dialogue {
    /// Connects, encrypts as far as `security` asks, and says hello.
    pub(super) async fn begin(
        host: &str,
        port: u16,
        security: SmtpSecurity,
        trust: &Trust,
    ) -> Result<Self> {
        let mut stream = Stream::connect(host, port).await?;
        let name = match stream.local_ip()? {
            IpAddr::V4(ip) => format!("[{ip}]"),
            IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
        };
        if security == SmtpSecurity::Implicit {
            stream = stream.encrypt(host, trust, None).await?;
        }
        let mut dialogue = Self {
            stream,
            rest: Vec::new(),
            able: Vec::new(),
            name,
        };
        dialogue.answer(220).await?;
        dialogue.hello().await?;
        match security {
            SmtpSecurity::StartTls => dialogue.start_tls(host, trust).await,
            SmtpSecurity::Implicit | SmtpSecurity::None => Ok(dialogue),
        }
    }

    async fn hello(&mut self) -> Result<()> {
        let hello = format!("EHLO {}", self.name);
        let answer = self.command(&hello, 250).await?;
        let lines = answer.lines.iter().skip(1);
        self.able = lines.map(|line| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    async fn start_tls(mut self, host: &str, trust: &Trust) -> Result<Self> {
        if !self.able.iter().any(|line| line == "STARTTLS") {
            return Err(DialogueError::Unable(
                "the server does not offer STARTTLS; use its port for TLS with security: implicit",
            ));
        }
        self.command("STARTTLS", 220).await?;
        if !self.rest.is_empty() {
            let text =
                "the server, or somebody on the way, spoke before the connection was encrypted";
            return Err(DialogueError::Io(text.to_owned()));
        }
        self.stream = self.stream.encrypt(host, trust, None).await?;
        self.hello().await?;
        Ok(self)
    }

    /// Says who this is, by PLAIN or LOGIN.
    pub(super) async fn authenticate(&mut self, user: &str, password: &str) -> Result<()> {
        let offered = |way: &str| {
            let words = self
                .able
                .iter()
                .filter_map(|line| line.strip_prefix("AUTH "));
            words
                .flat_map(str::split_ascii_whitespace)
                .any(|word| word == way)
        };
        if offered("PLAIN") {
            let both = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(&format!("AUTH PLAIN {both}"), 235).await?;
        } else if offered("LOGIN") {
            self.command("AUTH LOGIN", 334).await?;
            self.command(&STANDARD.encode(user), 334).await?;
            self.command(&STANDARD.encode(password), 235).await?;
        } else {
            return Err(DialogueError::Unable(
                "the server takes no password by PLAIN or LOGIN; leave username and password out, \
                 or use another server",
            ));
        }
        Ok(())
    }

    /// Hands a mail over, with CRLF at the end of each line. Gives what the server said to it.
    pub(super) async fn mail(mut self, from: &str, to: &[&str], mail: &[u8]) -> Result<String> {
        self.command(&format!("MAIL FROM:<{from}>"), 250).await?;
        for to in to {
            self.command(&format!("RCPT TO:<{to}>"), 250).await?;
        }
        self.command("DATA", 354).await?;
        self.stream.write_all(&stuffed(mail)).await?;
        self.stream.flush().await?;
        let answer = self.answer(250).await?;
        // It is the server's now; a goodbye that fails changes nothing.
        let _ = self.stream.write_all(b"QUIT\r\n").await;
        let _ = self.stream.shutdown().await;
        Ok(format!("{} {}", answer.code, answer.lines.join(" ")))
    }

    async fn command(&mut self, line: &str, expected: u16) -> Result<Answer> {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.stream.flush().await?;
        self.answer(expected).await
    }

    /// Reads an answer, which may have several lines, and has to begin with this code.
    async fn answer(&mut self, expected: u16) -> Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let parsed = line
                .split_at_checked(3)
                .and_then(|(code, rest)| Some((code.parse::<u16>().ok()?, rest)));
            let Some((code, rest)) = parsed.filter(|(code, _)| (200..600).contains(code)) else {
                let text = format!("the server does not speak SMTP: {line}");
                return Err(DialogueError::Io(text));
            };
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if rest.starts_with('-') && lines.len() < LINES_MAX {
                continue;
            }
            return match code == expected || (expected == 250 && code == 251) {
                true => Ok(Answer { code, lines }),
                false => Err(DialogueError::Refused {
                    code,
                    text: lines.join(" "),
                }),
            };
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(DialogueError::Io(
                    "a line of the server has no end".to_owned(),
                ));
            }
            let mut bytes = [0; 1024];
            let count = self.stream.read(&mut bytes).await?;
            if count == 0 {
                return Err(DialogueError::Io("the server hung up".to_owned()));
            }
            self.rest.extend(bytes.iter().take(count));
        }
    }
}

/// A mail as it is sent after DATA: a line that begins with a dot gets another one, and a dot alone
/// is the end.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + 16);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_the_beginning_of_lines_are_doubled() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n.\r\n");
    }
}
