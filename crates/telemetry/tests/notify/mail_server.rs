//! A mail server that writes down what it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How it is.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// Encrypts, if there is one.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Encrypts from the first byte, not by STARTTLS.
    pub(crate) implicit: bool,
    /// Ways of showing who one is.
    pub(crate) auth: &'static str,
    /// What it answers to a command that begins like this, so many times.
    pub(crate) instead: Vec<(&'static str, String, usize)>,
}

/// A command, and whether it came encrypted.
pub(crate) type Said = (String, bool);

pub(crate) struct MailServer {
    pub(crate) port: u16,
    said: Arc<Mutex<Vec<Said>>>,
    mails: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Session {
    manner: Arc<Mutex<Manner>>,
    said: Arc<Mutex<Vec<Said>>>,
    mails: Arc<Mutex<Vec<String>>>,
    encrypted: bool,
}

impl MailServer {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let session = Session {
            manner: Arc::new(Mutex::new(manner)),
            said: Arc::default(),
            mails: Arc::default(),
            encrypted: false,
        };
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            said: Arc::clone(&session.said),
            mails: Arc::clone(&session.mails),
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(session.clone().begin(stream));
            }
        });
        server
    }

    pub(crate) fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }

    /// Commands that begin like this.
    pub(crate) fn commands(&self, word: &str) -> Vec<Said> {
        let mut said = self.said();
        said.retain(|(line, _)| line.starts_with(word));
        said
    }

    /// What came after DATA, with doubled dots.
    pub(crate) fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

impl Session {
    async fn begin(mut self, stream: TcpStream) {
        let manner = self.manner.lock().unwrap().clone();
        let tls = manner.tls.filter(|_| manner.implicit);
        match tls {
            None => {
                if let Some(stream) = self.talk(stream).await {
                    self.encrypted(stream).await;
                }
            }
            Some(tls) => {
                self.encrypted = true;
                if let Ok(stream) = tls.accept(stream).await {
                    self.talk(stream).await;
                }
            }
        }
    }

    /// After STARTTLS. Who does not believe the certificate goes away.
    async fn encrypted(mut self, stream: TcpStream) {
        let tls = self.manner.lock().unwrap().tls.clone().unwrap();
        if let Ok(stream) = tls.accept(stream).await {
            self.encrypted = true;
            self.talk(stream).await;
        }
    }

    /// Talks until the other side hangs up, or wants to go on encrypted; gives the stream then.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<S> {
        let mut stream = BufReader::new(stream);
        // After STARTTLS the client speaks first.
        if !self.encrypted || self.manner.lock().unwrap().implicit {
            let greeting = self
                .instead("")
                .unwrap_or("220 mail.example.org\r\n".to_owned());
            stream.write_all(greeting.as_bytes()).await.ok()?;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line
                .strip_suffix("\r\n")
                .expect("a line with CRLF")
                .to_owned();
            self.said
                .lock()
                .unwrap()
                .push((line.clone(), self.encrypted));
            let answer = self.instead(&line).unwrap_or_else(|| self.answer(&line));
            stream.write_all(answer.as_bytes()).await.ok()?;
            if line == "STARTTLS" && answer.starts_with("220") {
                return Some(stream.into_inner());
            }
            if line == "DATA" && answer.starts_with("354") {
                let mail = mail(&mut stream).await?;
                self.mails.lock().unwrap().push(mail);
                let answer = self
                    .instead(".")
                    .unwrap_or("250 queued as 7\r\n".to_owned());
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
        }
    }

    fn instead(&self, line: &str) -> Option<String> {
        let mut manner = self.manner.lock().unwrap();
        let fits = |start: &str| match start {
            "" | "." => line == start,
            start => line.starts_with(start),
        };
        let found = manner
            .instead
            .iter_mut()
            .find(|(start, _, times)| fits(start) && *times > 0)?;
        found.2 -= 1;
        Some(found.1.clone())
    }

    fn answer(&self, line: &str) -> String {
        let manner = self.manner.lock().unwrap();
        let word = line.split([' ', ':']).next().unwrap();
        let offers_tls = manner.tls.is_some() && !self.encrypted;
        match word {
            "EHLO" => {
                let mut answer = "250-mail.example.org greets you\r\n".to_owned();
                if offers_tls {
                    answer.push_str("250-STARTTLS\r\n");
                }
                if !manner.auth.is_empty() {
                    answer.push_str(&format!("250-AUTH {}\r\n", manner.auth));
                }
                answer + "250 8BITMIME\r\n"
            }
            "STARTTLS" if offers_tls => "220 go ahead\r\n".to_owned(),
            "AUTH" if line == "AUTH LOGIN" => "334 VXNlcm5hbWU6\r\n".to_owned(),
            "AUTH" => "235 welcome\r\n".to_owned(),
            "MAIL" | "RCPT" => "250 ok\r\n".to_owned(),
            "DATA" => "354 end with a dot\r\n".to_owned(),
            "QUIT" => "221 bye\r\n".to_owned(),
            // The two answers to AUTH LOGIN.
            "Y2k=" => "334 UGFzc3dvcmQ6\r\n".to_owned(),
            _ if manner.auth.contains("LOGIN") => "235 welcome\r\n".to_owned(),
            _ => "500 what?\r\n".to_owned(),
        }
    }
}

async fn mail(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut mail = String::new();
    loop {
        let at = mail.len();
        if stream.read_line(&mut mail).await.ok()? == 0 {
            return None;
        }
        if &mail[at..] == ".\r\n" {
            mail.truncate(at);
            return Some(mail);
        }
    }
}
