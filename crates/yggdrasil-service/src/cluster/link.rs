//! A connection to another node.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use resp::{Reply, command};

/// Longest answer.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// Asks one thing after the other.
#[derive(Debug)]
pub(super) struct Link {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Link {
    /// Connects, and says who it is.
    pub(super) fn connect(
        address: &str,
        credentials: Option<&(String, String)>,
        patience: Duration,
    ) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, patience) {
                Err(error) => last = error,
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(patience))?;
                    socket.set_write_timeout(Some(patience))?;
                    let mut link = Self {
                        socket,
                        input: Vec::new(),
                    };
                    if let Some((user, password)) = credentials {
                        link.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()])?;
                    }
                    return Ok(link);
                }
            }
        }
        Err(last)
    }

    /// The answer; one that is an error is an error here too.
    pub(super) fn ask(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        let mut out = Vec::new();
        command(&mut out, args);
        self.socket.write_all(&out)?;
        loop {
            let parsed = Reply::parse(&self.input, REPLY_BYTES_MAX);
            match parsed.map_err(|error| io::Error::other(error.to_string()))? {
                Some((Reply::Error(text), _)) => return Err(io::Error::other(text)),
                Some((reply, used)) => {
                    self.input.drain(..used);
                    return Ok(reply);
                }
                None => {}
            }
            let mut piece = [0; 16 << 10];
            let count = self.socket.read(&mut piece)?;
            match piece.get(..count) {
                None | Some([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(piece) => self.input.extend_from_slice(piece),
            }
        }
    }
}
