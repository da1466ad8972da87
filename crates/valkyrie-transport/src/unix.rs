//! Unix stream sockets, with the peer's credentials.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::SockRef;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::connection::{Connection, Credentials, Io, PeerAddress};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ListenError};
use crate::listener::{Accept, Listener};
use crate::options::{ListenOptions, SocketOptions};
use crate::{Capabilities, Identity, Privacy, Reach, Transport, TransportKind, Waking};

/// Unix stream sockets.
///
/// The socket file gets mode 0600 and is removed when the listener is dropped. A file left behind
/// by a dead process is recognised, because nobody answers on it, and replaced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unix;

impl Transport for Unix {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: TransportKind::Unix,
            reach: Reach::Host,
            identity: Identity::Credentials,
            privacy: Privacy::Local,
            waking: Waking::Always,
            buffer_bytes: None,
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Connection, ConnectError> {
        let Endpoint::Unix { path } = endpoint else {
            return Err(ConnectError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Unix,
            });
        };
        let failed = |source| ConnectError::Io {
            endpoint: endpoint.clone(),
            source,
        };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        wrap(stream, options).map_err(failed)
    }

    async fn listen(
        &self,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> Result<Listener, ListenError> {
        let Endpoint::Unix { path } = endpoint else {
            return Err(ListenError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Unix,
            });
        };
        let accept = bind(path, endpoint, options).await?;
        Ok(Listener::new(Accept::Unix(accept), endpoint.clone()))
    }
}

/// Listens on `path`, for `endpoint`.
pub(crate) async fn bind(
    path: &Path,
    endpoint: &Endpoint,
    options: &ListenOptions,
) -> Result<UnixAccept, ListenError> {
    options.check_other_than_tcp(endpoint)?;
    remove_stale(path, endpoint).await?;
    let failed = |source| ListenError::Io {
        endpoint: endpoint.clone(),
        source,
    };
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    let listener = socket.listen(options.backlog).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok(UnixAccept {
        listener,
        path: path.to_owned(),
        inode,
        options: options.socket,
    })
}

/// Removes the socket file of a listener that no longer lives.
async fn remove_stale(path: &Path, endpoint: &Endpoint) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io {
        endpoint: endpoint.clone(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ListenError::InUse {
            endpoint: endpoint.clone(),
        }),
    }
}

fn wrap(stream: UnixStream, options: &SocketOptions) -> io::Result<Connection> {
    options.apply_buffers(SockRef::from(&stream))?;
    let credentials = credentials(&stream);
    Ok(Connection::new(
        Io::Unix(stream),
        PeerAddress::Unix { credentials },
    ))
}

/// Who is at the other end, as the kernel noted it when the two were connected.
pub(crate) fn credentials(stream: &UnixStream) -> Option<Credentials> {
    stream.peer_cred().ok().map(|owner| Credentials {
        uid: owner.uid(),
        gid: owner.gid(),
        pid: owner.pid(),
    })
}

#[derive(Debug)]
pub(crate) struct UnixAccept {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    options: SocketOptions,
}

impl UnixAccept {
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        wrap(self.accept_socket().await?, &self.options)
    }

    pub(crate) async fn accept_socket(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for UnixAccept {
    fn drop(&mut self) {
        // Somebody may have replaced the file since; only our own is removed.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}
