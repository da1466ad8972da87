//! Connections inside one process, found by name.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use crate::connection::{Connection, Io, PeerAddress};
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ListenError};
use crate::limits::{MEM_BACKLOG_MAX, MEM_BUFFER_BYTES};
use crate::listener::{Accept, Listener};
use crate::options::{ListenOptions, SocketOptions};
use crate::{Capabilities, Identity, Privacy, Reach, Transport, TransportKind, Waking};

/// The transport inside one process. Its ends may live on different threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mem;

/// Names of this process and where their connections go.
static LISTENERS: Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>> = Mutex::new(BTreeMap::new());

// A panic while the lock is held cannot leave the map half changed.
fn listeners() -> MutexGuard<'static, BTreeMap<String, mpsc::Sender<DuplexStream>>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for Mem {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: TransportKind::Mem,
            reach: Reach::Process,
            identity: Identity::SameProcess,
            privacy: Privacy::Local,
            waking: Waking::Task,
            buffer_bytes: Some(MEM_BUFFER_BYTES as u32),
        }
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        _options: &SocketOptions,
    ) -> Result<Connection, ConnectError> {
        let name = name_of(endpoint).ok_or_else(|| ConnectError::WrongTransport {
            endpoint: endpoint.clone(),
            transport: TransportKind::Mem,
        })?;
        let no_listener = || ConnectError::NoListener {
            endpoint: endpoint.clone(),
        };
        let sender = listeners().get(name).cloned().ok_or_else(no_listener)?;
        let (near, far) = duplex(MEM_BUFFER_BYTES);
        sender.send(far).await.map_err(|_| no_listener())?;
        Ok(Connection::new(
            Io::Mem(near),
            PeerAddress::Mem {
                name: name.to_owned(),
            },
        ))
    }

    async fn listen(
        &self,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> Result<Listener, ListenError> {
        options.check_other_than_tcp(endpoint)?;
        let name = name_of(endpoint).ok_or_else(|| ListenError::WrongTransport {
            endpoint: endpoint.clone(),
            transport: TransportKind::Mem,
        })?;
        let (sender, receiver) = mpsc::channel(MEM_BACKLOG_MAX);
        let mut names = listeners();
        if names.contains_key(name) {
            return Err(ListenError::InUse {
                endpoint: endpoint.clone(),
            });
        }
        names.insert(name.to_owned(), sender);
        let listener = MemListener {
            name: name.to_owned(),
            receiver,
        };
        Ok(Listener::new(Accept::Mem(listener), endpoint.clone()))
    }
}

fn name_of(endpoint: &Endpoint) -> Option<&str> {
    match endpoint {
        Endpoint::Mem { name } => Some(name),
        Endpoint::Unix { .. } | Endpoint::Shm { .. } | Endpoint::Tcp { .. } => None,
    }
}

/// Owner of one name; dropping it frees the name.
#[derive(Debug)]
pub(crate) struct MemListener {
    name: String,
    receiver: mpsc::Receiver<DuplexStream>,
}

impl MemListener {
    pub(crate) async fn accept(&mut self) -> io::Result<Connection> {
        // The registry keeps a sender as long as this listener lives, so the channel stays open.
        let stream = self
            .receiver
            .recv()
            .await
            .ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Connection::new(
            Io::Mem(stream),
            PeerAddress::Mem {
                name: self.name.clone(),
            },
        ))
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        listeners().remove(&self.name);
    }
}
