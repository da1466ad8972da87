use prost::Message;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use valkyrie_frame::{Frame, FrameLimits, MessageType, StreamId, th0, v2};

use crate::{Hex, load};

#[derive(Deserialize)]
struct Vector {
    hello_frame: Hex,
    hello: Hello,
    ack_frame: Hex,
    ack: Ack,
    th0: Hex,
}

type Limits = (u32, u32, u32, Vec<u32>, u32, u32);

#[derive(Deserialize)]
struct Hello {
    version_min: u32,
    version_max: u32,
    modes: Vec<u32>,
    features: u64,
    random: Hex,
    limits: Limits,
    role: u32,
    node: String,
    keepalive_ms: u32,
    authority: String,
    resume: Hex,
}

#[derive(Deserialize)]
struct Ack {
    version: u32,
    mode: u32,
    features: u64,
    hello_sha256: Hex,
    random: Hex,
    modes: Vec<u32>,
    limits: Limits,
    role: u32,
    node: String,
    session: Hex,
}

fn limits(
    (frame_max, message_max, connection_window, class_window, streams_max, calls_max): Limits,
) -> Option<v2::Limits> {
    Some(v2::Limits {
        frame_max,
        message_max,
        connection_window,
        class_window,
        streams_max,
        calls_max,
    })
}

impl Hello {
    fn message(self) -> v2::Hello {
        v2::Hello {
            version_min: self.version_min,
            version_max: self.version_max,
            modes: self.modes,
            features: self.features,
            random: self.random.0,
            limits: limits(self.limits),
            role: self.role,
            node: self.node,
            keepalive_ms: self.keepalive_ms,
            authority: self.authority,
            resume: self.resume.0,
        }
    }
}

impl Ack {
    fn message(self) -> v2::HelloAck {
        v2::HelloAck {
            version: self.version,
            mode: self.mode,
            features: self.features,
            hello_sha256: self.hello_sha256.0,
            random: self.random.0,
            modes: self.modes,
            limits: limits(self.limits),
            role: self.role,
            node: self.node,
            session: self.session.0,
        }
    }
}

/// The body of a frame of stream 0 that fits before authentication.
fn body(kind: MessageType, frame: &Hex) -> &[u8] {
    let mut input = frame.0.as_slice();
    let frame = Frame::parse(&mut input, FrameLimits::PRE_AUTH)
        .unwrap()
        .unwrap();
    assert_eq!(
        (frame.header.kind, frame.header.stream),
        (kind, StreamId::CONTROL)
    );
    frame.body
}

#[test]
fn the_handshake_reads_writes_and_hashes_as_specified() {
    for vector in load::<Vector>("hello.json") {
        let hello = vector.hello.message();
        let hello_body = body(MessageType::HELLO, &vector.hello_frame);
        assert_eq!(v2::Hello::decode(hello_body).unwrap(), hello);
        assert_eq!(hello.encode_to_vec(), hello_body);

        let ack = vector.ack.message();
        let ack_body = body(MessageType::HELLO_ACK, &vector.ack_frame);
        assert_eq!(v2::HelloAck::decode(ack_body).unwrap(), ack);
        assert_eq!(ack.encode_to_vec(), ack_body);

        assert_eq!(Sha256::digest(&vector.hello_frame.0)[..], ack.hello_sha256);
        assert_eq!(
            th0(&vector.hello_frame.0, &vector.ack_frame.0)[..],
            vector.th0.0
        );
    }
}
