//! Connections to the outside: TCP, or TLS over it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whose certificates are believed. Default: the authorities of the system.
#[derive(Clone, Default)]
pub struct Trust {
    /// Instead of those of the system.
    authorities: Option<Arc<[CertificateDer<'static>]>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.authorities {
            Some(_) => "Trust(own authorities)",
            None => "Trust(system)",
        })
    }
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}; give a PEM file with the certificates of authorities")]
pub struct TrustError {
    file: String,
    problem: String,
}

impl Trust {
    /// The authorities of a PEM file, and no others.
    ///
    /// # Errors
    /// [`TrustError`] when it cannot be read or has no certificate in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TrustError> {
        let path = path.as_ref();
        let wrong = |problem: String| TrustError {
            file: path.display().to_string(),
            problem,
        };
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(Self {
                authorities: Some(found.into()),
            }),
            Ok(_) => Err(wrong("there is no certificate in it".to_owned())),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    fn connector(&self, protocol: Option<&[u8]>) -> io::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(own) => {
                for certificate in own.iter() {
                    roots.add(certificate.clone()).map_err(io::Error::other)?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Anybody on the way can read it.
    Plain(TcpStream),
    /// Nobody can.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to a host, which may be an address, in brackets if it is one of IPv6.
    pub(crate) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((bare(host), port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Plain(stream))
    }

    /// The address of this side.
    pub(crate) fn local_ip(&self) -> io::Result<IpAddr> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        Ok(stream.local_addr()?.ip())
    }

    /// Goes on encrypted, with the server that has a certificate for `host`. `protocol` is offered
    /// as the one to be spoken inside.
    pub(crate) async fn encrypt(
        self,
        host: &str,
        trust: &Trust,
        protocol: Option<&[u8]>,
    ) -> io::Result<Self> {
        let Self::Plain(stream) = self else {
            return Ok(self);
        };
        let name = ServerName::try_from(bare(host).to_owned()).map_err(io::Error::other)?;
        let stream = trust.connector(protocol)?.connect(name, stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host is this machine, so that what is sent there stays on it.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, to),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "::1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.org",
            "10.0.0.1",
            "0.0.0.0",
            "",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn file_without_certificates_is_refused_by_name() {
        let error = Trust::from_file("/dev/null").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/dev/null: there is no certificate in it")
        );
        assert!(Trust::from_file("/nowhere").is_err());
    }
}
