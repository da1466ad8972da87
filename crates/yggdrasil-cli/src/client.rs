//! A connection to a server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use resp::{Reply, command};

use crate::failure::Failure;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// Asks one thing after the other.
pub(crate) struct Client {
    address: String,
    socket: Box<dyn Socket>,
    input: Vec<u8>,
    /// Where the next answer begins.
    start: usize,
}

/// The way to the server, for another thread than the one that reads answers.
pub(crate) struct Outgoing {
    address: String,
    socket: Box<dyn Socket>,
}

trait Socket: Read + Write + Send {
    fn again(&self) -> io::Result<Box<dyn Socket>>;
}

impl Socket for TcpStream {
    fn again(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }
}

impl Socket for UnixStream {
    fn again(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }
}

impl Client {
    /// Connects to `HOST:PORT`, or to a Unix socket where there is a slash.
    pub(crate) fn connect(address: &str, password: Option<&[u8]>) -> Result<Self, Failure> {
        let socket = connect(address).map_err(|error| Failure::Connect {
            address: address.to_owned(),
            error,
        })?;
        let mut client = Self {
            address: address.to_owned(),
            socket,
            input: Vec::new(),
            start: 0,
        };
        if let Some(password) = password {
            client.ask(&[b"AUTH", password])?;
        }
        Ok(client)
    }

    /// The answer to a command; an error is a failure.
    pub(crate) fn ask(&mut self, args: &[&[u8]]) -> Result<Reply, Failure> {
        let mut out = Vec::new();
        command(&mut out, args);
        self.send(&out)?;
        match self.reply()? {
            Reply::Error(text) => Err(wrong(&self.address, text)),
            reply => Ok(reply),
        }
    }

    /// Sends commands.
    pub(crate) fn send(&mut self, commands: &[u8]) -> Result<(), Failure> {
        let sent = self.socket.write_all(commands);
        sent.map_err(|error| lost(&self.address, &error))
    }

    /// The next answer, which may be an error.
    pub(crate) fn reply(&mut self) -> Result<Reply, Failure> {
        loop {
            let rest = self.input.get(self.start..).unwrap_or_default();
            let parsed = Reply::parse(rest, REPLY_BYTES_MAX);
            let parsed = parsed.map_err(|error| wrong(&self.address, error.to_string()))?;
            if let Some((reply, used)) = parsed {
                self.start += used;
                return Ok(reply);
            }
            self.input.drain(..self.start);
            self.start = 0;
            let mut piece = [0; 16 << 10];
            let count = self.socket.read(&mut piece);
            let count = count.map_err(|error| lost(&self.address, &error))?;
            match piece.get(..count) {
                None | Some([]) => {
                    let cause = "the server closed the connection".to_owned();
                    return Err(wrong(&self.address, cause));
                }
                Some(piece) => self.input.extend_from_slice(piece),
            }
        }
    }

    /// Another hand on the same connection, that only sends.
    pub(crate) fn outgoing(&self) -> Result<Outgoing, Failure> {
        let socket = self.socket.again();
        Ok(Outgoing {
            address: self.address.clone(),
            socket: socket.map_err(|error| lost(&self.address, &error))?,
        })
    }
}

impl Outgoing {
    /// Sends commands.
    pub(crate) fn send(&mut self, commands: &[u8]) -> Result<(), Failure> {
        let sent = self.socket.write_all(commands);
        sent.map_err(|error| lost(&self.address, &error))
    }
}

fn lost(address: &str, error: &io::Error) -> Failure {
    let late = matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    );
    let cause = match late {
        true => format!("no answer for {} s", PATIENCE.as_secs()),
        false => error.to_string(),
    };
    wrong(address, cause)
}

fn wrong(address: &str, cause: String) -> Failure {
    Failure::Answer {
        address: address.to_owned(),
        cause,
    }
}

fn connect(address: &str) -> io::Result<Box<dyn Socket>> {
    if address.contains('/') {
        let socket = UnixStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        return Ok(Box::new(socket));
    }
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}
