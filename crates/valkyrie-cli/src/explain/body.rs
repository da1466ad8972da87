//! The body of a frame by its type.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use valkyrie_frame::limits::METADATA_MAX;
use valkyrie_frame::{
    ClosePayload, CompressedBody, Compression, ErrorCode, ErrorFlags, ErrorPayload, FileChunk,
    FileComplete, FileStart, Flags, Frame, LogEntry, LogRecord, LogRecords, MessageType,
    PayloadError, Ping, StreamAck, StreamClass, StreamClose, StreamReset,
};

use super::bytes::hex;
use super::{Broken, Fields, Preview, schema};

/// Records of a LOG_ENTRY that are shown; the others are counted.
const RECORDS_SHOWN: usize = 64;

/// The fields of a message whose whole body is `message`.
pub(crate) fn explain(
    frame: &Frame<'_>,
    message: &[u8],
    preview: Preview,
    broken: &mut Vec<Broken>,
) -> Fields {
    let (kind, flags) = (frame.header.kind, frame.header.flags);
    if flags.contains(Flags::END_TO_END_SEALED) {
        return opaque(message, preview);
    }
    let explained = if flags.contains(Flags::COMPRESSED) {
        compressed(message, preview).map_err(|error| Broken::payload("R-6.8", error))
    } else if let Some(descriptor) = schema::of(kind) {
        structured(descriptor, message, preview)
    } else {
        raw(kind, message, preview).map_err(|error| Broken::payload(rule_of(kind, &error), error))
    };
    match explained {
        Ok(fields) => {
            check_metadata(kind, &fields, broken);
            fields
        }
        Err(problem) => {
            broken.push(problem);
            opaque(message, preview)
        }
    }
}

/// A body whose layout is the application's.
pub(crate) fn opaque(bytes: &[u8], preview: Preview) -> Fields {
    let mut fields = Fields::new();
    preview.put(bytes, &mut fields);
    fields
}

/// One fragment of a message that is `length` bytes long so far.
pub(crate) fn fragment(bytes: &[u8], length: usize, preview: Preview) -> Fields {
    let mut fields = opaque(bytes, preview);
    fields.insert("message_bytes_so_far".to_owned(), length.into());
    fields
}

fn structured(
    descriptor: prost_reflect::MessageDescriptor,
    message: &[u8],
    preview: Preview,
) -> Result<Fields, Broken> {
    DynamicMessage::decode(descriptor, message)
        .map(|decoded| schema::fields(&decoded, preview))
        .map_err(|error| Broken::new("R-4.5", ErrorCode::MALFORMED, error.to_string()))
}

fn compressed(message: &[u8], preview: Preview) -> Result<Fields, PayloadError> {
    let body = CompressedBody::parse(message)?;
    let algorithm = match body.algorithm {
        Compression::LZ4 => "lz4".to_owned(),
        Compression::ZSTD => "zstd".to_owned(),
        Compression(other) => format!("unknown({other})"),
    };
    let mut fields = Fields::new();
    fields.insert("compression".to_owned(), algorithm.into());
    fields.insert("raw_bytes".to_owned(), body.raw_bytes.into());
    preview.put(body.data, &mut fields);
    Ok(fields)
}

/// Bodies with a fixed layout; everything else is opaque.
fn raw(kind: MessageType, body: &[u8], preview: Preview) -> Result<Fields, PayloadError> {
    let value = match kind {
        MessageType::PING | MessageType::PONG => {
            let Ping(token) = Ping::parse(body)?;
            json!({ "token": hex(&token) })
        }
        MessageType::ERROR => error(&ErrorPayload::parse(body)?),
        MessageType::CLOSE => {
            let close = ClosePayload::parse(body)?;
            let (code, drain_ms) = (close.code, close.drain_ms);
            let mut value =
                json!({ "code": code.0, "code_name": code.name(), "drain_ms": drain_ms });
            if let (Value::Object(fields), Some(served)) = (&mut value, close.served) {
                for (class, count) in StreamClass::WITH_STREAMS.into_iter().zip(served) {
                    fields.insert(format!("served_{class}"), count.into());
                }
            }
            value
        }
        MessageType::STREAM_ACK => {
            let StreamAck { consumed, limit } = StreamAck::parse(body)?;
            json!({ "consumed": consumed, "limit": limit })
        }
        MessageType::STREAM_CLOSE => {
            let StreamClose {
                final_offset,
                status,
            } = StreamClose::parse(body)?;
            json!({ "final_offset": final_offset, "status": status.0, "status_name": status.name() })
        }
        MessageType::STREAM_RESET => {
            let StreamReset { final_offset, code } = StreamReset::parse(body)?;
            json!({ "final_offset": final_offset, "code": code.0, "code_name": code.name() })
        }
        MessageType::FILE_TRANSFER_START => {
            let file = FileStart::parse(body)?;
            let (id, digest) = (hex(&file.id), hex(&file.digest));
            json!({ "id": id, "size": file.size, "blake3": digest, "name": file.name })
        }
        MessageType::FILE_TRANSFER_CHUNK => {
            let chunk = FileChunk::parse(body)?;
            let mut fields = Fields::new();
            fields.insert("offset".to_owned(), chunk.offset.into());
            preview.put(chunk.bytes, &mut fields);
            fields.into()
        }
        MessageType::FILE_TRANSFER_COMPLETE => {
            json!({ "blake3": hex(&FileComplete::parse(body)?.digest) })
        }
        MessageType::LOG_ENTRY => log(&LogEntry::parse(body)?, preview),
        _ => opaque(body, preview).into(),
    };
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Fields::new()),
    }
}

fn error(error: &ErrorPayload<'_>) -> Value {
    json!({
        "code": error.code.0,
        "code_name": error.code.name(),
        "retryable": error.flags.contains(ErrorFlags::RETRYABLE),
        "connection_ends": error.flags.contains(ErrorFlags::CONNECTION_ENDS),
        "retry_after_ms": error.retry_after_ms,
        "text": error.text,
    })
}

fn log(entry: &LogEntry<'_>, preview: Preview) -> Value {
    let record = |record: LogRecord<'_>| {
        let step = match record.step {
            LogRecord::JOB => "job".into(),
            step => Value::from(step),
        };
        json!({
            "unix_ns": record.unix_ns,
            "step": step,
            "channel": record.channel.name(),
            "goes_on": record.channel.is_partial(),
            "line": preview.value(record.bytes),
        })
    };
    // parse() has walked over all of them, so none is an error.
    let records = || LogRecords::new(entry.records).flatten();
    let shown: Vec<Value> = records().take(RECORDS_SHOWN).map(record).collect();
    json!({
        "offset": entry.offset,
        "end": entry.end(),
        "record_count": records().count(),
        "records": shown,
    })
}

/// The rule about the layout of a raw body.
const fn rule_of(kind: MessageType, error: &PayloadError) -> &'static str {
    match kind {
        MessageType::PING | MessageType::PONG => "R-14.1",
        MessageType::ERROR => "R-15.8",
        MessageType::CLOSE => "R-16.6",
        MessageType::STREAM_CLOSE | MessageType::STREAM_RESET => "R-8.11",
        MessageType::STREAM_ACK => "R-9.5",
        MessageType::LOG_ENTRY if is_about_offset(error) => "R-12.3",
        MessageType::LOG_ENTRY => "R-12.4",
        MessageType::FILE_TRANSFER_CHUNK if matches!(error, PayloadError::Value { .. }) => "R-13.2",
        _ => "R-13.6",
    }
}

/// Whether the offset of a LOG_ENTRY is wrong, or not there.
const fn is_about_offset(error: &PayloadError) -> bool {
    match error {
        PayloadError::Value { .. } => true,
        PayloadError::Truncated { what, .. } => matches!(what.as_bytes(), b"log offset"),
        _ => false,
    }
}

fn check_metadata(kind: MessageType, fields: &Fields, broken: &mut Vec<Broken>) {
    let entries = fields.get("metadata").and_then(Value::as_object);
    let count = entries.map_or(0, serde_json::Map::len);
    if kind == MessageType::STREAM_OPEN && count > METADATA_MAX {
        broken.push(Broken::new(
            "R-8.3",
            ErrorCode::MALFORMED,
            format!("{count} metadata entries are over the limit of {METADATA_MAX}"),
        ));
    }
}
