//! TCP on loopback.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::connection::{Connection, Io, PeerAddress};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ListenError};
use crate::listener::{Accept, Listener};
use crate::{Capabilities, Identity, Privacy, Reach, Transport, TransportKind};

/// TCP with `TCP_NODELAY`: the engine writes whole batches, so the kernel must not wait for more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: TransportKind::Tcp,
            reach: Reach::Network,
            identity: Identity::None,
            privacy: Privacy::Plaintext,
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let Endpoint::Tcp { host, port } = endpoint else {
            return Err(ConnectError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Tcp,
            });
        };
        let failed = |source| ConnectError::Io {
            endpoint: endpoint.clone(),
            source,
        };
        let addresses: Vec<_> = resolve(host, *port).await.map_err(failed)?;
        let local = loopback_only(addresses).ok_or_else(|| ConnectError::PlaintextRemote {
            endpoint: endpoint.clone(),
        })?;
        let stream = TcpStream::connect(local.as_slice()).await.map_err(failed)?;
        wrap(stream).map_err(failed)
    }

    async fn listen(&self, endpoint: &Endpoint) -> Result<Listener, ListenError> {
        let Endpoint::Tcp { host, port } = endpoint else {
            return Err(ListenError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Tcp,
            });
        };
        let failed = |source| ListenError::Io {
            endpoint: endpoint.clone(),
            source,
        };
        let addresses = resolve(host, *port).await.map_err(failed)?;
        if let Some(remote) = addresses.iter().find(|address| !address.ip().is_loopback()) {
            return Err(ListenError::PlaintextRemote { address: *remote });
        }
        let listener =
            TcpListener::bind(addresses.as_slice())
                .await
                .map_err(|source| match source.kind() {
                    io::ErrorKind::AddrInUse => ListenError::InUse {
                        endpoint: endpoint.clone(),
                    },
                    _ => failed(source),
                })?;
        let port = listener.local_addr().map_err(failed)?.port();
        let endpoint = Endpoint::Tcp {
            host: host.clone(),
            port,
        };
        Ok(Listener::new(Accept::Tcp(TcpAccept(listener)), endpoint))
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host, port)).await?.collect())
}

/// The loopback addresses among `addresses`; `None` when there is none.
fn loopback_only(mut addresses: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    addresses.retain(|address| address.ip().is_loopback());
    (!addresses.is_empty()).then_some(addresses)
}

fn wrap(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    Ok(Connection::new(
        Io::Tcp(stream),
        PeerAddress::Tcp { address },
    ))
}

#[derive(Debug)]
pub(crate) struct TcpAccept(TcpListener);

impl TcpAccept {
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        let (stream, peer) = self.0.accept().await?;
        // A socket bound to loopback can only be reached from loopback; checked because the whole
        // plaintext policy rests on it.
        if !peer.ip().is_loopback() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // A peer that is gone again is the failure of one connection, whatever the system calls it.
        wrap(stream).map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}
