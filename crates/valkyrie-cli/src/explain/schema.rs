//! Protocol Buffers bodies, shown by the names of their schema.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor};
use serde_json::Value;
use valkyrie_frame::MessageType;

use super::handshake::mode_name;
use super::{Fields, Preview};

/// The schemas of `spec/proto/valkyrie`.
static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/valkyrie.v2.bin"));
    DescriptorPool::decode(bytes).expect("the build made it of valid schemas")
});

/// The message that is the body of a type: the one that has its name, as HelloAck of HELLO_ACK. A
/// TRACE_SPAN alone holds several.
pub(crate) fn of(kind: MessageType) -> Option<MessageDescriptor> {
    if kind == MessageType::TRACE_SPAN {
        return named("TraceSpans");
    }
    let words = kind.name().split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    });
    named(&words.collect::<String>())
}

/// A message of the package `valkyrie.v2`.
fn named(name: &str) -> Option<MessageDescriptor> {
    SCHEMA.get_message_by_name(&format!("valkyrie.v2.{name}"))
}

/// The fields of a message in the order of their numbers; those at their defaults are left out,
/// as on the wire.
pub(crate) fn fields(message: &DynamicMessage, preview: Preview) -> Fields {
    let mut fields = Fields::new();
    for (field, value) in message.fields() {
        fields.insert(field.name().to_owned(), of_field(&field, value, preview));
    }
    let unknown: Vec<Value> = message
        .unknown_fields()
        .map(|field| field.number().into())
        .collect();
    if !unknown.is_empty() {
        fields.insert("unknown_fields".to_owned(), unknown.into());
    }
    fields
}

/// The value of a field, with the words of the specification for its numbers.
fn of_field(field: &FieldDescriptor, value: &prost_reflect::Value, preview: Preview) -> Value {
    let name = field.name();
    let parent = field.parent_message().name();
    match (value, parent, name) {
        (prost_reflect::Value::U32(version), "Hello" | "HelloAck", _)
            if name.starts_with("version") =>
        {
            format!("{}.{}", version >> 8, version & 0xFF).into()
        }
        (prost_reflect::Value::U32(mode), "HelloAck", "mode") => mode_name(*mode).into(),
        (prost_reflect::Value::List(modes), "Hello" | "HelloAck", "modes") => modes
            .iter()
            .filter_map(prost_reflect::Value::as_u32)
            .map(mode_name)
            .collect(),
        (prost_reflect::Value::U32(role), "Hello" | "HelloAck", "role") => role_name(*role).into(),
        _ => of_value(value, preview),
    }
}

fn of_value(value: &prost_reflect::Value, preview: Preview) -> Value {
    use prost_reflect::Value as Proto;
    match value {
        Proto::Bool(value) => (*value).into(),
        Proto::I32(value) | Proto::EnumNumber(value) => (*value).into(),
        Proto::I64(value) => (*value).into(),
        Proto::U32(value) => (*value).into(),
        Proto::U64(value) => (*value).into(),
        Proto::F32(value) => (*value).into(),
        Proto::F64(value) => (*value).into(),
        Proto::String(text) => text.clone().into(),
        Proto::Bytes(bytes) => preview.value(bytes),
        Proto::Message(message) => fields(message, preview).into(),
        Proto::List(values) => values
            .iter()
            .map(|value| of_value(value, preview))
            .collect(),
        Proto::Map(entries) => {
            let mut entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (of_key(key), of_value(value, preview)))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect())
        }
    }
}

fn of_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn role_name(role: u32) -> String {
    match role {
        0 => "client".to_owned(),
        1 => "runner".to_owned(),
        2 => "control_plane".to_owned(),
        3 => "relay".to_owned(),
        4 => "bridge".to_owned(),
        other => format!("unknown({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_with_a_schema_is_found_by_its_name() {
        let found: Vec<&str> = MessageType::ALL
            .iter()
            .filter(|kind| of(**kind).is_some())
            .map(|kind| kind.name())
            .collect();
        for name in [
            "hello",
            "hello_ack",
            "auth_success",
            "negotiate",
            "upgrade",
            "stream_open",
            "job_complete",
            "metrics_report",
            "trace_span",
            "health_check",
            "status_update",
            "alert_notification",
        ] {
            assert!(found.contains(&name), "{name} is not among {found:?}");
        }
        // Their bodies are raw, so no message may ever take one of these names.
        for kind in [
            MessageType::ERROR,
            MessageType::STREAM_ACK,
            MessageType::CALL,
        ] {
            assert!(of(kind).is_none(), "{kind}");
        }
    }
}
