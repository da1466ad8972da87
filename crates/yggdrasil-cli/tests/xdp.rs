//! `serve --xdp`, as root, in a network of its own.

#![cfg(test)]
#![cfg(feature = "xdp")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A network namespace with two ends of a cable in it; it goes with everything inside.
struct Network(String);

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("`ip` makes networks for this test; install it with: apt-get install iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`ip {arguments}`: {error}these tests are for root, on a Linux with network namespaces"
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Network {
    fn new(name: &str) -> Self {
        let network = Self(format!("ygg-{}-{name}", std::process::id()));
        let Self(name) = &network;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link add wire type veth peer name far"));
        ip(&format!("-n {name} link set wire up"));
        network
    }

    fn link(&self, interface: &str) -> String {
        ip(&format!("-n {} -o link show {interface}", self.0))
    }

    /// A program inside, perhaps by way of another one.
    fn command(&self, through: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.0])
            .args(through)
            .arg(env!("CARGO_BIN_EXE_yggdrasil"));
        command
    }

    fn serve(&self, through: &[&str], arguments: &[&str]) -> Serving {
        let mut child = self
            .command(through)
            .args(["serve", "--threads", "1", "--buckets", "100"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut says = String::new();
        while !says.contains("\nxdp: ") {
            says += &format!("\n{}", lines.next().expect("a line about XDP").unwrap());
        }
        Serving { child, says }
    }

    /// The answer to a command, asked inside; empty where there is none in time.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.0,
                "timeout",
                "5",
                "redis-cli",
                "-p",
                "7777",
            ])
            .args(arguments)
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(
            !text.contains("No such file"),
            "{text}: install it with: apt-get install redis-tools"
        );
        text.into_owned()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

struct Serving {
    child: Child,
    says: String,
}

impl Serving {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(info: &str, name: &str) -> u64 {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {info}"))
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn killed_server_leaves_nothing_on_the_interface() {
    let network = Network::new("killed");
    for (mode, shown) in [("skb", " xdpgeneric "), ("driver", " xdp ")] {
        let mut server = network.serve(&[], &["--xdp", "wire", "--xdp-mode", mode]);
        let says = format!("xdp: {mode}, limits what each address sends to port 7777 on wire");
        assert!(server.says.contains(&says), "{}", server.says);
        assert!(
            network.link("wire").contains(shown),
            "{}",
            network.link("wire")
        );
        assert!(
            network
                .ask(&["INFO", "limits"])
                .contains(&format!("xdp:{mode}"))
        );
        server.kill();
        let deadline = Instant::now() + PATIENCE;
        while network.link("wire").contains("xdp") {
            assert!(Instant::now() < deadline, "{}", network.link("wire"));
        }
    }
}

/// On the interface that has both ends: what one says, the other hears.
#[test]
fn server_behind_xdp_counts_and_bans() {
    let network = Network::new("bans");
    let arguments = [
        "--xdp",
        "lo",
        "--xdp-rate",
        "1000/s:2000",
        "--xdp-ban",
        "127.0.0.9",
    ];
    let server = network.serve(&[], &arguments);
    // The driver of this interface cannot.
    assert!(server.says.contains("xdp: skb"), "{}", server.says);
    let info = network.ask(&["INFO", "limits"]);
    assert!(info.contains("sources_limited_by:kernel"), "{info}");
    assert!(count(&info, "xdp_passed") > 0, "{info}");
    assert_eq!(network.ask(&["YGG.BANS"]), "127.0.0.9\n");
    assert_eq!(network.ask(&["YGG.BAN", "2001:db8::7"]), "OK\n");
    assert_eq!(network.ask(&["YGG.BANS"]), "127.0.0.9\n2001:db8::7\n");
    assert_eq!(network.ask(&["YGG.UNBAN", "127.0.0.9"]), "1\n");
    assert_eq!(network.ask(&["YGG.BAN", "127.0.0.1"]), "OK\n");
    // Nothing of it arrives any more, so nobody answers.
    assert_eq!(network.ask(&["PING"]), "");
}

#[test]
fn server_limits_itself_where_the_kernel_refuses() {
    let network = Network::new("refused");
    // Nobody may load programs without these two.
    let without = ["setpriv", "--bounding-set", "-bpf,-net_admin,-sys_admin"];
    let arguments = [
        "--xdp",
        "wire",
        "--xdp-rate",
        "1/h:6",
        "--xdp-ban",
        "127.0.0.9",
    ];
    let server = network.serve(&without, &arguments);
    let says = "xdp: off, the server limits instead, because the kernel does not let this process \
                load the program; it needs root, or CAP_BPF and CAP_NET_ADMIN";
    assert!(server.says.contains(says), "{}", server.says);
    let info = network.ask(&["INFO", "limits"]);
    assert!(
        info.contains("xdp:off") && info.contains("sources_limited_by:server"),
        "{info}"
    );
    assert_eq!(count(&info, "sources_limited"), 0);
    assert_eq!(network.ask(&["YGG.BANS"]), "127.0.0.9\n");
    let refused = "this address comes too often or is banned";
    let answers: Vec<_> = (0..4).map(|_| network.ask(&["PING"])).collect();
    assert!(
        answers.iter().any(|answer| answer.contains(refused)),
        "{answers:?}"
    );
}

#[test]
fn interface_that_is_not_there_is_a_mistake() {
    let network = Network::new("wrong");
    let mut command = network.command(&[]);
    let output = command
        .args(["serve", "--xdp", "nowhere"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("there is no interface 'nowhere'"), "{text}");
}
