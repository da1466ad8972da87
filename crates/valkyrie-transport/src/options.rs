//! What can be set below the frames.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use valkyrie_shm::RingBytes;

use crate::endpoint::Endpoint;
use crate::error::ListenError;
use crate::proxy::ProxyTrust;

/// How one end of a connection is set up. The default suits everything but measured needs.
///
/// What a transport does not have is ignored: rings on TCP, `TCP_NODELAY` on a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Sends each write at once (`TCP_NODELAY`). Default: true, because the engine writes whole
    /// batches; without it the kernel waits up to 40 ms for more.
    pub nodelay: bool,
    /// Bytes that the kernel keeps for sending (`SO_SNDBUF`; it takes twice as much for its own
    /// needs). Default: `None`, the kernel adapts it to the connection. TCP and Unix.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes that the kernel keeps for reading (`SO_RCVBUF`), as above.
    pub receive_buffer_bytes: Option<u32>,
    /// Unsent bytes above which the kernel takes no more (`TCP_NOTSENT_LOWAT`). Default: `None`,
    /// the kernel's setting. Less lets urgent frames overtake bulk that would otherwise be in the
    /// kernel already, and wakes the writer more often. TCP.
    pub unsent_low_water_bytes: Option<u32>,
    /// Probes of the kernel on a silent connection (`SO_KEEPALIVE`). Default: `None`: the protocol
    /// has its own, which also notices a peer that hangs. TCP.
    pub keepalive: Option<Keepalive>,
    /// Bytes of each ring, chosen by who connects. Default: [`RingBytes::DEFAULT`]. Shared memory.
    pub ring: RingBytes,
}

/// Probes of the kernel on a silent connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first one, in whole seconds, at least one.
    pub idle: Duration,
    /// Time between two, in whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered ones after which the connection is lost, at least one.
    pub probes: u32,
}

/// How a listener is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Of each connection that it takes.
    pub socket: SocketOptions,
    /// Connections that wait in the kernel to be accepted; it silently keeps to its own
    /// `net.core.somaxconn`. Default: 1,024.
    pub backlog: u32,
    /// Lets several listeners, of one user, share an address (`SO_REUSEPORT`), between which the
    /// kernel distributes connections. Default: false. TCP.
    pub reuse_port: bool,
    /// Takes connections from proxies only, which say in the PROXY protocol, version 2, who is
    /// behind them. Default: `None`: connections are what they seem. TCP.
    pub proxy: Option<ProxyTrust>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            unsent_low_water_bytes: None,
            keepalive: None,
            ring: RingBytes::DEFAULT,
        }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            socket: SocketOptions::default(),
            backlog: 1024,
            reuse_port: false,
            proxy: None,
        }
    }
}

impl ListenOptions {
    /// Refuses what another transport than TCP cannot do, rather than not doing it.
    pub(crate) fn check_other_than_tcp(&self, endpoint: &Endpoint) -> Result<(), ListenError> {
        let option = match (&self.proxy, self.reuse_port) {
            (Some(_), _) => "the PROXY protocol",
            (None, true) => "a shared port",
            (None, false) => return Ok(()),
        };
        Err(ListenError::Unsupported {
            endpoint: endpoint.clone(),
            option,
        })
    }
}

impl SocketOptions {
    /// Sets the buffers. TCP tells the peer its window when it connects, so they come before.
    pub(crate) fn apply_buffers(&self, socket: SockRef<'_>) -> io::Result<()> {
        if let Some(bytes) = self.send_buffer_bytes {
            socket.set_send_buffer_size(bytes as usize)?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        Ok(())
    }

    /// Sets what belongs to an open TCP connection.
    pub(crate) fn apply_tcp(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(bytes) = self.unsent_low_water_bytes {
            socket.set_tcp_notsent_lowat(bytes)?;
        }
        if let Some(keepalive) = self.keepalive {
            let setting = TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.probes);
            socket.set_tcp_keepalive(&setting)?;
        }
        Ok(())
    }
}
