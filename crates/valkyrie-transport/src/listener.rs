//! Taking connections, over any transport.

use std::io;

use tokio::time::sleep;

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::AcceptError;
use crate::limits::ACCEPT_PAUSE;
use crate::mem::MemListener;
use crate::shm::ShmAccept;
use crate::tcp::TcpAccept;
use crate::unix::UnixAccept;

/// Takes connections on one endpoint. Dropping it stops listening and frees the endpoint.
#[derive(Debug)]
pub struct Listener {
    accept: Accept,
    endpoint: Endpoint,
}

#[derive(Debug)]
pub(crate) enum Accept {
    Mem(MemListener),
    Unix(UnixAccept),
    Shm(ShmAccept),
    Tcp(TcpAccept),
}

impl Listener {
    pub(crate) const fn new(accept: Accept, endpoint: Endpoint) -> Self {
        Self { accept, endpoint }
    }

    /// Where it listens; a TCP port of 0 has been replaced by the port that the system chose.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Peers that were refused before they were connections. Each is also logged with its reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        match &self.accept {
            Accept::Mem(_) | Accept::Unix(_) => 0,
            Accept::Shm(listener) => listener.refused(),
            Accept::Tcp(listener) => listener.refused(),
        }
    }

    /// Waits for the next connection.
    ///
    /// Failures of one connection are skipped. When the process or the host has no descriptor or
    /// memory left, the listener rests for [`ACCEPT_PAUSE`] and tries again: the peers wait in the
    /// kernel's queue instead of being lost.
    ///
    /// Cancel safe: a dropped future loses no connection.
    ///
    /// # Errors
    /// [`AcceptError::Io`] when the listening socket itself is broken.
    pub async fn accept(&mut self) -> Result<Connection, AcceptError> {
        loop {
            let result = match &mut self.accept {
                Accept::Mem(listener) => listener.accept().await,
                Accept::Unix(listener) => listener.accept().await,
                Accept::Shm(listener) => listener.accept().await,
                Accept::Tcp(listener) => listener.accept().await,
            };
            match result {
                Ok(connection) => return Ok(connection),
                Err(error) => self.after_failure(error).await?,
            }
        }
    }

    async fn after_failure(&mut self, error: io::Error) -> Result<(), AcceptError> {
        match Failure::of(&error) {
            Failure::OneConnection => Ok(()),
            Failure::Exhausted => {
                tracing::warn!(endpoint = %self.endpoint, %error, "accept paused");
                sleep(ACCEPT_PAUSE).await;
                Ok(())
            }
            Failure::Listener => Err(AcceptError::Io {
                endpoint: self.endpoint.clone(),
                source: error,
            }),
        }
    }
}

/// What a failed `accept` means for the listener.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    OneConnection,
    Exhausted,
    Listener,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        // ENOMEM 12, ENFILE 23, EMFILE 24, ENOBUFS 105: `io::ErrorKind` has no names for them.
        match (error.kind(), error.raw_os_error()) {
            (_, Some(12 | 23 | 24 | 105)) => Self::Exhausted,
            (
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotConnected
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::Interrupted,
                _,
            ) => Self::OneConnection,
            _ => Self::Listener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_pauses_and_does_not_end_the_listener() {
        for (errno, expected) in [
            (24, Failure::Exhausted),
            (23, Failure::Exhausted),
            (105, Failure::Exhausted),
            (103, Failure::OneConnection),
            (9, Failure::Listener),
        ] {
            assert_eq!(
                Failure::of(&io::Error::from_raw_os_error(errno)),
                expected,
                "{errno}"
            );
        }
    }
}
