use serde::Deserialize;
use valkyrie_frame::{Extension, ExtensionType, ExtensionWriter, Extensions, Metadata, Need};

use crate::{Hex, load};

#[derive(Deserialize)]
struct Vector {
    name: String,
    payload: Hex,
    entries: Vec<Entry>,
    body: Hex,
    unknown_critical: Option<u8>,
    method: Option<String>,
    deadline_ms: Option<u32>,
    idempotency_key: Option<Hex>,
    trace_context: bool,
    content_type: Option<String>,
    metadata: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    value: Hex,
}

#[derive(Deserialize)]
struct Entry {
    number: u8,
    critical: bool,
    value: Hex,
}

impl Entry {
    fn extension(&self) -> Extension<'_> {
        let need = if self.critical {
            Need::Critical
        } else {
            Need::Optional
        };
        Extension {
            kind: ExtensionType(self.number),
            need,
            value: &self.value.0,
        }
    }
}

#[test]
fn blocks_read_to_their_entries_and_write_to_their_bytes() {
    for vector in load::<Vector>("extensions.json") {
        let (extensions, body) = Extensions::split(&vector.payload.0).unwrap();
        assert_eq!(body, vector.body.0, "{}", vector.name);
        let entries: Vec<_> = vector.entries.iter().map(Entry::extension).collect();
        assert_eq!(
            extensions.iter().collect::<Vec<_>>(),
            entries,
            "{}",
            vector.name
        );

        let mut written = Vec::new();
        let mut block = ExtensionWriter::new(&mut written);
        for entry in entries {
            block.entry(entry.kind, entry.need, entry.value).unwrap();
        }
        block.finish();
        written.extend_from_slice(body);
        assert_eq!(written, vector.payload.0, "{}", vector.name);
    }
}

#[test]
fn known_extensions_have_their_meaning() {
    for vector in load::<Vector>("extensions.json") {
        let (extensions, _) = Extensions::split(&vector.payload.0).unwrap();
        let name = &vector.name;
        assert_eq!(
            extensions.unknown_critical().map(|kind| kind.0),
            vector.unknown_critical
        );
        assert_eq!(extensions.method(), Ok(vector.method.as_deref()), "{name}");
        assert_eq!(extensions.deadline_ms(), Ok(vector.deadline_ms), "{name}");
        let key = extensions
            .idempotency_key()
            .unwrap()
            .map(|key| Hex(key.to_vec()));
        assert_eq!(key, vector.idempotency_key, "{name}");
        assert_eq!(
            extensions.trace_context().is_some(),
            vector.trace_context,
            "{name}"
        );
        let content_type = vector.content_type.as_deref();
        assert_eq!(extensions.content_type(), Ok(content_type), "{name}");
        let metadata = extensions.metadata().unwrap();
        let pairs = vector
            .metadata
            .iter()
            .map(|pair| (pair.name.as_str(), pair.value.0.as_slice()));
        assert!(metadata.iter().eq(pairs.clone()), "{name}");
        let mut written = Metadata::new();
        for (name, value) in pairs.rev() {
            written.insert(name, value).unwrap();
        }
        assert_eq!(written.view(), metadata, "{name}");
    }
}
