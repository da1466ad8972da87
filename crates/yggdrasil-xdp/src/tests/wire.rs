//! On real interfaces: two network namespaces with a cable between them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{PORT, policy};
use crate::config::{Mode, Policy, XdpConfig};
use crate::error::XdpError;
use crate::kernel::words;
use crate::limiter::Limiter;

/// Packets that are on their way at the same time: fewer than any queue between them holds.
const AT_ONCE: usize = 25;
const PATIENCE: Duration = Duration::from_secs(20);

/// What `ip` says; what is missing for it is said where it fails.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("`ip` makes interfaces for this test; install it with: apt-get install iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`ip {arguments}`: {error}these tests are for root, on a Linux with network namespaces"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A client's and a server's namespace; they go with everything in them.
struct Cable {
    client: String,
    server: String,
}

impl Cable {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("ygg-{}-{number}-{side}", std::process::id());
        let cable = Self {
            client: name("client"),
            server: name("server"),
        };
        let Self { client, server } = &cable;
        ip(&format!("netns add {client}"));
        ip(&format!("netns add {server}"));
        ip(&format!(
            "-n {client} link add wire type veth peer name wire netns {server}"
        ));
        for (side, addresses) in [
            (
                client,
                &["10.77.0.2/24", "10.77.0.3/24", "fd77::2/64", "fd77::3/64"][..],
            ),
            (server, &["10.77.0.1/24", "fd77::1/64"]),
        ] {
            for address in addresses {
                // Addresses of IPv6 would be asked about first, for seconds.
                let nodad = if address.contains("::") { "nodad" } else { "" };
                ip(&format!("-n {side} address add {address} dev wire {nodad}"));
            }
            ip(&format!("-n {side} link set wire up"));
        }
        cable
    }

    /// Does something in one of the namespaces. What it opens stays there.
    fn inside<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{namespace}");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let file = std::fs::File::open(path).unwrap();
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&file),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    fn attach(&self, config: &XdpConfig) -> Result<Limiter, XdpError> {
        self.inside(&self.server, || Limiter::attach(config))
    }

    /// A socket of the server.
    fn receiver(&self, port: u16) -> UdpSocket {
        let bind = || UdpSocket::bind(format!("[::]:{port}"));
        let socket = self.inside(&self.server, bind).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// A socket of the client.
    fn sender(&self, from: &str) -> Sender {
        let from: IpAddr = from.parse().unwrap();
        let to = if from.is_ipv4() {
            "10.77.0.1"
        } else {
            "fd77::1"
        };
        let bind = || UdpSocket::bind(SocketAddr::new(from, 0));
        Sender {
            socket: self.inside(&self.client, bind).unwrap(),
            to: to.parse().unwrap(),
        }
    }

    /// The line of `ip link` about the server's interface.
    fn link(&self) -> String {
        ip(&format!("-n {} -o link show wire", self.server))
    }

    /// Waits until nothing is on the server's interface. An `ip` that another test starts in this
    /// moment has all descriptors of this process until it is itself.
    fn until_detached(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.link().contains("xdp") {
            assert!(Instant::now() < deadline, "{}", self.link());
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            // It is gone already where making it failed.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

struct Sender {
    socket: UdpSocket,
    to: IpAddr,
}

/// Sends many packets and gives those that arrived. Nothing is lost but what the limiter drops.
fn flood(limiter: &Limiter, from: &Sender, to: &UdpSocket, packets: usize) -> usize {
    let port = to.local_addr().unwrap().port();
    let mut arrived = 0;
    for start in (0..packets).step_by(AT_ONCE) {
        let batch = AT_ONCE.min(packets - start);
        let before = limiter.counters().unwrap();
        for _ in 0..batch {
            from.socket.send_to(&[7; 32], (from.to, port)).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let passed = loop {
            let now = limiter.counters().unwrap();
            let passed = now.passed - before.passed;
            let dropped = now.limited + now.banned - before.limited - before.banned;
            if passed + dropped == batch as u64 {
                break passed;
            }
            assert!(passed + dropped < batch as u64, "{before:?} {now:?}");
            assert!(Instant::now() < deadline, "{before:?} {now:?}");
            thread::yield_now();
        };
        for _ in 0..passed {
            receive(to, deadline);
        }
        arrived += passed as usize;
    }
    let more = to.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(more.kind(), ErrorKind::WouldBlock);
    arrived
}

fn receive(socket: &UdpSocket, deadline: Instant) {
    loop {
        match socket.recv(&mut [0; 64]) {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(
            Instant::now() < deadline,
            "a packet that passed did not arrive"
        );
        thread::yield_now();
    }
}

impl Limiter {
    fn at(&self, policy: &Policy, now: u64) {
        let mut program = self.program();
        program.loaded.set_policy(&words(policy, now)).unwrap();
    }
}

/// 100 packets at once and then one a millisecond, by a clock that is set.
fn flood_is_held_back(mode: Mode, shown: &str) {
    const MS: u64 = 1_000_000;
    let cable = Cable::new();
    let config = XdpConfig {
        mode: Some(mode),
        ..XdpConfig::new("wire", policy(MS, 100))
    };
    let limiter = cable.attach(&config).unwrap();
    assert_eq!(limiter.mode(), mode);
    assert!(cable.link().contains(shown), "{}", cable.link());
    let server = cable.receiver(PORT);
    let other = cable.receiver(PORT + 1);
    let mut now = 1 << 40;
    for (first, second) in [("10.77.0.2", "10.77.0.3"), ("fd77::2", "fd77::3")] {
        limiter.at(&policy(MS, 100), now);
        let (first, second) = (cable.sender(first), cable.sender(second));
        assert_eq!(flood(&limiter, &first, &server, 2000), 100);
        // Somebody else has a bucket of their own.
        assert_eq!(flood(&limiter, &second, &server, 60), 60);
        now += 7 * MS;
        limiter.at(&policy(MS, 100), now);
        assert_eq!(flood(&limiter, &first, &server, 50), 7);
        assert_eq!(flood(&limiter, &second, &server, 100), 47);
        let source = second.socket.local_addr().unwrap().ip();
        limiter.ban(source).unwrap();
        assert_eq!(limiter.bans().unwrap(), [source]);
        now += 1000 * MS;
        limiter.at(&policy(MS, 100), now);
        assert_eq!(flood(&limiter, &second, &server, 50), 0);
        assert_eq!(flood(&limiter, &first, &server, 150), 100);
        assert!(limiter.unban(source).unwrap());
        assert!(!limiter.unban(source).unwrap());
        assert_eq!(flood(&limiter, &second, &server, 50), 50);
        // Other ports are nobody's business here.
        for _ in 0..AT_ONCE {
            first
                .socket
                .send_to(&[7; 32], (first.to, PORT + 1))
                .unwrap();
        }
        for _ in 0..AT_ONCE {
            receive(&other, Instant::now() + PATIENCE);
        }
        now += 1000 * MS;
    }
    let counters = limiter.counters().unwrap();
    let passed = 2 * (100 + 60 + 7 + 47 + 100 + 50);
    let limited = 2 * (1900 + 43 + 53 + 50);
    assert_eq!(
        (counters.passed, counters.limited, counters.banned),
        (passed, limited, 100)
    );
    assert!(counters.not_ours >= 2 * AT_ONCE as u64, "{counters:?}");
    drop(limiter);
    cable.until_detached();
}

#[test]
fn flood_is_held_back_by_the_kernel() {
    flood_is_held_back(Mode::Skb, " xdpgeneric ");
}

#[test]
fn flood_is_held_back_by_the_driver() {
    flood_is_held_back(Mode::Driver, " xdp ");
}

/// By the clock of the kernel, and with the limits as callers set them.
#[test]
fn policy_changes_while_packets_come() {
    let cable = Cable::new();
    const HOUR: u64 = 3_600_000_000_000;
    let limiter = cable
        .attach(&XdpConfig::new("wire", policy(HOUR, 30)))
        .unwrap();
    assert_eq!(limiter.mode(), Mode::Driver);
    let server = cable.receiver(PORT);
    let sender = cable.sender("10.77.0.2");
    assert_eq!(flood(&limiter, &sender, &server, 100), 30);
    limiter.set_policy(&policy(HOUR, 50)).unwrap();
    assert_eq!(flood(&limiter, &sender, &server, 100), 20);
    limiter
        .set_policy(&Policy::new(None, &[PORT]).unwrap())
        .unwrap();
    assert_eq!(flood(&limiter, &sender, &server, 100), 100);
    assert_eq!(limiter.counters().unwrap().limited, 70 + 80);
}

#[test]
fn what_cannot_be_attached_says_why() {
    let cable = Cable::new();
    let config = XdpConfig::new("wire", policy(1, 1));
    let attach = |config: &XdpConfig| cable.attach(config).unwrap_err();
    for name in ["nowhere", "", "wi\0re"] {
        let error = attach(&XdpConfig::new(name, policy(1, 1)));
        assert!(
            matches!(&error, XdpError::Interface(it) if it == name),
            "{error}"
        );
        assert!(!error.is_refusal());
    }
    let sources = 0;
    let error = attach(&XdpConfig {
        sources,
        ..config.clone()
    });
    assert!(matches!(error, XdpError::NoSources), "{error}");
    // The driver of a loopback interface has no XDP; the kernel has.
    let mode = Some(Mode::Driver);
    let error = attach(&XdpConfig {
        mode,
        ..XdpConfig::new("lo", policy(1, 1))
    });
    assert!(
        matches!(error, XdpError::Kernel { .. }) && error.is_refusal(),
        "{error}"
    );
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    let loopback = cable.attach(&XdpConfig::new("lo", policy(1, 1))).unwrap();
    assert_eq!(loopback.mode(), Mode::Skb);
    let first = cable.attach(&config).unwrap();
    let error = attach(&config);
    assert!(
        matches!(&error, XdpError::Busy(it) if it == "wire"),
        "{error}"
    );
    assert!(error.is_refusal());
    drop(first);
    cable.until_detached();
    cable.attach(&config).unwrap();
}
