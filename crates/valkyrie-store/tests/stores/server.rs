//! Servers that end with the test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use valkyrie_store::{Flavor, RedisConfig, RedisStore};

/// A server of another project, or ours.
pub(crate) struct Server {
    pub(crate) port: u16,
    running: Running,
}

enum Running {
    Process(Child),
    Ours(Option<yggdrasil_service::Server>),
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    pub(crate) fn start(flavor: Flavor) -> Self {
        Self::start_at(flavor, free_port(), &[])
    }

    pub(crate) fn start_at(flavor: Flavor, port: u16, more: &[&str]) -> Self {
        let running = match flavor {
            Flavor::Yggdrasil => {
                let server = yggdrasil_service::Server::start(yggdrasil_service::ServerConfig {
                    listen: vec![([127, 0, 0, 1], port).into()],
                    buckets: 10_000,
                    threads: 2,
                    ..yggdrasil_service::ServerConfig::default()
                });
                Running::Ours(Some(server.unwrap()))
            }
            Flavor::Redis => process("redis-server", "apt-get install redis-server", port, more),
            Flavor::Valkey => process("valkey-server", "scripts/install-valkey.sh", port, more),
        };
        let server = Self { port, running };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "no server on {port}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// How a store reaches it.
    pub(crate) fn config(&self, name: &str) -> RedisConfig {
        RedisConfig {
            name: name.to_owned(),
            url: format!("redis://127.0.0.1:{}", self.port),
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            ..RedisConfig::default()
        }
    }

    pub(crate) fn store(&self, name: &str) -> RedisStore {
        RedisStore::new(&self.config(name)).unwrap()
    }

    /// Sends a signal to the process, like `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        let Running::Process(child) = &self.running else {
            panic!("ours cannot be stopped alone");
        };
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }
}

fn process(program: &str, install: &str, port: u16, more: &[&str]) -> Running {
    let port = port.to_string();
    let child = Command::new(program)
        .args([
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
        ])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child =
        child.unwrap_or_else(|error| panic!("{program}: {error}; install it with: {install}"));
    Running::Process(child)
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Ours(server) => drop(server.take()),
        }
    }
}
