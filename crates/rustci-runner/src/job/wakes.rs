//! Signals of the job process, for a `poll`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe::register;

/// Signals of this process as readable sockets.
pub(super) struct Wakes {
    pub(super) child: UnixStream,
    pub(super) end: UnixStream,
}

impl Wakes {
    /// Handlers that only write to a socket. They end with `exec`, so steps start with the defaults.
    pub(super) fn register() -> io::Result<Self> {
        let child = Self::socket(&[SIGCHLD])?;
        let end = Self::socket(&[SIGTERM, SIGINT, SIGHUP])?;
        Ok(Self { child, end })
    }

    fn socket(signals: &[i32]) -> io::Result<UnixStream> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for &signal in signals {
            register(signal, write.try_clone()?)?;
        }
        Ok(read)
    }
}

/// Forgets the signals that came so far.
pub(super) fn drain_socket(socket: &UnixStream) {
    let mut buffer = [0; 64];
    while matches!(rustix::io::read(socket.as_fd(), &mut buffer), Ok(1..)) {}
}
