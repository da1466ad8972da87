//! Requests and answers as JSON, by the .proto file of their service.

use std::path::{Path, PathBuf};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::failure::Failure;

/// The messages of one method.
#[derive(Debug)]
pub(crate) struct Schema {
    input: MessageDescriptor,
    output: MessageDescriptor,
}

impl Schema {
    /// Finds `method`, as package.Service/Method, in a .proto file.
    ///
    /// # Errors
    /// The file cannot be compiled, or has no such method.
    pub(crate) fn find(file: &Path, imports: &[PathBuf], method: &str) -> Result<Self, Failure> {
        let beside = [file.parent().unwrap_or(Path::new(".")).to_owned()];
        let imports = if imports.is_empty() { &beside } else { imports };
        let failed = |cause: String, hint| Failure::Input {
            what: file.display().to_string(),
            cause,
            hint,
        };
        let compiled = protox::compile([file], imports).map_err(|error| {
            failed(
                error.to_string(),
                Some("--import names where imports are".to_owned()),
            )
        })?;
        let pool = DescriptorPool::from_file_descriptor_set(compiled)
            .map_err(|error| failed(error.to_string(), None))?;
        let mut methods = pool.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods
                .into_iter()
                .map(move |method| (service.full_name().to_owned(), method))
        });
        let found = methods.find(|(service, known)| {
            method.split_once('/') == Some((service.as_str(), known.name()))
        });
        let Some((_, found)) = found else {
            return Err(failed(format!("it has no method {method}"), names(&pool)));
        };
        Ok(Self {
            input: found.input(),
            output: found.output(),
        })
    }

    /// The bytes of a request.
    ///
    /// # Errors
    /// The text is not JSON, or not that of the method's input.
    pub(crate) fn encode(&self, json: &str) -> Result<Vec<u8>, Failure> {
        let name = self.input.full_name().to_owned();
        let text = if json.trim().is_empty() { "{}" } else { json };
        let mut reader = serde_json::Deserializer::from_str(text);
        let message = DynamicMessage::deserialize(self.input.clone(), &mut reader)
            .and_then(|message| reader.end().map(|()| message));
        match message {
            Ok(message) => Ok(message.encode_to_vec()),
            Err(error) => Err(Failure::Input {
                what: "the body".to_owned(),
                cause: format!("not the JSON of {name}: {error}"),
                hint: None,
            }),
        }
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// The bytes are not the method's output.
    pub(crate) fn decode(&self, body: &[u8]) -> Result<serde_json::Value, Failure> {
        let name = self.output.full_name().to_owned();
        let failed = |cause: String| Failure::Input {
            what: "the answer".to_owned(),
            cause: format!("not a {name}: {cause}"),
            hint: Some("compare the .proto files of both sides".to_owned()),
        };
        let message = DynamicMessage::decode(self.output.clone(), body)
            .map_err(|error| failed(error.to_string()))?;
        serde_json::to_value(&message).map_err(|error| failed(error.to_string()))
    }
}

fn names(pool: &DescriptorPool) -> Option<String> {
    let names: Vec<String> = pool
        .services()
        .flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            let name = service.full_name().to_owned();
            methods
                .into_iter()
                .map(move |method| format!("{name}/{}", method.name()))
        })
        .collect();
    match names.is_empty() {
        true => Some("it declares no service".to_owned()),
        false => Some(format!("it has {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "syntax = \"proto3\"; package shop;
        message Order { string item = 1; uint32 count = 2; }
        message Bill { double total = 1; }
        service Till { rpc Pay(Order) returns (Bill); }";

    #[test]
    fn json_becomes_the_messages_of_a_method_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.proto");
        std::fs::write(&file, SERVICE).unwrap();
        let schema = Schema::find(&file, &[], "shop.Till/Pay").unwrap();
        let bytes = schema.encode(r#"{"item":"pen","count":2}"#).unwrap();
        assert_eq!(bytes, b"\x0a\x03pen\x10\x02");
        assert_eq!(schema.encode("").unwrap(), b"");
        let answer = schema.decode(&[9, 0, 0, 0, 0, 0, 0, 248, 63]).unwrap();
        assert_eq!(answer.to_string(), r#"{"total":1.5}"#);
        assert!(schema.encode(r#"{"colour":"red"}"#).is_err());
        assert!(schema.encode("{} {}").is_err());
        assert!(schema.decode(&[0xFF]).is_err());
        let failure = Schema::find(&file, &[], "shop.Till/Open").unwrap_err();
        assert_eq!(failure.hint(), Some("it has shop.Till/Pay"));
    }
}
