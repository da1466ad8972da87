//! Length fields that lie, and headers that are none: only the header is ever sent, so that a
//! session which believes it takes memory for nothing.

use valkyrie_frame::{ErrorCode, MessageType, v2};
use valkyrie_session::Side;

use crate::case::{Case, Given, given, ready};
use crate::wire::{CHANNELS, f};

const PRE_AUTH_MAX: u32 = 16_384;
const CONTROL_MAX: u32 = 65_536;
const FRAME_MAX: u32 = 262_144;
const FRAME_FLOOR: u32 = 65_536;

/// Every state in which frames come.
const STATES: [Given; 5] = [
    Given::Accepted,
    Given::Offered,
    Given::Chosen,
    Given::Ready(Side::Acceptor),
    Given::Ready(Side::Initiator),
];

pub fn cases() -> Vec<Case> {
    let mut cases = not_frames();
    cases.extend(before_authentication());
    cases.extend(on_control());
    cases.extend(on_streams());
    cases
}

fn not_frames() -> Vec<Case> {
    let mut cases = Vec::new();
    let (magic, version) = (ErrorCode::MAGIC, ErrorCode::VERSION_MISMATCH);
    for state in STATES {
        for (what, start, rule, code) in [
            ("one wrong byte", &b"S"[..], "R-3.1", magic),
            ("half a magic", b"RR", "R-3.1", magic),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n", "R-3.1", magic),
            ("a TLS hello", &[0x16, 3, 1, 0, 0xff], "R-3.1", magic),
            ("version 0", b"RC\0", "R-3.2", version),
            ("version 1", b"RC\x01", "R-3.2", version),
            ("version 3", b"RC\x03", "R-3.2", version),
            ("version 255", b"RC\xff", "R-3.2", version),
        ] {
            let name = format!("lengths/{what} in {state:?}");
            let case = given(state, name).bytes(start.to_vec());
            cases.push(case.ends_connection(rule, code));
        }
    }
    cases
}

fn before_authentication() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = MessageType::ALL.iter().filter(|kind| kind.is_pre_auth());
    for &kind in kinds {
        for state in [Given::Accepted, Given::Offered, Given::Chosen] {
            for claim in [PRE_AUTH_MAX + 1, u32::MAX] {
                let name = format!("lengths/{kind} claims {claim} in {state:?}");
                let case = given(state, name).send(f(kind, 0).claims(claim));
                cases.push(case.ends_connection("R-3.3", ErrorCode::TOO_LARGE));
            }
        }
        let name = format!("lengths/{kind} of {PRE_AUTH_MAX} is begun");
        let begun = given(Given::Accepted, name).send(f(kind, 0).claims(PRE_AUTH_MAX));
        cases.push(begun.keeps("R-3.3"));
    }
    cases
}

fn on_control() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [
        MessageType::PING,
        MessageType::PONG,
        MessageType::ERROR,
        MessageType::CLOSE,
        MessageType::UPGRADE,
        MessageType::NEGOTIATE,
        MessageType::STREAM_ACK,
        MessageType(0x4f),
        MessageType(0x80),
    ] {
        for claim in [CONTROL_MAX + 1, FRAME_MAX, u32::MAX] {
            let name = format!("lengths/{kind} claims {claim} on stream 0");
            let case = ready(name).send(f(kind, 0).claims(claim));
            cases.push(case.ends_connection("R-3.3", ErrorCode::TOO_LARGE));
        }
    }
    cases
}

fn on_streams() -> Vec<Case> {
    let small = v2::Limits {
        frame_max: FRAME_FLOOR,
        ..Default::default()
    };
    let mut cases = Vec::new();
    for (kind, stream) in streams() {
        for claim in [FRAME_MAX + 1, u32::MAX] {
            let name = format!("lengths/{kind} claims {claim} on {stream}");
            let case = ready(name).send(f(kind, stream).claims(claim));
            cases.push(case.ends_connection("R-3.3", ErrorCode::TOO_LARGE));
        }
        let name = format!("lengths/{kind} claims a byte over the smallest frame_max on {stream}");
        let case = ready(name).limits(small.clone());
        let case = case.send(f(kind, stream).claims(FRAME_FLOOR + 1));
        cases.push(case.ends_connection("R-3.3", ErrorCode::TOO_LARGE));
    }
    cases
}

/// A type with a stream where it belongs, or a channel.
fn streams() -> Vec<(MessageType, u32)> {
    let mut all: Vec<_> = [
        (MessageType::STREAM_OPEN, 1001),
        (MessageType::STREAM_DATA, 1001),
        (MessageType::STREAM_CLOSE, 1001),
        (MessageType::STREAM_RESET, 1001),
        (MessageType::STREAM_ACK, 1001),
        (MessageType::ERROR, 1001),
        (MessageType::FILE_TRANSFER_START, 1001),
        (MessageType::FILE_TRANSFER_CHUNK, 1001),
        (MessageType::FILE_TRANSFER_COMPLETE, 1001),
        (MessageType::LOG_ENTRY, 10_001),
        (MessageType(0x80), 3),
    ]
    .into();
    all.extend((0x20..=0x27).map(|kind| (MessageType(kind), 101)));
    for channel in CHANNELS {
        all.push((MessageType::CALL, channel));
        all.push((MessageType::REPLY, channel));
        all.push((MessageType::MESSAGE, channel));
        all.push((MessageType::CANCEL, channel));
    }
    all
}
