//! The program's arithmetic against that of `yggdrasil::step`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use yggdrasil::{Limit, Outcome, step};

use super::{PORT, Packet, Verdict, forget, full_at, load, next, packet, policy};
use crate::config::Policy;
use crate::kernel::words;

const STEPS: u64 = 250_000;

/// A limit of any size: a token a nanosecond or in years, one of them or billions.
fn limit(chance: &mut u64) -> Limit {
    loop {
        let each = next(chance) % (1 << (1 + next(chance) % 60)) + 1;
        let burst = next(chance) % (1 << (1 + next(chance) % 31)) + 1;
        if let Ok(limit) = Limit::new(each, burst as u32) {
            return limit;
        }
    }
}

/// Sources that come again, of both families.
fn source(chance: &mut u64) -> IpAddr {
    let number = next(chance) % 40;
    match number % 2 {
        0 => Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into(),
        _ => Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number)).into(),
    }
}

/// Where the clock is next: a little later, where a token comes, far away, at its end, or back.
fn moved(now: u64, full_at: u64, limit: &Limit, chance: &mut u64) -> u64 {
    let then = match next(chance) % 16 {
        0..=4 => now,
        5..=8 => now.saturating_add(next(chance) % (limit.emission_ns().saturating_mul(2))),
        9 => full_at.saturating_sub(limit.room_ns() - limit.emission_ns()),
        10 => full_at
            .saturating_sub(limit.room_ns() - limit.emission_ns())
            .saturating_sub(1),
        11 => full_at,
        12 => now.saturating_sub(next(chance) % limit.room_ns()),
        13 => now.saturating_add(next(chance) % limit.room_ns()),
        14 => next(chance) >> (next(chance) % 64),
        _ => u64::MAX - next(chance) % 1000,
    };
    // 0 would be the clock of the kernel.
    then.max(1)
}

#[test]
fn program_equals_step_over_random_limits_sources_and_times() {
    let mut program = load(1 << 12);
    let mut buckets: HashMap<IpAddr, u64> = HashMap::new();
    let (mut chance, mut now, mut outcomes) = (11, 1, [0_u64; 3]);
    let mut current = limit(&mut chance);
    for number in 0..STEPS {
        // Mostly the same limit, so that buckets become empty.
        if next(&mut chance).is_multiple_of(50) {
            current = limit(&mut chance);
        }
        let from = source(&mut chance);
        let bucket = buckets.get(&from).copied().unwrap_or(0);
        now = moved(now, bucket, &current, &mut chance);
        // At the end of the clock nothing would come back any more.
        if number % 1000 == 0 {
            now = next(&mut chance) % (1 << 60) + 1;
            for from in std::mem::take(&mut buckets).into_keys() {
                forget(&mut program, from);
            }
        }
        let bucket = buckets.get(&from).copied().unwrap_or(0);
        let (expected, decision) = step(bucket, now, &current, 1);
        program.at(&Policy::new(Some(current), &[PORT]).unwrap(), now);
        let judged = program.judge(
            &Packet {
                from,
                ..packet("::1")
            }
            .bytes(),
        );
        let verdict = match decision.outcome {
            Outcome::Allowed => Verdict::Pass,
            Outcome::Denied | Outcome::Never => Verdict::Drop,
        };
        let asked = (number, from, bucket, now, current);
        assert_eq!(judged, verdict, "{asked:?}");
        if decision.is_allowed() {
            buckets.insert(from, expected);
        }
        // A bucket that never gave anything is none.
        assert_eq!(
            full_at(&program, from),
            buckets.get(&from).copied(),
            "{asked:?}"
        );
        outcomes[decision.outcome as usize] += 1;
    }
    let counters = program.counters().unwrap();
    assert_eq!(
        (counters.passed, counters.limited),
        (outcomes[0], outcomes[1])
    );
    assert_eq!(counters.total(), STEPS);
    // One of the two alone would prove little.
    assert!(
        outcomes[0] > STEPS / 10 && outcomes[1] > STEPS / 10,
        "{outcomes:?}"
    );
}

/// Threads ask for the tokens of one source, on as many CPUs as there are.
#[test]
fn sources_on_several_cpus_get_each_token_once() {
    const THREADS: u64 = 4;
    const PACKETS: u64 = 5000;
    const BURST: u32 = 8000;
    let mut program = load(1 << 12);
    program.at(&policy(1_000_000, BURST), 1 << 50);
    let bytes = packet("192.0.2.1").bytes();
    let passed: usize = std::thread::scope(|scope| {
        let work = || {
            (0..PACKETS)
                .filter(|_| program.judge(&bytes) == Verdict::Pass)
                .count()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let counters = program.counters().unwrap();
    assert_eq!(counters.total(), THREADS * PACKETS);
    assert_eq!(counters.passed, u64::from(BURST));
    assert_eq!(passed as u64, counters.passed + counters.contended);
}

/// What a packet may meet while a limit is written: a time of one limit with the burst of another,
/// which is more than the clock goes.
#[test]
fn halves_of_two_limits_do_not_wrap() {
    let mut program = load(1 << 12);
    let bytes = packet("192.0.2.1").bytes();
    let mut policy = words(&policy(1, u32::MAX), 1 << 50);
    policy[0] = (100 * 365 * 24 * 3600) * 1_000_000_000;
    program.set_policy(&policy).unwrap();
    let passed = (0..10).filter(|_| program.judge(&bytes) == Verdict::Pass);
    assert_eq!(passed.count(), 10);
}
