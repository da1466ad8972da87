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
}

trait Socket: Read + Write {}

impl Socket for TcpStream {}
impl Socket for UnixStream {}

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
        self.socket
            .write_all(&out)
            .map_err(|error| self.lost(&error))?;
        loop {
            let parsed = Reply::parse(&self.input, REPLY_BYTES_MAX);
            match parsed.map_err(|error| self.wrong(error.to_string()))? {
                Some((Reply::Error(text), _)) => return Err(self.wrong(text)),
                Some((reply, used)) => {
                    self.input.drain(..used);
                    return Ok(reply);
                }
                None => {}
            }
            let mut piece = [0; 16 << 10];
            let count = self
                .socket
                .read(&mut piece)
                .map_err(|error| self.lost(&error))?;
            match piece.get(..count) {
                None | Some([]) => {
                    return Err(self.wrong("the server closed the connection".to_owned()));
                }
                Some(piece) => self.input.extend_from_slice(piece),
            }
        }
    }

    fn lost(&self, error: &io::Error) -> Failure {
        let late = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        self.wrong(match late {
            true => format!("no answer for {} s", PATIENCE.as_secs()),
            false => error.to_string(),
        })
    }

    fn wrong(&self, cause: String) -> Failure {
        Failure::Answer {
            address: self.address.clone(),
            cause,
        }
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
