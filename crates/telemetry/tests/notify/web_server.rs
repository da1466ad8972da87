//! A server that writes down what it is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What is answered to one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// A status.
    Status(u16),
    /// A status, and with it everything that was said, as an answer without manners may have it.
    Echo(u16),
    /// No HTTP.
    Garbage,
    /// A body that does not end.
    Flood,
    /// Nothing, and the end.
    HangUp,
    /// Nothing, for ever.
    Silence,
}

pub(crate) struct WebServer {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl WebServer {
    /// Answers requests in turn, the last answer again and again.
    pub(crate) async fn start(answers: &'static [Answer]) -> Self {
        Self::listen(answers, None).await
    }

    /// The same with TLS.
    pub(crate) async fn encrypted(answers: &'static [Answer], tls: TlsAcceptor) -> Self {
        Self::listen(answers, Some(tls)).await
    }

    async fn listen(answers: &'static [Answer], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls) = (Arc::clone(&seen), tls.clone());
                tokio::spawn(async move { serve(stream, tls, answers, seen).await });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    answers: &[Answer],
    seen: Arc<Mutex<Vec<Request>>>,
) {
    match tls {
        None => exchange(stream, answers, seen).await,
        // Who does not believe the certificate goes away.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                exchange(stream, answers, seen).await;
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &[Answer],
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let mut stream = BufReader::new(stream);
    let mut request = Request::default();
    let mut head = String::new();
    stream.read_line(&mut head).await.unwrap();
    request.line = head.trim_end().to_owned();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        head.push_str(&line);
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        request
            .headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = request.headers["content-length"].parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    request.body = String::from_utf8(body).unwrap();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.len() - 1
    };
    let mut write = async |text: &str| stream.write_all(text.as_bytes()).await;
    let answer = |status: u16, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    match answers[number.min(answers.len() - 1)] {
        Answer::Status(status) => write(&answer(status, "")).await.unwrap(),
        Answer::Echo(status) => write(&answer(status, &head)).await.unwrap(),
        Answer::Garbage => write("\0\u{1}220 what is this\r\n").await.unwrap(),
        Answer::Flood => {
            write("HTTP/1.1 400 X\r\n\r\n").await.unwrap();
            while write(&"x".repeat(64 * 1024)).await.is_ok() {}
        }
        Answer::HangUp => {}
        Answer::Silence => std::future::pending().await,
    }
}
