use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use valkyrie_frame::{
    ClosePayload, CompressedBody, Compression, ErrorCode, ErrorFlags, ErrorPayload, FileChunk,
    FileComplete, FileStart, LogEntry, PayloadError, Ping, StreamAck, StreamClose, StreamReset,
    TraceContext, v2,
};

use crate::{Hex, Wide, load, observe};

#[derive(Deserialize)]
pub(crate) struct Vector {
    name: String,
    pub(crate) kind: String,
    pub(crate) body: Hex,
    pub(crate) fields: Fields,
}

/// The fields of one payload by name.
#[derive(Deserialize)]
pub(crate) struct Fields(BTreeMap<String, Value>);

impl Fields {
    pub(crate) fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let value = self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no field {name}"));
        serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.get(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.get::<Hex>(name).0
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    pub(crate) fn wide(&self, name: &str) -> u64 {
        self.get::<Wide>(name).0
    }

    fn code(&self, name: &str) -> ErrorCode {
        ErrorCode(self.get(name))
    }

    fn attempt(&self) -> Option<v2::Attempt> {
        let (job, fence) = (self.wide("job"), self.wide("fence"));
        Some(v2::Attempt {
            job,
            number: self.get("attempt"),
            fence,
        })
    }
}

/// Reads `body` as the type has it, compares it with `expected` and writes it back.
fn check<'b, T: PartialEq + std::fmt::Debug>(
    body: &'b [u8],
    expected: T,
    parse: fn(&'b [u8]) -> Result<T, PayloadError>,
    append: fn(&T, &mut Vec<u8>),
) {
    let read = parse(body).unwrap();
    assert_eq!(read, expected);
    let mut written = Vec::new();
    append(&read, &mut written);
    assert_eq!(written, body);
}

/// The same for a Protocol Buffers message.
pub(crate) fn check_message<T: Message + Default + PartialEq + std::fmt::Debug>(
    body: &[u8],
    expected: &T,
) {
    assert_eq!(T::decode(body).unwrap(), *expected);
    assert_eq!(expected.encode_to_vec(), body);
}

fn check_control(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    match vector.kind.as_str() {
        "error" => {
            let text = fields.text("text");
            let expected = ErrorPayload {
                code: fields.code("code"),
                flags: ErrorFlags(fields.get("flags")),
                retry_after_ms: fields.get("retry_after_ms"),
                text: &text,
            };
            check(body, expected, ErrorPayload::parse, ErrorPayload::append);
        }
        "close" => {
            let drain_ms = fields.get("drain_ms");
            let expected = ClosePayload {
                code: fields.code("code"),
                drain_ms,
                served: fields
                    .get::<Option<[Wide; 4]>>("served")
                    .map(|all| all.map(|count| count.0)),
            };
            check(body, expected, ClosePayload::parse, ClosePayload::append);
        }
        "ping" => check(body, Ping(fields.array("token")), Ping::parse, Ping::append),
        "trace_context" => {
            let expected = TraceContext {
                trace_id: fields.array("trace_id"),
                parent_id: fields.array("parent_id"),
                flags: fields.get("flags"),
            };
            assert_eq!(TraceContext::parse(body), Some(expected));
            assert_eq!(expected.to_bytes(), body);
        }
        "compressed" => {
            let data = fields.bytes("data");
            let expected = CompressedBody {
                algorithm: Compression(fields.get("algorithm")),
                raw_bytes: fields.get("raw_bytes"),
                data: &data,
            };
            check(
                body,
                expected,
                CompressedBody::parse,
                CompressedBody::append,
            );
        }
        _ => return false,
    }
    true
}

fn check_stream(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    match vector.kind.as_str() {
        "stream_close" => {
            let (final_offset, status) = (fields.wide("final_offset"), fields.code("status"));
            let expected = StreamClose {
                final_offset,
                status,
            };
            check(body, expected, StreamClose::parse, StreamClose::append);
        }
        "stream_reset" => {
            let (final_offset, code) = (fields.wide("final_offset"), fields.code("code"));
            check(
                body,
                StreamReset { final_offset, code },
                StreamReset::parse,
                StreamReset::append,
            );
        }
        "stream_ack" => {
            let (consumed, limit) = (fields.wide("consumed"), fields.wide("limit"));
            check(
                body,
                StreamAck { consumed, limit },
                StreamAck::parse,
                StreamAck::append,
            );
        }
        "log_entry" => {
            let records = fields.bytes("records");
            let expected = LogEntry {
                offset: fields.wide("offset"),
                records: &records,
            };
            check(body, expected, LogEntry::parse, LogEntry::append);
        }
        _ => return false,
    }
    true
}

fn check_file(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    match vector.kind.as_str() {
        "file_start" => {
            let name = fields.text("name");
            let expected = FileStart {
                id: fields.array("id"),
                size: fields.wide("size"),
                digest: fields.array("digest"),
                name: &name,
            };
            check(body, expected, FileStart::parse, FileStart::append);
        }
        "file_chunk" => {
            let bytes = fields.bytes("bytes");
            let expected = FileChunk {
                offset: fields.wide("offset"),
                bytes: &bytes,
            };
            check(body, expected, FileChunk::parse, FileChunk::append);
        }
        "file_complete" => {
            let digest = fields.array("digest");
            check(
                body,
                FileComplete { digest },
                FileComplete::parse,
                FileComplete::append,
            );
        }
        _ => return false,
    }
    true
}

fn check_job(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    let attempt = || fields.attempt();
    match vector.kind.as_str() {
        "job_request" => {
            let resources = v2::Resources {
                cpu_millis: fields.get("cpu_millis"),
                memory_bytes: fields.wide("memory_bytes"),
                disk_bytes: 0,
            };
            let expected = v2::JobRequest {
                attempt: attempt(),
                content_type: fields.text("content_type"),
                spec: fields.bytes("spec"),
                resources: Some(resources),
                timeout_ms: fields.wide("timeout_ms"),
                lease_ms: fields.get("lease_ms"),
            };
            check_message(body, &expected);
        }
        "job_accept" => check_message(body, &v2::JobAccept { attempt: attempt() }),
        "job_reject" => {
            let (code, reason) = (fields.get("code"), fields.text("reason"));
            check_message(
                body,
                &v2::JobReject {
                    attempt: attempt(),
                    code,
                    reason,
                },
            );
        }
        "job_complete" => {
            let expected = v2::JobComplete {
                attempt: attempt(),
                content_type: String::new(),
                result: fields.bytes("result"),
                log_bytes: fields.wide("log_bytes"),
            };
            check_message(body, &expected);
        }
        "job_failed" => {
            let (cause, message) = (fields.text("cause"), fields.text("message"));
            let failed = v2::JobFailed {
                attempt: attempt(),
                cause,
                message,
                log_bytes: 0,
            };
            check_message(body, &failed);
        }
        "job_cancel" => {
            let (reason, grace_ms) = (fields.text("reason"), fields.get("grace_ms"));
            check_message(
                body,
                &v2::JobCancel {
                    attempt: attempt(),
                    reason,
                    grace_ms,
                },
            );
        }
        _ => return false,
    }
    true
}

fn check_session(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    match vector.kind.as_str() {
        "stream_open" => {
            let metadata: BTreeMap<String, Hex> = fields.get("metadata");
            let expected = v2::StreamOpen {
                method: fields.text("method"),
                metadata: metadata
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect(),
                window: fields.get("window"),
            };
            check_message(body, &expected);
        }
        "negotiate" => {
            let frame_max = fields.get::<Option<u32>>("frame_max");
            let expected = v2::Negotiate {
                number: fields.get("number"),
                answer: fields.get("answer"),
                features: fields.get::<Option<Wide>>("features").map(|bits| bits.0),
                keepalive_ms: fields.get("keepalive_ms"),
                limits: frame_max.map(|frame_max| v2::Limits {
                    frame_max,
                    streams_max: fields.get("streams_max"),
                    ..Default::default()
                }),
                text: fields.text("text"),
            };
            check_message(body, &expected);
        }
        "upgrade" => {
            let expected = v2::Upgrade {
                endpoint: fields.text("endpoint"),
                token: fields.bytes("token"),
                valid_ms: fields.get("valid_ms"),
                code: fields.get("code"),
                text: fields.text("text"),
            };
            check_message(body, &expected);
        }
        "auth_success" => {
            let (identity, expires) = (fields.text("identity"), fields.wide("expires_unix_ms"));
            check_message(
                body,
                &v2::AuthSuccess {
                    identity,
                    expires_unix_ms: expires,
                },
            );
        }
        _ => return false,
    }
    true
}

#[test]
fn payloads_read_to_their_fields_and_write_to_their_bytes() {
    let checks = [
        check_control,
        check_stream,
        check_file,
        check_job,
        check_session,
        observe::check,
    ];
    for vector in load::<Vector>("payloads.json") {
        let checked = checks.iter().any(|check| check(&vector));
        assert!(checked, "{}: no check for {}", vector.name, vector.kind);
    }
}
