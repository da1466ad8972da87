//! A server of its own that runs as long as a slice.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use anyhow::Result;

use crate::processes::{Process, free_port, wait_for};

/// Starts it to listen at a port of the loopback interface, with a directory to write to.
pub(super) type Start = fn(u16, &Path) -> Result<Process>;

/// A running server; it ends with this.
pub(super) struct Broker {
    pub(super) at: SocketAddr,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Broker {
    pub(super) fn start(start: Start) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let process = start(port, directory.path())?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("a broker that listens", || TcpStream::connect(at).is_ok())?;
        Ok(Self {
            at,
            _process: process,
            _directory: directory,
        })
    }
}
