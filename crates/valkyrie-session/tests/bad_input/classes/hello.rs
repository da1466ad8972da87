//! HELLO and HELLO_ACK whose words are wrong.

use sha2::{Digest, Sha256};
use valkyrie_frame::{ErrorCode, Flags, MessageType, v2};

use crate::case::{Case, Given, given};
use crate::wire::{F, f, hello, structured};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

pub fn cases() -> Vec<Case> {
    let mut cases = offers();
    cases.extend(limits());
    cases.extend(choices());
    cases.extend(headers());
    cases
}

fn offered(name: &str, frame: F) -> Case {
    given(Given::Accepted, format!("hello/{name}")).send(frame)
}

fn offers() -> Vec<Case> {
    let (version, mode) = (ErrorCode::VERSION_MISMATCH, ErrorCode::MODE_REFUSED);
    let versions = |min, max| hello(|hello| (hello.version_min, hello.version_max) = (min, max));
    let modes = |modes: Vec<u32>| hello(|hello| hello.modes = modes);
    let random = |bytes| hello(|hello| hello.random = vec![1; bytes]);
    let node = |bytes| hello(|hello| hello.node = "n".repeat(bytes));
    vec![
        offered("only newer versions", versions(0x0201, 0x02ff)).ends_connection("R-7.2", version),
        offered("only older versions", versions(0, 0x01ff)).ends_connection("R-7.2", version),
        offered("no version", versions(0, 0)).ends_connection("R-7.2", version),
        offered("a range that is turned round", versions(u32::MAX, 0))
            .ends_connection("R-7.2", version),
        offered("the widest range", versions(0, u32::MAX)).keeps("R-7.2"),
        offered("no mode", modes(vec![])).ends_connection("R-7.4", mode),
        offered("mode 0", modes(vec![0])).ends_connection("R-7.4", mode),
        offered("a mode that is not allowed", modes(vec![2])).ends_connection("R-7.4", mode),
        offered("every mode but the one allowed", modes((2..5_000).collect()))
            .ends_connection("R-7.4", mode),
        offered("an unknown mode in front", modes(vec![77, 1])).keeps("R-7.4"),
        offered("no random", random(0)).ends_connection("R-7.8", MALFORMED),
        offered("31 bytes of random", random(31)).ends_connection("R-7.8", MALFORMED),
        offered("33 bytes of random", random(33)).ends_connection("R-7.8", MALFORMED),
        offered("16000 bytes of random", random(16_000)).ends_connection("R-7.8", MALFORMED),
        offered("a node of 256 bytes", node(256)).ends_connection("R-7.8", MALFORMED),
        offered("a node of 255 bytes", node(255)).keeps("R-7.8"),
        offered("every feature", hello(|hello| hello.features = u64::MAX)).keeps("R-7.7"),
    ]
}

/// A change of limits, its name, and whether it is too little.
type Change = (&'static str, fn(&mut v2::Limits));

fn limits() -> Vec<Case> {
    let too_little: [Change; 13] = [
        ("frame_max 1", |limits| limits.frame_max = 1),
        ("frame_max 65535", |limits| limits.frame_max = 65_535),
        ("message_max 1", |limits| limits.message_max = 1),
        ("message_max 65535", |limits| limits.message_max = 65_535),
        ("connection_window 1", |limits| limits.connection_window = 1),
        ("connection_window 65535", |limits| limits.connection_window = 65_535),
        ("window of system 4095", |limits| limits.class_window = vec![4095]),
        ("window of jobs 4095", |limits| limits.class_window = vec![0, 4095]),
        ("window of data 4095", |limits| limits.class_window = vec![0, 0, 4095]),
        ("window of logs 1", |limits| limits.class_window = vec![0, 0, 0, 1]),
        ("window of logs 4096", |limits| limits.class_window = vec![0, 0, 0, 4096]),
        ("window of logs 65535", |limits| limits.class_window = vec![0, 0, 0, 65_535]),
        ("window of system 1", |limits| limits.class_window = vec![1]),
    ];
    let enough: [Change; 4] = [
        ("the least of all", |limits| {
            *limits = v2::Limits {
                frame_max: 65_536,
                message_max: 65_536,
                connection_window: 65_536,
                class_window: vec![4096, 4096, 4096, 65_536],
                streams_max: 1,
                calls_max: 1,
            };
        }),
        ("the most of all", |limits| {
            *limits = v2::Limits {
                frame_max: u32::MAX,
                message_max: u32::MAX,
                connection_window: u32::MAX,
                class_window: vec![u32::MAX; 4],
                streams_max: u32::MAX,
                calls_max: u32::MAX,
            };
        }),
        ("four thousand windows", |limits| limits.class_window = vec![65_536; 4000]),
        ("nothing", |_| {}),
    ];
    let with = |change: fn(&mut v2::Limits)| {
        let mut limits = v2::Limits::default();
        change(&mut limits);
        limits
    };
    let mut cases = Vec::new();
    for (name, change) in too_little {
        let frame = hello(|hello| hello.limits = Some(with(change)));
        let case = offered(&format!("{name} in HELLO"), frame);
        cases.push(case.ends_connection("R-7.10", MALFORMED));
        let case = chosen(&format!("{name} in HELLO_ACK"), |ack| {
            ack.limits = Some(with(change));
        });
        cases.push(case.ends_connection("R-7.10", MALFORMED));
    }
    for (name, change) in enough {
        let frame = hello(|hello| hello.limits = Some(with(change)));
        cases.push(offered(&format!("limits: {name}"), frame).keeps("R-7.10"));
    }
    cases
}

/// The HELLO that every victim of this test sends.
fn victims_hello() -> Vec<u8> {
    let config = valkyrie_session::SessionConfig {
        keepalive: None,
        ..Default::default()
    };
    let side = valkyrie_session::Side::Initiator;
    let mut out = Vec::new();
    valkyrie_session::Session::new(side, config, [9; 32])
        .transmit(valkyrie_frame::Time::ZERO, &mut out);
    out
}

/// A HELLO_ACK with one thing changed.
fn ack(change: impl FnOnce(&mut v2::HelloAck)) -> F {
    let mut ack = v2::HelloAck {
        version: 0x0200,
        mode: 1,
        hello_sha256: Sha256::digest(victims_hello()).to_vec(),
        random: vec![2; 32],
        modes: vec![1],
        ..Default::default()
    };
    change(&mut ack);
    structured(MessageType::HELLO_ACK, &ack)
}

fn chosen(name: &str, change: impl FnOnce(&mut v2::HelloAck)) -> Case {
    given(Given::Offered, format!("hello/{name}")).send(ack(change))
}

fn choices() -> Vec<Case> {
    let downgrade = ErrorCode::DOWNGRADE;
    let refused = |case: Case| case.ends_connection("R-7.5", downgrade);
    let identity = |case: Case| case.ends_connection("R-7.8", MALFORMED);
    let mut cases = vec![
        chosen("an answer as it should be", |_| {}).keeps("R-7.5"),
        refused(chosen("an older version chosen", |ack| ack.version = 0x01ff)),
        refused(chosen("a newer version chosen", |ack| ack.version = 0x0201)),
        refused(chosen("version 0 chosen", |ack| ack.version = 0)),
        refused(chosen("a mode chosen that was not offered", |ack| ack.mode = 2)),
        refused(chosen("mode 0 chosen", |ack| ack.mode = 0)),
        refused(chosen("mode u32::MAX chosen", |ack| ack.mode = u32::MAX)),
        refused(chosen("a feature chosen that was not offered", |ack| ack.features = 1)),
        refused(chosen("every feature chosen", |ack| ack.features = u64::MAX)),
        refused(chosen("the hash of another HELLO", |ack| ack.hello_sha256 = vec![0; 32])),
        refused(chosen("no hash", |ack| ack.hello_sha256 = vec![])),
        refused(chosen("half a hash", |ack| ack.hello_sha256.truncate(16))),
        identity(chosen("no random in the answer", |ack| ack.random = vec![])),
        identity(chosen("31 bytes of random in the answer", |ack| ack.random = vec![2; 31])),
        identity(chosen("33 bytes of random in the answer", |ack| ack.random = vec![2; 33])),
        identity(chosen("a node of 256 bytes in the answer", |ack| ack.node = "n".repeat(256))),
    ];
    for bytes in [1, 15, 17, 32] {
        let case = chosen(&format!("a session of {bytes} bytes"), |ack| {
            ack.session = vec![0; bytes];
        });
        cases.push(identity(case));
    }
    cases
}

/// Both are frozen: no flags, no correlation.
fn headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, change) in [
        ("the flag ACK_REQUESTED", Flags::ACK_REQUESTED),
        ("the flag ACK", Flags::ACK),
        ("the flag END_OF_STREAM", Flags::END_OF_STREAM),
        ("the flag MORE_FRAGMENTS", Flags::MORE_FRAGMENTS),
        ("the flag URGENT", Flags::URGENT),
    ] {
        let case = offered(&format!("HELLO with {what}"), hello(|_| {}).flags(change));
        cases.push(case.ends_connection("R-7.1", ErrorCode::UNEXPECTED));
        let case = given(Given::Offered, format!("hello/HELLO_ACK with {what}"));
        let case = case.send(ack(|_| {}).flags(change));
        cases.push(case.ends_connection("R-7.1", ErrorCode::UNEXPECTED));
    }
    let case = offered("HELLO with extensions", hello(|_| {}).ext(64, b""));
    cases.push(case.ends_connection("R-7.1", ErrorCode::UNEXPECTED));
    let case = offered("HELLO with a correlation", hello(|_| {}).call(0x1001));
    cases.push(case.ends_connection("R-7.1", ErrorCode::UNEXPECTED));
    let case = given(Given::Offered, "hello/HELLO_ACK with a correlation");
    let case = case.send(ack(|_| {}).call(0x1001));
    cases.push(case.ends_connection("R-7.1", ErrorCode::UNEXPECTED));
    let short = offered("HELLO without a body", f(MessageType::HELLO, 0));
    cases.push(short.ends_connection("R-7.8", MALFORMED));
    cases
}
