//! Reads `spec/vectors`, which are written from the text of the specification: every valid entry
//! has to be read to its values and written back to its bytes, every invalid one refused with its
//! error code.

#![cfg(test)]

mod extensions;
mod headers;
mod hello;
mod invalid;
mod logs;
mod observe;
mod payloads;
mod text;

use std::{fs, path::Path};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// All entries of one file.
fn load<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Bytes that are hexadecimal in the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert!(text.len() % 2 == 0, "odd number of digits: {text}");
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        Ok(Self((0..text.len()).step_by(2).map(byte).collect()))
    }
}

/// A number of 64 bits, which is text in the file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Wide(u64);

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.parse().unwrap()))
    }
}
