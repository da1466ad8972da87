//! TCP on loopback.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::arrivals::Arrivals;
use crate::connection::{Connection, Io, PeerAddress};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ListenError, RefusedError};
use crate::listener::{Accept, Listener};
use crate::options::{ListenOptions, SocketOptions};
use crate::proxy::{self, ProxyTrust};
use crate::{Capabilities, Identity, Privacy, Reach, Transport, TransportKind, Waking};

/// TCP, set up as [`SocketOptions`] says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: TransportKind::Tcp,
            reach: Reach::Network,
            identity: Identity::None,
            privacy: Privacy::Plaintext,
            waking: Waking::Always,
            buffer_bytes: None,
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Connection, ConnectError> {
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
        let stream = connect_any(&local, options).await.map_err(failed)?;
        let address = stream.peer_addr().map_err(failed)?;
        wrap(stream, options, PeerAddress::Tcp { address }).map_err(failed)
    }

    async fn listen(
        &self,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> Result<Listener, ListenError> {
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
        let listener = bind_any(&addresses, options).map_err(|source| match source.kind() {
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
        let accept = TcpAccept {
            listener,
            options: options.socket,
            proxies: options.proxy.clone().map(|trust| Proxies {
                trust,
                arrivals: Arrivals::default(),
            }),
        };
        Ok(Listener::new(Accept::Tcp(accept), endpoint))
    }
}

/// Connects to the first of `addresses` that answers.
async fn connect_any(addresses: &[SocketAddr], options: &SocketOptions) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let socket = socket_for(*address, options)?;
        match socket.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Listens on the first of `addresses` that is free.
fn bind_any(addresses: &[SocketAddr], options: &ListenOptions) -> io::Result<TcpListener> {
    let bind = |address: SocketAddr| {
        let socket = socket_for(address, &options.socket)?;
        // Or the connections of an earlier listener would keep the port for a minute.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(options.reuse_port)?;
        socket.bind(address)?;
        socket.listen(options.backlog)
    };
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn socket_for(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    options.apply_buffers(SockRef::from(&socket))?;
    Ok(socket)
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host, port)).await?.collect())
}

/// The loopback addresses among `addresses`; `None` when there is none.
fn loopback_only(mut addresses: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    addresses.retain(|address| address.ip().is_loopback());
    (!addresses.is_empty()).then_some(addresses)
}

fn wrap(stream: TcpStream, options: &SocketOptions, peer: PeerAddress) -> io::Result<Connection> {
    options.apply_tcp(&stream)?;
    Ok(Connection::new(Io::Tcp(stream), peer))
}

#[derive(Debug)]
pub(crate) struct TcpAccept {
    listener: TcpListener,
    options: SocketOptions,
    proxies: Option<Proxies>,
}

/// The proxies in front of a listener.
#[derive(Debug)]
struct Proxies {
    trust: ProxyTrust,
    arrivals: Arrivals,
}

impl TcpAccept {
    pub(crate) fn refused(&self) -> u64 {
        let proxies = self.proxies.as_ref();
        proxies.map_or(0, |proxies| proxies.arrivals.refused())
    }

    pub(crate) async fn accept(&mut self) -> io::Result<Connection> {
        let (listener, options) = (&self.listener, self.options);
        match &mut self.proxies {
            None => {
                let (stream, address) = accept_local(listener).await?;
                // A peer that is gone again is the failure of one connection, whatever the system
                // calls it.
                wrap(stream, &options, PeerAddress::Tcp { address })
                    .map_err(|_| io::ErrorKind::ConnectionAborted.into())
            }
            Some(Proxies { trust, arrivals }) => {
                let trust = &*trust;
                let greet = |(stream, address)| greet(stream, address, trust.clone(), options);
                arrivals.next(|| accept_local(listener), greet).await
            }
        }
    }
}

async fn accept_local(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    // A socket bound to loopback can only be reached from loopback; checked because the whole
    // plaintext policy rests on it.
    if !peer.ip().is_loopback() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok((stream, peer))
}

/// Lets a proxy say who is behind it.
async fn greet(
    mut stream: TcpStream,
    proxy: SocketAddr,
    trust: ProxyTrust,
    options: SocketOptions,
) -> Result<Connection, RefusedError> {
    let peer = match proxy::read(&mut stream, proxy, &trust).await? {
        Some(client) => PeerAddress::Proxied {
            client: Box::new(client),
            proxy: Box::new(proxy),
        },
        None => PeerAddress::Tcp { address: proxy },
    };
    Ok(wrap(stream, &options, peer)?)
}
