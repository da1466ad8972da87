//! One client over two ways to the API: TCP, and the router of a server in this process.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustci_server::token::TOKEN_FILE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower::ServiceExt;
use valkyrie::frame::TraceContext;

use super::control::Control;
use super::sse::{Event, Parser};
use super::view::Problem;
use crate::failure::{Failure, Shown};

/// A way to the API, and the token for it.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    transport: Transport,
    token: Option<String>,
    place: String,
    arguments: String,
}

#[derive(Debug, Clone)]
enum Transport {
    /// `host:port`
    Tcp(String),
    /// The socket of a local run.
    Unix(Arc<Control>),
    InProcess(Router),
}

/// Answers of more bytes than this are not read; logs come as streams.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A machine that has not answered by then is away; the system itself would wait for minutes.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A stream without a byte for so long is dead: the server sends a comment every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

impl Api {
    /// A client for `url`, which has to be `http://host:port`; `arguments` are what other commands
    /// need to get there.
    ///
    /// # Errors
    /// [`Failure::Usage`] for any other URL. Nothing is connected yet.
    pub(crate) fn connect(
        url: &str,
        token: Option<String>,
        arguments: &str,
    ) -> Result<Self, Failure> {
        let address = check_url(url)?;
        Ok(Self {
            transport: Transport::Tcp(address),
            token,
            place: url.to_owned(),
            arguments: arguments.to_owned(),
        })
    }

    /// A client for the `rustci run` that goes on over the data in `dir`; none when none does.
    ///
    /// # Errors
    /// When its token cannot be read.
    pub(crate) async fn local_run(dir: &Path) -> Result<Option<Self>, Failure> {
        let Ok(socket) = Control::open(dir) else {
            return Ok(None);
        };
        if UnixStream::connect(socket.path()).await.is_err() {
            return Ok(None);
        }
        let token = fs::read_to_string(dir.join(TOKEN_FILE));
        let token = token.map_err(Failure::io("read the token of the local run"))?;
        Ok(Some(Self {
            transport: Transport::Unix(Arc::new(socket)),
            token: Some(token.trim().to_owned()),
            place: dir.display().to_string(),
            arguments: String::new(),
        }))
    }

    /// A client for a server in this process.
    pub(crate) fn in_process(
        router: Router,
        token: Option<&str>,
        place: impl Into<String>,
    ) -> Self {
        let token = token.map(str::to_owned);
        Self {
            transport: Transport::InProcess(router),
            token,
            place: place.into(),
            arguments: String::new(),
        }
    }

    /// What messages call the other side.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What has to be added to commands to get to this server again, with a space in front.
    pub(crate) fn arguments(&self) -> &str {
        &self.arguments
    }

    /// `GET path`, none if there is no such thing.
    ///
    /// # Errors
    /// A [`Failure`] that says whether the server was reached, refused or failed.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let response = self
            .send(self.request(Method::GET, path, Body::empty())?)
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.json(response).await.map(Some)
    }

    /// `GET path`.
    ///
    /// # Errors
    /// As [`find`](Self::find), and that there is no such thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self
            .send(self.request(Method::GET, path, Body::empty())?)
            .await?;
        self.json(response).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.json(self.post_raw(path, body).await?).await
    }

    /// The time that the server says it is, to the second.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn date(&self, path: &str) -> Result<Option<SystemTime>, Failure> {
        let response = self
            .send(self.request(Method::GET, path, Body::empty())?)
            .await?;
        let date = response
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        let zoned = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        Ok(zoned.map(|zoned| zoned.timestamp().into()))
    }

    /// `GET path`, whose body comes piece by piece.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, Failure> {
        let response = self
            .send(self.request(Method::GET, path, Body::empty())?)
            .await?;
        Ok(self.checked(response).await?.into_body())
    }

    /// `PUT path` with a JSON body and one more header.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<T, Failure> {
        let text = serde_json::to_vec(body).map_err(|error| self.not_understood(error))?;
        let mut request = self.request(Method::PUT, path, Body::from(text))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        request.headers_mut().extend(header);
        self.json(self.send(request).await?).await
    }

    /// `DELETE path`. False if there is no such thing.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, Failure> {
        let response = self
            .send(self.request(Method::DELETE, path, Body::empty())?)
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.checked(response).await.map(|_| true)
    }

    /// `POST path` with a JSON body; the answer has none. False if there is no such thing.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) async fn tell(&self, path: &str, body: &impl Serialize) -> Result<bool, Failure> {
        let response = self.post_raw(path, body).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.checked(response).await.map(|_| true)
    }

    /// `POST path`; what the answer says does not matter. False if there is no such thing.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) async fn act(&self, path: &str) -> Result<bool, Failure> {
        self.tell(path, &serde_json::json!({})).await
    }

    /// Uploads a blob, unless the server has it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn upload(&self, digest: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let path = format!("/api/v1/blobs/{digest}");
        let head = self
            .send(self.request(Method::HEAD, &path, Body::empty())?)
            .await?;
        if head.status().is_success() {
            return Ok(());
        }
        let mut request = self.request(Method::PUT, &path, Body::from(bytes))?;
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(CONTENT_TYPE, octets);
        let response = self.send(request).await?;
        self.checked(response).await.map(|_| ())
    }

    /// `GET path` as a stream of events, from behind the one with id `after`.
    ///
    /// # Errors
    /// As [`find`](Self::find); none if there is no such thing.
    pub(crate) async fn events(
        &self,
        path: &str,
        after: Option<&str>,
    ) -> Result<Option<Events>, Failure> {
        let mut request = self.request(Method::GET, path, Body::empty())?;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = after.and_then(|id| HeaderValue::from_str(id).ok()) {
            request
                .headers_mut()
                .insert(HeaderName::from_static("last-event-id"), id);
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = self.checked(response).await?.into_body();
        Ok(Some(Events {
            body,
            parser: Parser::default(),
            ready: Vec::new().into_iter(),
            ended: false,
            place: self.place.clone(),
            arguments: self.arguments.clone(),
        }))
    }

    async fn post_raw(&self, path: &str, body: &impl Serialize) -> Result<Response<Body>, Failure> {
        let text = serde_json::to_vec(body).map_err(|error| self.not_understood(error))?;
        let mut request = self.request(Method::POST, path, Body::from(text))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(trace) = own_trace() {
            let name = HeaderName::from_static("traceparent");
            request.headers_mut().insert(name, trace);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
        let host = match &self.transport {
            Transport::Tcp(address) => address.as_str(),
            Transport::InProcess(_) | Transport::Unix(_) => "localhost",
        };
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host);
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        builder.body(body).map_err(|_| Failure::Usage {
            message: "the token has characters that no token has".to_owned(),
            hint: "copy it again from the file `token` of the server's data directory".to_owned(),
        })
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        match &self.transport {
            Transport::InProcess(router) => match router.clone().oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            Transport::Tcp(address) => self.send_tcp(address, request).await,
            Transport::Unix(socket) => match UnixStream::connect(socket.path()).await {
                Ok(stream) => self.send_over(stream, request).await,
                Err(error) => Err(self.unreachable(&error)),
            },
        }
    }

    async fn send_tcp(
        &self,
        address: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await;
        let stream = connected
            .map_err(|_| self.unreachable(&"no answer"))?
            .map_err(|error| self.unreachable(&error))?;
        self.send_over(stream, request).await
    }

    fn unreachable(&self, cause: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable {
            server: self.place.clone(),
            cause: cause.to_string(),
        }
    }

    async fn send_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let unreachable = |error: hyper::Error| self.unreachable(&error);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(unreachable)?;
        // Ends with the response's body; what goes wrong on it is seen there.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(unreachable)?;
        Ok(response.map(Body::new))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response<Body>) -> Result<T, Failure> {
        let response = self.checked(response).await?;
        let bytes = self.read(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_understood(error))
    }

    async fn read(&self, body: Body) -> Result<Vec<u8>, Failure> {
        let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        let whole = limited
            .collect()
            .await
            .map_err(|error| self.not_understood(error))?;
        Ok(whole.to_bytes().to_vec())
    }

    /// The response, if it reports success.
    async fn checked(&self, response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let server = self.place.clone();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let shown = match &self.token {
                Some(_) => Shown::Refused,
                None => Shown::Nothing,
            };
            return Err(Failure::Unauthorized { server, shown });
        }
        let bytes = self.read(response.into_body()).await?;
        let problem: Problem = serde_json::from_slice(&bytes)
            .map_err(|_| self.not_understood(format!("HTTP status {status}")))?;
        let hint = match &self.transport {
            Transport::InProcess(_) if problem.code == "secret_missing" => {
                Some("`rustci secrets set NAME` keeps one for this project's runs here; --secrets-file and RUSTCI_SECRET_NAME give one for a run".into())
            }
            _ => Some(problem.hint).filter(|hint| !hint.is_empty()),
        };
        Err(if status.is_server_error() {
            Failure::ServerError {
                server,
                message: problem.detail,
                hint,
            }
        } else {
            let findings = problem
                .diagnostics
                .iter()
                .map(|found| found.render("", Default::default()));
            let message = std::iter::once(problem.detail)
                .chain(findings)
                .collect::<Vec<_>>()
                .join("\n");
            Failure::Refused { message, hint }
        })
    }

    /// The server said something in a form that is not known here.
    pub(crate) fn not_understood(&self, cause: impl std::fmt::Display) -> Failure {
        Failure::BadAnswer {
            server: self.place.clone(),
            cause: cause.to_string(),
        }
    }
}

/// The trace that this process is a part of, as a step of a job is: what it starts belongs to it.
fn own_trace() -> Option<HeaderValue> {
    let trace: TraceContext = std::env::var("TRACEPARENT").ok()?.parse().ok()?;
    HeaderValue::from_str(&trace.to_string()).ok()
}

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    body: Body,
    parser: Parser,
    ready: std::vec::IntoIter<Event>,
    ended: bool,
    place: String,
    arguments: String,
}

impl Events {
    /// The next event; none after the event `end`.
    ///
    /// Cancel safe: an event is either returned or still to come.
    ///
    /// # Errors
    /// [`Failure::Interrupted`] when the connection broke or fell silent, [`Failure::BadAnswer`] when the stream is
    /// not one of events, [`Failure::ServerError`] when the server says that no more will come.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            match self.ready.next() {
                Some(event) if event.name == "error" => return Err(self.broken_off(&event)),
                Some(event) => {
                    self.ended = event.name == "end";
                    return Ok(Some(event));
                }
                None if self.ended => return Ok(None),
                None => {}
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = frame
                .map_err(|_| self.cut_off("it said nothing for a minute"))?
                .ok_or_else(|| self.cut_off("the stream was cut off"))?
                .map_err(|error| self.cut_off(error))?;
            let Some(bytes) = frame.data_ref() else {
                continue;
            };
            let mut events = Vec::new();
            self.parser
                .feed(bytes, &mut events)
                .map_err(|error| Failure::BadAnswer {
                    server: self.place.clone(),
                    cause: error.to_string(),
                })?;
            self.ready = events.into_iter();
        }
    }

    /// The stream has ended where it should have gone on.
    fn cut_off(&self, cause: impl std::fmt::Display) -> Failure {
        Failure::Interrupted {
            server: self.place.clone(),
            arguments: self.arguments.clone(),
            cause: cause.to_string(),
        }
    }

    /// What an `error` event says.
    fn broken_off(&self, event: &Event) -> Failure {
        let server = self.place.clone();
        match serde_json::from_str::<Problem>(&event.data) {
            Ok(problem) => Failure::ServerError {
                server,
                message: problem.detail,
                hint: Some(problem.hint).filter(|hint| !hint.is_empty()),
            },
            Err(error) => Failure::BadAnswer {
                server,
                cause: error.to_string(),
            },
        }
    }
}

/// The address in `url`.
///
/// # Errors
/// [`Failure::Usage`] unless it is `http://host:port`.
pub(crate) fn check_url(url: &str) -> Result<String, Failure> {
    authority(url).ok_or_else(|| match url.strip_prefix("https://") {
        Some(rest) => Failure::Usage {
            message: format!("`{url}`: TLS is not spoken here"),
            hint: format!(
                "write http://{rest} on a network that is trusted, or reach the server through \
                 a tunnel: `ssh -L 8000:127.0.0.1:8000 HOST` and http://127.0.0.1:8000"
            ),
        },
        None => Failure::Usage {
            message: format!("`{url}` is not the URL of a server"),
            hint: "write it as http://127.0.0.1:8000".to_owned(),
        },
    })
}

/// `text` as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// `host:port` of an `http://` URL.
fn authority(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return None;
    }
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

/// Whether the URL's host is this machine.
pub(crate) fn is_local(url: &str) -> bool {
    let Some(authority) = authority(url) else {
        return false;
    };
    let host = authority
        .rsplit_once(':')
        .map_or(authority.as_str(), |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_and_port() {
        assert_eq!(
            authority("http://127.0.0.1:8000/").as_deref(),
            Some("127.0.0.1:8000")
        );
        assert_eq!(
            authority("http://ci.example").as_deref(),
            Some("ci.example:80")
        );
        assert_eq!(
            authority("http://[::1]:8000").as_deref(),
            Some("[::1]:8000")
        );
        for wrong in [
            "https://x",
            "x:8000",
            "http://",
            "http://h/path",
            "http://u@h",
        ] {
            assert_eq!(authority(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn loopback_hosts_are_local() {
        assert!(is_local("http://127.0.0.1:8000"));
        assert!(is_local("http://localhost"));
        assert!(!is_local("http://ci.example:8000"));
    }
}
