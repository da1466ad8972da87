use serde::Deserialize;
use valkyrie_frame::{
    ClosePayload, CompressedBody, ErrorCode, ErrorPayload, Extensions, FileChunk, FileComplete,
    FileStart, Frame, FrameLimits, LogEntry, PayloadError, Ping, StreamAck, StreamClose,
    StreamReset,
};

use crate::{Hex, load};

#[derive(Deserialize)]
struct Vector {
    name: String,
    input: String,
    bytes: Hex,
    code: u16,
    rule: String,
    payload_bytes_max: Option<u32>,
}

/// Parses whole frames until the first error and returns its code and rule.
fn frame_refusal(vector: &Vector) -> Option<(u16, &'static str)> {
    let limits = FrameLimits {
        payload_bytes_max: vector.payload_bytes_max?,
    };
    let mut input = vector.bytes.0.as_slice();
    loop {
        match Frame::parse(&mut input, limits) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some((error.code().0, error.rule())),
        }
    }
}

fn extensions_error(payload: &[u8]) -> Option<ErrorCode> {
    let (extensions, _) = Extensions::split(payload).expect("the structure is sound");
    let (method, deadline) = (extensions.method().err(), extensions.deadline_ms().err());
    let (key, kind) = (
        extensions.idempotency_key().err(),
        extensions.content_type().err(),
    );
    let error = method.or(deadline).or(key).or(kind);
    let metadata = extensions.metadata().err();
    error
        .map(|error| error.code())
        .or(metadata.map(|error| error.code()))
}

fn payload_error(kind: &str, body: &[u8]) -> Option<PayloadError> {
    match kind {
        "error" => ErrorPayload::parse(body).err(),
        "ping" => Ping::parse(body).err(),
        "close" => ClosePayload::parse(body).err(),
        "stream_close" => StreamClose::parse(body).err(),
        "stream_reset" => StreamReset::parse(body).err(),
        "stream_ack" => StreamAck::parse(body).err(),
        "compressed" => CompressedBody::parse(body).err(),
        "file_start" => FileStart::parse(body).err(),
        "file_chunk" => FileChunk::parse(body).err(),
        "file_complete" => FileComplete::parse(body).err(),
        "log_entry" => LogEntry::parse(body).err(),
        other => panic!("no check for {other}"),
    }
}

#[test]
fn invalid_bytes_are_refused_with_their_code_and_frames_with_their_rule() {
    for vector in load::<Vector>("invalid.json") {
        let code = match vector.input.as_str() {
            "frame" => frame_refusal(&vector).map(|(code, rule)| {
                assert_eq!(rule, vector.rule, "{}", vector.name);
                code
            }),
            "extensions" => extensions_error(&vector.bytes.0).map(|code| code.0),
            kind => payload_error(kind, &vector.bytes.0).map(|error| error.code().0),
        };
        assert_eq!(code, Some(vector.code), "{}", vector.name);
    }
}
