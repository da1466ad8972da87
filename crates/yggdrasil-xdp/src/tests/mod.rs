//! The program in this machine's kernel, as root: with made packets, and on interfaces of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests stop the test")]

mod arithmetic;
mod packets;
mod wire;

use std::net::IpAddr;

use aya::TestRunOptions;
use aya::maps::HashMap;
use aya::programs::{TestRun, Xdp};
use yggdrasil::Limit;

use crate::config::Policy;
use crate::kernel::{Address, Loaded, address, words};

/// What the program says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Drop,
    Pass,
}

const PORT: u16 = 7777;

fn policy(emission_ns: u64, burst: u32) -> Policy {
    let limit = Limit::new(emission_ns, burst).unwrap();
    Policy::new(Some(limit), &[PORT]).unwrap()
}

/// The program without an interface.
fn load(sources: u32) -> Loaded {
    Loaded::load(sources).unwrap_or_else(|error| {
        panic!("{error}; these tests are for root on a Linux with BPF (CONFIG_BPF_SYSCALL)")
    })
}

impl Loaded {
    /// Sets the limit and the time, which is never 0.
    fn at(&mut self, policy: &Policy, now: u64) {
        self.set_policy(&words(policy, now)).unwrap();
    }

    fn judge(&self, packet: &[u8]) -> Verdict {
        let options = TestRunOptions {
            data_in: Some(packet),
            ..TestRunOptions::default()
        };
        let program: &Xdp = self.ebpf.program("limiter").unwrap().try_into().unwrap();
        match program.test_run(options).unwrap().return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            other => panic!("a verdict of {other}"),
        }
    }
}

/// When the bucket of a source is full, as the program has stored it.
fn full_at(program: &Loaded, source: IpAddr) -> Option<u64> {
    let map = program.ebpf.map("sources").unwrap();
    let sources: HashMap<_, Address, u64> = HashMap::try_from(map).unwrap();
    sources.get(&address(source), 0).ok()
}

fn forget(program: &mut Loaded, source: IpAddr) {
    let map = program.ebpf.map_mut("sources").unwrap();
    let mut sources: HashMap<_, Address, u64> = HashMap::try_from(map).unwrap();
    sources.remove(&address(source)).unwrap();
}

/// A packet in parts, from the outside in.
#[derive(Debug, Clone)]
struct Packet {
    from: IpAddr,
    to: u16,
    protocol: u8,
    /// Types of VLAN tags.
    tags: Vec<u16>,
    /// Options of IPv4, in words.
    options: u8,
    /// The fragment field of IPv4.
    fragment: u16,
    /// Extensions of IPv6: protocol, length in words, and what a fragment has as its offset.
    extensions: Vec<(u8, u8, u16)>,
}

fn packet(from: &str) -> Packet {
    Packet {
        from: from.parse().unwrap(),
        to: PORT,
        protocol: 17,
        tags: Vec::new(),
        options: 0,
        fragment: 0,
        extensions: Vec::new(),
    }
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 7]);
        }
        match self.from {
            IpAddr::V4(from) => {
                bytes.extend([0x08, 0x00, 0x45 + self.options, 0, 0, 0, 0, 0]);
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([64, self.protocol, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend([10, 0, 0, 1]);
                bytes.resize(bytes.len() + 4 * usize::from(self.options), 1);
            }
            IpAddr::V6(from) => {
                let first = self.extensions.first();
                let protocol = first.map_or(self.protocol, |(protocol, _, _)| *protocol);
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, protocol, 64]);
                bytes.extend(from.octets());
                bytes.extend([0xfd; 16]);
                let next = self.extensions.iter().skip(1).map(|(next, _, _)| *next);
                for ((kind, words, offset), next) in
                    self.extensions.iter().zip(next.chain([self.protocol]))
                {
                    bytes.extend([next, *words]);
                    bytes.extend(offset.to_be_bytes());
                    // A fragment's header is always 8 bytes long, whatever is where others have their length.
                    let words = if *kind == 44 { 0 } else { *words };
                    bytes.resize(bytes.len() + 4 + 8 * usize::from(words), 1);
                }
            }
        }
        bytes.extend(50_000_u16.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend([0; 24]);
        bytes
    }
}

/// Any 64 bits, the same each time.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
