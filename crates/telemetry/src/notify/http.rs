//! One request to a receiver.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time;

use super::adapter::{NotifyError, PATIENCE, Retry, said};
use crate::outbound::{Stream, Trust, is_loopback};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A JSON document for somebody.
pub(super) struct Post<'a> {
    /// Who sends it.
    pub(super) adapter: &'a str,
    /// Where it goes.
    pub(super) url: &'a str,
    /// Headers beside the usual ones.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The document.
    pub(super) body: Vec<u8>,
    /// Whose certificates are believed.
    pub(super) trust: &'a Trust,
    /// What no error may repeat.
    pub(super) secrets: &'a [&'a str],
}

/// A header whose value is a secret.
pub(super) fn secret_header(adapter: &str, value: &str) -> Result<HeaderValue, NotifyError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        NotifyError::config(adapter, "the key has characters that no header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Post<'_> {
    /// Sends it. Gives the status as text.
    pub(super) async fn send(self) -> Result<String, NotifyError> {
        let (uri, host) = self.target()?;
        let port = uri
            .port_u16()
            .unwrap_or(if is_plain(&uri) { 80 } else { 443 });
        let (adapter, secrets) = (self.adapter.to_owned(), self.secrets);
        let unreachable = |cause: String| NotifyError::Unreachable {
            adapter: adapter.clone(),
            host: host.clone(),
            cause: said(&cause, secrets),
        };
        let answer = match time::timeout(PATIENCE, self.exchange(&uri, &host, port)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer in {PATIENCE:?}"))),
        };
        if answer.status.is_success() {
            return Ok(answer.status.to_string());
        }
        let passing =
            answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
        Err(NotifyError::Refused {
            status: answer.status.as_u16(),
            text: said(&String::from_utf8_lossy(&answer.body), secrets),
            retry: match passing {
                true => Retry::After(answer.after),
                false => Retry::No,
            },
            adapter,
            host,
        })
    }

    /// Where it goes, if what is sent stays secret on the way.
    fn target(&self) -> Result<(Uri, String), NotifyError> {
        let wrong = |problem| NotifyError::config(self.adapter, problem);
        let uri: Uri = self
            .url
            .parse()
            .map_err(|_| wrong("its URL is none; write https://HOST/PATH"))?;
        let host = uri.host().unwrap_or_default().to_owned();
        match uri.scheme_str() {
            _ if host.is_empty() => Err(wrong("its URL has no host; write https://HOST/PATH")),
            Some("https") => Ok((uri, host)),
            Some("http") if is_loopback(&host) => Ok((uri, host)),
            Some("http") => Err(wrong(
                "its URL begins with http://, which others can read on the way; write https://",
            )),
            _ => Err(wrong("its URL has to begin with https://")),
        }
    }

    async fn exchange(
        self,
        uri: &Uri,
        host: &str,
        port: u16,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut stream = Stream::connect(host, port).await?;
        if !is_plain(uri) {
            let protocol = Some(&b"http/1.1"[..]);
            stream = stream.encrypt(host, self.trust, protocol).await?;
        }
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await?;
        // Ends with the response; what goes wrong on it is seen there.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        // A name and password before the host are not part of it.
        let authority = authority.rsplit('@').next().unwrap_or(host);
        let mut request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("rustci/", env!("CARGO_PKG_VERSION")));
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body)))?;
        let response = sender.send_request(request).await?;
        let (status, after) = (response.status(), response.headers().get(RETRY_AFTER));
        let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        Ok(Answer {
            status,
            after: after.map(Duration::from_secs),
            // An answer that is too long or broken is none; its status counts.
            body: body.await.map(|body| body.to_bytes()).unwrap_or_default(),
        })
    }
}

struct Answer {
    status: StatusCode,
    after: Option<Duration>,
    body: Bytes,
}

fn is_plain(uri: &Uri) -> bool {
    uri.scheme_str() == Some("http")
}
