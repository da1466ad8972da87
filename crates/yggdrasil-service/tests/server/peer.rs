//! A client that sends and expects bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use resp::Reply;

pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            input: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` where the server has closed the connection.
    pub(crate) fn answer(&mut self) -> Option<Reply> {
        self.raw().map(|(reply, _)| reply)
    }

    /// The same with its bytes.
    fn raw(&mut self) -> Option<(Reply, Vec<u8>)> {
        loop {
            if let Some((reply, used)) = Reply::parse(&self.input, 1 << 30).unwrap() {
                let bytes = self.input.drain(..used).collect();
                return Some((reply, bytes));
            }
            let mut piece = vec![0; 1 << 16];
            match self.socket.read(&mut piece).unwrap_or(0) {
                0 => return None,
                count => self.input.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Gives a command and takes its answer.
    pub(crate) fn command(&mut self, args: &[&str]) -> Reply {
        let mut bytes = Vec::new();
        resp::command(&mut bytes, args);
        self.send(bytes);
        self.answer().unwrap()
    }

    /// Sends a line and gives the answer's bytes, with spaces for line ends.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.ask_all(line, 1)
    }

    /// The same for a line that has several answers.
    pub(crate) fn ask_all(&mut self, line: &str, count: usize) -> String {
        self.send(format!("{line}\r\n"));
        let answers: Vec<String> = (0..count).map(|_| self.next()).collect();
        answers.join(" ")
    }

    /// The bytes of the next answer or message, with spaces for line ends.
    pub(crate) fn next(&mut self) -> String {
        let Some((_, bytes)) = self.raw() else {
            return "(closed)".to_owned();
        };
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", " ");
        text.trim_end().to_owned()
    }

    /// Asks line by line and expects these answers.
    pub(crate) fn check(&mut self, script: &[(&str, &str)]) {
        for (line, expected) in script {
            assert_eq!(self.ask(line), *expected, "{line}");
        }
    }
}
