//! Writes what passes into a capture, up to its limit.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use tokio::sync::Notify;
use valkyrie::PeerAddress;

use crate::explain::Sender;
use crate::wire::pcapng::{Connection, Writer};

/// The acceptor's address in captures. With this port the dissector needs to be told nothing.
const ACCEPTOR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7443);
/// Ports of initiators that have none: 40,000 and above, one for each connection in turn.
const PORT_FIRST: u16 = 40_000;
const PORTS: u32 = 20_000;

/// The recorder of all connections of a capture. Clones write to the same.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    shared: Rc<Shared>,
}

struct Shared {
    state: RefCell<State>,
    failed: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct State {
    /// `None` once the limit is reached or writing has failed.
    writer: Option<Writer<Box<dyn Write>>>,
    bytes_max: u64,
    error: Option<io::Error>,
    summary: Summary,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Connections that were begun.
    pub(crate) connections: u32,
    /// Bytes that passed, recorded or not.
    pub(crate) passed: u64,
    /// Bytes of the capture.
    pub(crate) written: u64,
    /// Whether bytes passed that the limit kept out.
    pub(crate) cut: bool,
}

/// One connection that is being recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    recorder: Recorder,
    connection: RefCell<Option<Connection>>,
}

impl Recorder {
    /// Begins a capture in the file, or on standard output for `-`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn create(file: &Path, comment: &str, bytes_max: u64) -> io::Result<Self> {
        let out: Box<dyn Write> = match file == Path::new("-") {
            true => Box::new(BufWriter::new(io::stdout())),
            false => Box::new(BufWriter::new(File::create(file)?)),
        };
        let writer = Writer::new(out, comment)?;
        let state = State {
            summary: Summary {
                written: writer.written(),
                ..Summary::default()
            },
            writer: Some(writer),
            bytes_max,
            error: None,
        };
        Ok(Self {
            shared: Rc::new(Shared {
                state: RefCell::new(state),
                failed: Notify::new(),
            }),
        })
    }

    /// Begins a connection of `peer`.
    pub(crate) fn open(&self, peer: &PeerAddress) -> Recording {
        let mut state = self.shared.state.borrow_mut();
        let number = state.summary.connections;
        state.summary.connections += 1;
        let port = PORT_FIRST + u16::try_from(number % PORTS).unwrap_or_default();
        let initiator = match peer {
            PeerAddress::Tcp {
                address: SocketAddr::V4(address),
            } => *address,
            _ => SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
        };
        drop(state);
        let mut opened = None;
        self.write(0, |writer| {
            opened = Some(writer.open(unix_ns(), initiator, ACCEPTOR)?);
            Ok(())
        });
        Recording {
            recorder: self.clone(),
            connection: RefCell::new(opened),
        }
    }

    /// Hands what was recorded to the system, so that others can read it.
    pub(crate) fn flush(&self) {
        self.write(0, Writer::flush);
    }

    /// Waits until writing fails, and says why. Cancel safe.
    pub(crate) async fn failure(&self) -> io::Error {
        loop {
            let failed = self.shared.failed.notified();
            if let Some(error) = self.shared.state.borrow_mut().error.take() {
                return error;
            }
            failed.await;
        }
    }

    /// What was recorded so far.
    pub(crate) fn summary(&self) -> Summary {
        self.shared.state.borrow().summary
    }

    /// Writes, unless the capture is full or broken. The file is written on the thread that moves
    /// the bytes: a slow disk slows the connections down instead of losing a part of them.
    fn write(
        &self,
        passed: usize,
        write: impl FnOnce(&mut Writer<Box<dyn Write>>) -> io::Result<()>,
    ) {
        let mut state = self.shared.state.borrow_mut();
        let State {
            writer,
            bytes_max,
            error,
            summary,
        } = &mut *state;
        summary.passed += passed as u64;
        let Some(open) = writer else {
            summary.cut |= passed > 0;
            return;
        };
        let result = write(open);
        summary.written = open.written();
        match result {
            Ok(()) if summary.written < *bytes_max => {}
            Ok(()) => {
                // Full: the file ends with a whole packet.
                if let Err(problem) = open.flush() {
                    *error = Some(problem);
                }
                *writer = None;
            }
            Err(problem) => {
                *error = Some(problem);
                *writer = None;
            }
        }
        if error.is_some() {
            self.shared.failed.notify_one();
        }
    }
}

impl Recording {
    /// Bytes of one side passed.
    pub(crate) fn data(&self, from: Sender, bytes: &[u8]) {
        let mut connection = self.connection.borrow_mut();
        self.recorder
            .write(bytes.len(), |writer| match &mut *connection {
                Some(connection) => writer.data(unix_ns(), connection, from, bytes),
                None => Ok(()),
            });
    }

    /// One side sends nothing more.
    pub(crate) fn end(&self, from: Sender) {
        let mut connection = self.connection.borrow_mut();
        self.recorder.write(0, |writer| match &mut *connection {
            Some(connection) => writer.end(unix_ns(), connection, from),
            None => Ok(()),
        });
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}
