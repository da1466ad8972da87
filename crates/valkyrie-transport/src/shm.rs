//! Shared memory between two processes of one host, handed over a Unix socket.

use std::io;

use tokio::io::Interest;
use tokio::net::UnixStream;
use valkyrie_shm::{HandshakeError, Incoming, Pipe, RingBytes, offer};

use crate::arrivals::Arrivals;
use crate::connection::{Connection, Io, PeerAddress};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ListenError, RefusedError};
use crate::listener::{Accept, Listener};
use crate::options::{ListenOptions, SocketOptions};
use crate::shm_stream::ShmStream;
use crate::unix::{self, UnixAccept};
use crate::{Capabilities, Identity, Privacy, Reach, Transport, TransportKind, Waking};

/// Shared memory: the bytes of a connection pass through two rings that both processes have
/// mapped, and the kernel is asked only to wake who sleeps.
///
/// The socket file is treated as that of [`Unix`](crate::Unix). Both processes have to be on one
/// host and may have different users; neither has to trust the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shm;

impl Transport for Shm {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: TransportKind::Shm,
            reach: Reach::Host,
            identity: Identity::Credentials,
            privacy: Privacy::Local,
            waking: Waking::WhenAsleep,
            buffer_bytes: Some(RingBytes::DEFAULT.get()),
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<Connection, ConnectError> {
        let Endpoint::Shm { path } = endpoint else {
            return Err(ConnectError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Shm,
            });
        };
        let failed = |source| ConnectError::Io {
            endpoint: endpoint.clone(),
            source,
        };
        let socket = UnixStream::connect(path).await.map_err(failed)?;
        match offer(&socket, options.ring) {
            Ok(pipe) => Ok(wrap(socket, pipe)),
            Err(source) => Err(ConnectError::Shm {
                endpoint: endpoint.clone(),
                source,
            }),
        }
    }

    async fn listen(
        &self,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> Result<Listener, ListenError> {
        let Endpoint::Shm { path } = endpoint else {
            return Err(ListenError::WrongTransport {
                endpoint: endpoint.clone(),
                transport: TransportKind::Shm,
            });
        };
        let accept = ShmAccept {
            socket: unix::bind(path, endpoint, options).await?,
            arrivals: Arrivals::default(),
        };
        Ok(Listener::new(Accept::Shm(accept), endpoint.clone()))
    }
}

/// Waits for the memory of a peer, and takes it.
async fn take(socket: UnixStream) -> Result<Connection, RefusedError> {
    let mut incoming = Incoming::default();
    loop {
        socket.readable().await.map_err(HandshakeError::from)?;
        let mut taken = None;
        // The runtime has to see a would-block itself, to wait for what comes next.
        let attempt = socket.try_io(Interest::READABLE, || match incoming.receive(&socket) {
            Err(HandshakeError::Io(error)) => Err(error),
            other => {
                taken = Some(other);
                Ok(())
            }
        });
        match (attempt, taken) {
            (Ok(()), Some(result)) => return Ok(wrap(socket, result?)),
            (Err(error), _) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(HandshakeError::from(error).into());
            }
            _ => {}
        }
    }
}

fn wrap(socket: UnixStream, pipe: Pipe) -> Connection {
    let credentials = unix::credentials(&socket);
    Connection::new(
        Io::Shm(Box::new(ShmStream::new(socket, pipe))),
        PeerAddress::Shm { credentials },
    )
}

#[derive(Debug)]
pub(crate) struct ShmAccept {
    socket: UnixAccept,
    arrivals: Arrivals,
}

impl ShmAccept {
    pub(crate) async fn accept(&mut self) -> io::Result<Connection> {
        let socket = &self.socket;
        self.arrivals.next(|| socket.accept_socket(), take).await
    }

    pub(crate) const fn refused(&self) -> u64 {
        self.arrivals.refused()
    }
}
