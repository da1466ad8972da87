//! How the cost of a connection and of a call changes with the number of connections.
//!
//! The server is a process of its own, and so are the clients, whose descriptors it does not share.
//! Two of them make one call at a time each, every one on the next of its connections, so that what
//! differs between the steps is the number of connections alone. All of them share one core.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit};

use super::measure::Figures;
use super::memory::SETTLE;
use super::place::{Place, raise_descriptors};
use crate::processes::{Process, free_port, wait_for};

/// One line of the table.
pub(crate) struct Step {
    connections: usize,
    /// Processor time of the server for a connection, from its begin to its first answer, and for
    /// a call; its memory for a connection.
    names: [&'static str; 3],
}

macro_rules! step {
    ($connections:literal) => {
        Step {
            connections: $connections,
            names: [
                concat!("connect_cpu_us_at_", $connections),
                concat!("call_cpu_us_at_", $connections),
                concat!("kib_at_", $connections),
            ],
        }
    };
}

pub(crate) const STEPS: [Step; 6] = [
    step!(1),
    step!(10),
    step!(100),
    step!(1000),
    step!(10000),
    step!(19000),
];

/// Fewer do not tell a connection's memory from a page's.
const COUNTED_FROM: usize = 1_000;
/// Calls of one step.
const CALLS: usize = 40_000;
/// Connections and calls before anything counts.
const FIRST: usize = 50;
const CLIENTS: usize = 2;

/// The two ends.
pub(crate) struct Growth {
    pub(crate) server: fn(TcpListener) -> Result<()>,
    /// Opens connections with a call each, waits for [`Load::go`], makes the calls, waits again.
    pub(crate) client: fn(SocketAddr, Load) -> Result<()>,
}

/// What a client has to do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) calls: usize,
}

impl Load {
    /// Says that a part is done and waits for the word to go on.
    pub(crate) fn go(self) -> Result<()> {
        let mut out = std::io::stdout();
        out.write_all(b".")?;
        out.flush()?;
        let count = std::io::stdin().read(&mut [0])?;
        ensure!(count == 1, "the bench has ended");
        Ok(())
    }
}

impl Growth {
    /// Serves in this process.
    pub(crate) fn serve(&self, port: u16) -> Result<()> {
        raise_descriptors()?;
        (self.server)(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
    }

    /// The clients' part, in this process.
    pub(crate) fn load(&self, at: SocketAddr, load: Load) -> Result<()> {
        raise_descriptors()?;
        (self.client)(at, load)
    }

    pub(crate) fn measure(case: &str) -> Result<Figures> {
        raise_descriptors()?;
        // Everything that is started here inherits it: no wake-up crosses cores.
        Place::OneCore.pin_client()?;
        let most = STEPS.iter().map(|step| step.connections).max();
        let needed = most.unwrap_or(0) as u64 + 200;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        ensure!(
            limit >= needed,
            "the limit of open descriptors is {limit}; raise it with ulimit -n {needed}"
        );
        let mut figures = Figures::new();
        for step in &STEPS {
            let [connect, call, kib] = Run::start(case)?.step(step.connections)?;
            let [connect_name, call_name, kib_name] = step.names;
            figures.push((connect_name, connect));
            figures.push((call_name, call));
            if step.connections >= COUNTED_FROM {
                figures.push((kib_name, kib));
            }
        }
        Ok(figures)
    }
}

/// A server of one step.
struct Run<'c> {
    case: &'c str,
    at: SocketAddr,
    server: Process,
    _directory: tempfile::TempDir,
}

impl<'c> Run<'c> {
    fn start(case: &'c str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let arguments = ["__wire", "serve", case, &port.to_string()];
        let server = Process::start(&std::env::current_exe()?, &arguments, directory.path())?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("a server that listens", || TcpStream::connect(at).is_ok())?;
        Ok(Self {
            case,
            at,
            server,
            _directory: directory,
        })
    }

    /// Microseconds for a connection and a call, KiB for a connection.
    fn step(&self, connections: usize) -> Result<[f64; 3]> {
        let mut first = Client::start(self, FIRST, FIRST)?;
        first.wait()?;
        first.go()?;
        first.wait()?;
        drop(first);
        std::thread::sleep(SETTLE);

        let (idle, kib) = (self.server.cpu_us()?, self.server.rss_kib()?);
        let mut clients = self.clients(connections)?;
        let opened = self.server.cpu_us()?;
        std::thread::sleep(SETTLE);
        let kib = self.server.rss_kib()? - kib;

        let before = self.server.cpu_us()?;
        clients.iter_mut().try_for_each(Client::go)?;
        clients.iter_mut().try_for_each(Client::wait)?;
        let called = self.server.cpu_us()? - before;
        Ok([
            (opened - idle) / connections as f64,
            called / CALLS as f64,
            kib / connections as f64,
        ])
    }

    /// Clients that have opened so many connections, each its part.
    fn clients(&self, connections: usize) -> Result<Vec<Client>> {
        let count = CLIENTS.min(connections);
        let mut clients = (0..count)
            .map(|_| Client::start(self, connections / count, CALLS / count))
            .collect::<Result<Vec<_>>>()?;
        clients.iter_mut().try_for_each(Client::wait)?;
        Ok(clients)
    }
}

/// A client in a process of its own; it ends with its handle.
struct Client {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(run: &Run<'_>, connections: usize, calls: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["__wire", "load", run.case, &run.at.to_string()])
            .args([connections.to_string(), calls.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client")?;
        let out = child.stdout.take().context("a client without its output")?;
        Ok(Self {
            child,
            out: BufReader::new(out),
        })
    }

    /// Waits until its part is done.
    fn wait(&mut self) -> Result<()> {
        let done = !self.out.fill_buf()?.is_empty();
        ensure!(done, "a client has ended");
        self.out.consume(1);
        Ok(())
    }

    /// Lets it go on.
    fn go(&mut self) -> Result<()> {
        let input = self
            .child
            .stdin
            .as_mut()
            .context("a client without input")?;
        Ok(input.write_all(b".")?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
