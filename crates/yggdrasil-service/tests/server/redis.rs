//! The original, to compare answers with.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::peer::Peer;

/// A Redis server that is killed at the end.
pub(crate) struct Redis {
    child: Child,
    pub(crate) address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        loop {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut child = Command::new("redis-server")
                .args(["--port", &address.port().to_string(), "--save", ""])
                .args(["--dir", dir.path().to_str().unwrap()])
                .stdout(Stdio::null())
                .spawn()
                .expect("install it with: apt-get install redis-server");
            // It ends where somebody else took the port.
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self {
                        child,
                        address,
                        _dir: dir,
                    };
                }
                std::thread::yield_now();
            }
        }
    }

    /// Asks both servers the same, line by line, and expects the same bytes. A line that begins with a
    /// digit has so many answers.
    pub(crate) fn agrees(&self, other: SocketAddr, script: &str) {
        let (mut theirs, mut ours) = (Peer::connect(self.address), Peer::connect(other));
        let mut differences = Vec::new();
        for line in script.lines().map(str::trim).filter(|it| !it.is_empty()) {
            let (count, line) = match line.split_once(' ') {
                Some((count, rest)) if count.parse::<usize>().is_ok() => {
                    (count.parse().unwrap(), rest)
                }
                _ => (1, line),
            };
            let (our, their) = (ours.ask_all(line, count), theirs.ask_all(line, count));
            if our != their {
                differences.push(format!("{line}\n  ours   {our}\n  theirs {their}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
