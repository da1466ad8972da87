//! Connections that nobody else can read.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConnection};

use crate::connection::Ended;
use crate::limits::INPUT_BYTES;

/// Where clients come with TLS 1.3 or 1.2, and how both sides prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Addresses. Port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// A PEM file with the server's certificate and those between it and the root.
    pub certificate: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
    /// A PEM file with certificates; every client has to have one that one of these signed. Default:
    /// clients need none.
    pub clients: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("{} with {}: {cause}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// How connections begin.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsConfig,
    config: Mutex<Arc<rustls::ServerConfig>>,
}

impl Tls {
    pub(crate) fn new(files: TlsConfig) -> Result<Self, TlsError> {
        let config = Mutex::new(read(&files)?);
        Ok(Self { files, config })
    }

    /// Reads the files again, for connections that come from here on. Where that fails, nothing changes.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.files)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The server's side of a new connection.
    pub(crate) fn session(&self) -> Option<Box<Session>> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(Session {
            tls,
            is_closed: false,
        }))
    }
}

fn read(files: &TlsConfig) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let wrong = |cause: String| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        cause,
    };
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| file(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| file(path, &error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| file(&files.key, &error))?;
    let config = builder.with_single_cert(certificates(&files.certificate)?, key);
    config
        .map(Arc::new)
        .map_err(|error| wrong(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error: rustls::pki_types::pem::Error| file(path, &error))?;
    match found.is_empty() {
        true => Err(file(path, &"there is no certificate in it")),
        false => Ok(found),
    }
}

fn file(path: &Path, cause: &impl ToString) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// The server's side of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    tls: ServerConnection,
    /// The client has said that it sends no more.
    is_closed: bool,
}

impl Session {
    /// Reads what has arrived behind what `input` has; how many bytes a client meant.
    pub(crate) fn receive(
        &mut self,
        socket: &OwnedFd,
        input: &mut Vec<u8>,
    ) -> Result<usize, Ended> {
        let start = input.len();
        while input.len() - start < INPUT_BYTES && !self.is_closed {
            match self.tls.read_tls(&mut Socket(socket)) {
                // What came before it is still to be answered.
                Ok(0) if input.len() > start => self.is_closed = true,
                Ok(0) => return Err(Ended),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Ended),
            }
            let Ok(state) = self.tls.process_new_packets() else {
                // It is told why, if it listens.
                let _ = self.tls.write_tls(&mut Socket(socket));
                return Err(Ended);
            };
            self.is_closed |= state.peer_has_closed();
            match self.tls.reader().read_to_end(input) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Ended),
            }
        }
        Ok(input.len() - start)
    }

    /// Takes as much of `bytes` as there is room for, and sends what the socket takes.
    pub(crate) fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Ended> {
        let mut taken = 0;
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut Socket(socket)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Err(Ended),
                }
            }
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.tls.writer().write(rest) {
                Ok(0) => return Ok(taken),
                Ok(count) => taken += count,
                Err(_) => return Err(Ended),
            }
        }
    }

    /// Whether something waits for the socket.
    pub(crate) fn is_behind(&self) -> bool {
        self.tls.wants_write()
    }

    /// Whether it is not known yet who is there.
    pub(crate) fn is_new(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self, socket: &OwnedFd) {
        self.tls.send_close_notify();
        // The end of the connection says the same to those who do not read it.
        let _ = self.tls.write_tls(&mut Socket(socket));
    }
}

/// A socket that never waits.
struct Socket<'a>(&'a OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (count, _) = recv(self.0, bytes, RecvFlags::DONTWAIT)?;
        Ok(count)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(send(self.0, bytes, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
