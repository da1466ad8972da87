//! Which packets are meant, and that no packet is too strange.

use std::net::IpAddr;

use super::{PORT, Packet, Verdict, full_at, load, next, packet, policy};
use crate::config::{PORTS_MAX, Policy};
use crate::kernel::{Loaded, address, words};
use crate::limiter::Counters;

const FOUR: &str = "192.0.2.1";
const SIX: &str = "2001:db8::1";
const TCP: u8 = 6;

/// Everything that the program knows the way through.
fn ours() -> Vec<Packet> {
    let with = |from, change: fn(&mut Packet)| {
        let mut packet = packet(from);
        change(&mut packet);
        packet
    };
    vec![
        with(FOUR, |_| ()),
        with(FOUR, |packet| packet.protocol = TCP),
        with(FOUR, |packet| packet.options = 10),
        with(FOUR, |packet| packet.tags = vec![0x8100]),
        with(FOUR, |packet| packet.tags = vec![0x88a8]),
        // The first fragment, and one that must not be cut.
        with(FOUR, |packet| packet.fragment = 0x2000),
        with(FOUR, |packet| packet.fragment = 0x4000),
        with(SIX, |_| ()),
        with(SIX, |packet| packet.protocol = TCP),
        with(SIX, |packet| packet.tags = vec![0x8100]),
        with(SIX, |packet| {
            packet.extensions = vec![(0, 0, 0), (43, 2, 0), (60, 1, 0)]
        }),
        // A fragment's header has no length: 9 are bits that mean nothing.
        with(SIX, |packet| packet.extensions = vec![(44, 9, 0x0001)]),
        with(SIX, |packet| packet.extensions = vec![(60, 0, 0); 6]),
    ]
}

/// Those that look like it and are not.
fn not_ours() -> Vec<Packet> {
    let with = |from, change: fn(&mut Packet)| {
        let mut packet = packet(from);
        change(&mut packet);
        packet
    };
    vec![
        with(FOUR, |packet| packet.to = PORT + 1),
        // The same bytes the other way round.
        with(FOUR, |packet| packet.to = PORT.swap_bytes()),
        // Places of the policy that are not used have 0.
        with(FOUR, |packet| packet.to = 0),
        with(FOUR, |packet| packet.protocol = 1),
        with(FOUR, |packet| packet.fragment = 0x0001),
        with(FOUR, |packet| packet.fragment = 0x2fff),
        with(FOUR, |packet| packet.tags = vec![0x8100, 0x8100]),
        with(FOUR, |packet| packet.tags = vec![0x0806]),
        with(SIX, |packet| packet.to = PORT + 1),
        with(SIX, |packet| packet.protocol = 58),
        with(SIX, |packet| packet.extensions = vec![(44, 0, 0x0008)]),
        with(SIX, |packet| packet.extensions = vec![(60, 0, 0); 7]),
        // A header behind which nothing can be seen (ESP).
        with(SIX, |packet| packet.extensions = vec![(50, 0, 0)]),
    ]
}

fn counted(program: &Loaded, before: &mut Counters) -> Counters {
    let now = program.counters().unwrap();
    let since = Counters {
        passed: now.passed - before.passed,
        limited: now.limited - before.limited,
        banned: now.banned - before.banned,
        not_ours: now.not_ours - before.not_ours,
        contended: now.contended - before.contended,
    };
    *before = now;
    since
}

#[test]
fn packets_to_our_ports_are_limited_and_no_others() {
    let mut program = load(1 << 12);
    let mut before = Counters::default();
    for (number, packet) in (1..).zip(ours()) {
        // Later each time, so that the bucket has its token again.
        program.at(&policy(1_000_000, 1), number * 1_000_000_000);
        let verdicts = [(); 2].map(|()| program.judge(&packet.bytes()));
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Drop], "{packet:?}");
        let expected = Counters {
            passed: 1,
            limited: 1,
            ..Counters::default()
        };
        assert_eq!(counted(&program, &mut before), expected, "{packet:?}");
        let full_at = full_at(&program, packet.from);
        assert_eq!(
            full_at,
            Some(number * 1_000_000_000 + 1_000_000),
            "{packet:?}"
        );
    }
    for packet in not_ours() {
        let verdicts = [(); 2].map(|()| program.judge(&packet.bytes()));
        assert_eq!(verdicts, [Verdict::Pass; 2], "{packet:?}");
        let expected = Counters {
            not_ours: 2,
            ..Counters::default()
        };
        assert_eq!(counted(&program, &mut before), expected, "{packet:?}");
    }
}

/// The shortest that the kernel takes for a test is a header of Ethernet.
#[test]
fn packets_that_end_early_pass() {
    let mut program = load(1 << 12);
    let (mut cut, mut whole) = (0, 0);
    for packet in ours().into_iter().chain(not_ours()) {
        let bytes = packet.bytes();
        // 24 bytes behind the ports are of no interest.
        let end = bytes.len() - 24;
        for len in 14..bytes.len() {
            // Later each time, so that the bucket has its token again.
            program.at(&policy(1, 1), 1 + cut + whole);
            assert_eq!(
                program.judge(&bytes[..len]),
                Verdict::Pass,
                "{packet:?} {len}"
            );
            match len < end {
                true => cut += 1,
                false => whole += 1,
            }
        }
    }
    let counters = program.counters().unwrap();
    let (ours, all) = (
        ours().len() as u64,
        (ours().len() + not_ours().len()) as u64,
    );
    assert_eq!(whole, all * 24);
    assert_eq!(
        (counters.passed, counters.not_ours),
        (ours * 24, cut + (all - ours) * 24)
    );
}

/// Bits of good packets turned, and lengths that lie.
#[test]
fn broken_packets_do_no_harm() {
    const PACKETS: usize = 60_000;
    let mut program = load(1 << 12);
    program.at(&policy(1, 1), 1);
    let good: Vec<_> = ours()
        .iter()
        .chain(&not_ours())
        .map(Packet::bytes)
        .collect();
    let (mut chance, mut dropped) = (3, 0);
    for _ in 0..PACKETS {
        let mut bytes = good[next(&mut chance) as usize % good.len()].clone();
        for _ in 0..next(&mut chance) % 8 {
            let place = next(&mut chance) as usize % bytes.len();
            bytes[place] ^= next(&mut chance) as u8;
        }
        bytes.truncate(14 + next(&mut chance) as usize % bytes.len());
        dropped += u64::from(program.judge(&bytes) == Verdict::Drop);
    }
    let counters = program.counters().unwrap();
    assert_eq!(
        (counters.total(), counters.limited),
        (PACKETS as u64, dropped)
    );
    let many = |count: u64| count > PACKETS as u64 / 20;
    assert!(
        many(counters.limited) && many(counters.not_ours),
        "{counters:?}"
    );
}

#[test]
fn each_port_of_a_policy_is_meant() {
    let mut program = load(1 << 12);
    let ports: Vec<u16> = (0..PORTS_MAX as u16)
        .map(|port| 1000 + 257 * port)
        .collect();
    for count in 1..=PORTS_MAX {
        let policy = Policy::new(None, &ports[..count]).unwrap();
        program.at(&policy, 1);
        let before = program.counters().unwrap();
        for to in &ports {
            program.judge(
                &Packet {
                    to: *to,
                    ..packet(FOUR)
                }
                .bytes(),
            );
        }
        let after = program.counters().unwrap();
        assert_eq!(after.passed - before.passed, count as u64);
        assert_eq!(after.not_ours - before.not_ours, (PORTS_MAX - count) as u64);
    }
}

#[test]
fn banned_sources_get_nothing_through_to_our_ports() {
    let mut program = load(1 << 12);
    let (four, six): (IpAddr, IpAddr) = (FOUR.parse().unwrap(), SIX.parse().unwrap());
    for limit in [policy(1, 1000), Policy::new(None, &[PORT]).unwrap()] {
        program.set_policy(&words(&limit, 1)).unwrap();
        for source in [four, six] {
            program.bans.insert(address(source), 1, 0).unwrap();
            let judge = |to| {
                program.judge(
                    &Packet {
                        from: source,
                        to,
                        ..packet(FOUR)
                    }
                    .bytes(),
                )
            };
            assert_eq!(
                [judge(PORT), judge(PORT + 1)],
                [Verdict::Drop, Verdict::Pass]
            );
            program.bans.remove(&address(source)).unwrap();
            assert_eq!(
                program.judge(
                    &Packet {
                        from: source,
                        ..packet(FOUR)
                    }
                    .bytes()
                ),
                Verdict::Pass
            );
        }
    }
    assert_eq!(program.counters().unwrap().banned, 4);
}

#[test]
fn sources_beyond_the_room_push_out_others_and_are_limited_too() {
    let mut program = load(64);
    program.at(&policy(1_000_000, 1), 1);
    for number in 0..10_000_u32 {
        let from = IpAddr::from(number.to_be_bytes());
        let bytes = Packet {
            from,
            ..packet(FOUR)
        }
        .bytes();
        assert_eq!(program.judge(&bytes), Verdict::Pass, "{from}");
        assert_eq!(program.judge(&bytes), Verdict::Drop, "{from}");
    }
}

/// Without a fixed time it is the kernel's, which never stands still.
#[test]
fn clock_of_the_kernel_brings_tokens_back() {
    let mut program = load(1 << 12);
    program
        .set_policy(&words(&policy(3_600_000_000_000, 2), 0))
        .unwrap();
    let bytes = packet(FOUR).bytes();
    let verdicts = [(); 3].map(|()| program.judge(&bytes));
    assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Drop]);
    program.set_policy(&words(&policy(1, 1), 0)).unwrap();
    let later = packet(SIX).bytes();
    assert_eq!(
        [(); 100].map(|()| program.judge(&later)),
        [Verdict::Pass; 100]
    );
}

/// A header of 16 bytes would have the ports inside of itself, and a version belongs to its type.
#[test]
fn headers_that_contradict_themselves_pass() {
    let mut program = load(1 << 12);
    program.at(&Policy::new(None, &[1, PORT]).unwrap(), 1);
    let at_version = 14;
    for (from, version) in [(FOUR, 0x44), (FOUR, 0x40), (FOUR, 0x65), (SIX, 0x45)] {
        let mut bytes = packet(from).bytes();
        bytes[at_version] = version;
        assert_eq!(program.judge(&bytes), Verdict::Pass);
    }
    assert_eq!(program.counters().unwrap().not_ours, 4);
}
