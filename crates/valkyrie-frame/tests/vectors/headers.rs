use serde::Deserialize;
use valkyrie_frame::{
    Correlation, Extensions, Flags, Frame, FrameLimits, Header, MessageType, Priority, StreamId,
    TraceByte,
};

use crate::{Hex, load};

#[derive(Deserialize)]
struct Vector {
    name: String,
    frame: Hex,
    #[serde(rename = "type")]
    kind: u8,
    type_name: Option<String>,
    flags: u8,
    flag_names: Vec<String>,
    priority: u8,
    trace: u8,
    stream: u32,
    length: u32,
    correlation: u32,
    timestamp: u32,
    body: Hex,
    canonical: bool,
}

impl Vector {
    fn header(&self) -> Header {
        Header {
            kind: MessageType(self.kind),
            flags: Flags(self.flags),
            priority: Priority(self.priority),
            trace: TraceByte(self.trace),
            stream: StreamId(self.stream),
            length: self.length,
            correlation: Correlation(self.correlation),
            timestamp: self.timestamp,
        }
    }
}

#[test]
fn headers_read_to_their_fields_and_write_to_their_bytes() {
    for vector in load::<Vector>("headers.json") {
        let mut input = vector.frame.0.as_slice();
        let frame = Frame::parse(&mut input, FrameLimits::DEFAULT)
            .unwrap()
            .unwrap();
        let expected = Frame {
            header: vector.header(),
            extensions: Extensions::EMPTY,
            body: &vector.body.0,
        };
        assert_eq!(frame, expected, "{}", vector.name);
        assert!(input.is_empty(), "{}", vector.name);
        if vector.canonical {
            let mut written = Vec::new();
            frame.header.append(&mut written);
            written.extend_from_slice(frame.body);
            assert_eq!(written, vector.frame.0, "{}", vector.name);
        }
    }
}

#[test]
fn types_and_flags_have_the_names_of_the_specification() {
    let vectors = load::<Vector>("headers.json");
    let named: Vec<_> = vectors
        .iter()
        .filter_map(|vector| vector.type_name.as_deref())
        .collect();
    let known: Vec<_> = MessageType::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(known, named);
    for vector in vectors {
        if let Some(name) = &vector.type_name {
            assert_eq!(MessageType(vector.kind).name(), name);
        }
        let flags = format!("{{{}}}", vector.flag_names.join(", "));
        assert_eq!(
            format!("{:?}", Flags(vector.flags)),
            flags,
            "{}",
            vector.name
        );
    }
}

#[test]
fn a_frame_in_pieces_waits_for_its_last_byte() {
    for vector in load::<Vector>("headers.json")
        .iter()
        .filter(|v| v.frame.0.len() < 200)
    {
        for end in 0..vector.frame.0.len() {
            let piece = &vector.frame.0[..end];
            let mut input = piece;
            let parsed = Frame::parse(&mut input, FrameLimits::DEFAULT);
            assert_eq!(parsed, Ok(None), "{} at {end}", vector.name);
            assert_eq!(input, piece, "nothing is taken");
        }
    }
}
