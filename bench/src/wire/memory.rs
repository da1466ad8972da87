//! What a connection that does nothing costs a server, which runs in a process of its own.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
#[cfg(feature = "peers")]
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Resource, getrlimit};

use super::place::raise_descriptors;
use crate::processes::{Process, free_port, wait_for};

/// Long enough for both ends to have given back what setting up took.
pub(crate) const SETTLE: Duration = Duration::from_millis(700);
/// Connections that open before the first look: what a server sets up once is not theirs.
const FIRST: usize = 50;
/// Descriptors of a process that are not connections.
const SPARE: usize = 200;

/// Connections that stay open until it is dropped.
pub(crate) type Held = Box<dyn Any>;

/// Idle connections to a server.
pub(crate) struct Idle {
    pub(crate) server: Server,
    /// Opens that many, each of which has carried a message.
    pub(crate) open: fn(SocketAddr, usize) -> Result<Held>,
    /// How many at most; the limit of open descriptors may allow fewer.
    pub(crate) connections_max: usize,
}

/// Who serves them.
pub(crate) enum Server {
    /// This program.
    Own(fn(TcpListener) -> Result<()>),
    /// Another, started to listen at a port of the loopback interface.
    #[cfg(feature = "peers")]
    Program(fn(u16, &Path) -> Result<Process>),
}

impl Idle {
    /// KiB of the server's memory for each connection.
    pub(crate) fn measure(&self, case: &str) -> Result<f64> {
        raise_descriptors()?;
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let server = match self.server {
            Server::Own(_) => {
                let arguments = ["__wire", "serve", case, &port.to_string()];
                Process::start(&std::env::current_exe()?, &arguments, directory.path())?
            }
            #[cfg(feature = "peers")]
            Server::Program(start) => start(port, directory.path())?,
        };
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("a server that listens", || TcpStream::connect(at).is_ok())?;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let count = limit
            .saturating_sub(FIRST + SPARE)
            .min(self.connections_max);
        if count == 0 {
            bail!("the limit of open descriptors is {limit}; raise it with ulimit -n");
        }
        let _first = (self.open)(at, FIRST)?;
        std::thread::sleep(SETTLE);
        let before = server.rss_kib()?;
        let _held = (self.open)(at, count)?;
        std::thread::sleep(SETTLE);
        Ok((server.rss_kib()? - before) / count as f64)
    }

    /// Serves in this process.
    pub(crate) fn serve(&self, port: u16) -> Result<()> {
        raise_descriptors()?;
        match self.server {
            Server::Own(serve) => serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?),
            #[cfg(feature = "peers")]
            Server::Program(_) => bail!("this is served by another program"),
        }
    }
}
