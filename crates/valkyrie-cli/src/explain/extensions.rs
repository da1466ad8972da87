//! The extension block of a frame.

use serde_json::{Value, json};
use valkyrie_frame::{
    ErrorCode, Extension, ExtensionType, Extensions, Need, PayloadError, TraceContext,
};

use super::bytes::hex;
use super::{Broken, Preview};

/// Name, criticality and value of every entry; rules that entries break go to `broken`.
pub(crate) fn explain(
    extensions: &Extensions<'_>,
    preview: Preview,
    broken: &mut Vec<Broken>,
) -> Vec<Value> {
    if let Some(kind) = extensions.unknown_critical() {
        broken.push(Broken::new(
            "R-5.5",
            ErrorCode::CRITICAL_EXTENSION,
            format!("extension {} is critical and not known", kind.0),
        ));
    }
    let wrong = [
        extensions.method().err(),
        extensions.deadline_ms().err(),
        extensions.idempotency_key().err(),
    ];
    for error in wrong.into_iter().flatten() {
        broken.push(Broken::payload("R-5.6", error));
    }
    if let Err(error) = extensions.content_type() {
        broken.push(Broken::payload("R-5.6", error));
    }
    if let Err(error) = extensions.metadata() {
        broken.push(Broken::new("R-5.9", error.code(), error.to_string()));
    }
    extensions
        .iter()
        .map(|entry| {
            json!({
                "name": entry.kind.to_string(),
                "number": entry.kind.0,
                "critical": entry.need == Need::Critical,
                "value": value(&entry, extensions, preview).unwrap_or_else(|_| preview.value(entry.value)),
            })
        })
        .collect()
}

/// The value in the form that its type has.
fn value(
    entry: &Extension<'_>,
    all: &Extensions<'_>,
    preview: Preview,
) -> Result<Value, PayloadError> {
    let bytes = entry.value;
    Ok(match entry.kind {
        ExtensionType::DEADLINE => all.deadline_ms()?.into(),
        ExtensionType::IDEMPOTENCY_KEY => hex(bytes).into(),
        ExtensionType::TRACEPARENT => match TraceContext::parse(bytes) {
            Some(context) => context.to_string().into(),
            // Dropped by its receiver, so no rule is broken.
            None => format!("{} (not a trace context, dropped)", hex(bytes)).into(),
        },
        ExtensionType::METADATA => match all.metadata() {
            Ok(metadata) => {
                let entries = metadata.iter();
                let entries = entries.map(|(name, value)| (name.to_owned(), preview.value(value)));
                Value::Object(entries.collect())
            }
            Err(_) => hex(bytes).into(),
        },
        _ => preview.value(bytes),
    })
}
