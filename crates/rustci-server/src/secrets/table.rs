//! The store's file: one JSON document with every sealed value.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable::replace_private;
use crate::hex;
use crate::secrets::seal::Sealed;
use crate::secrets::{Scope, SecretName, SecretsError};

/// The format written here.
const FORMAT: u32 = 1;

/// Everything in the store, sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Id of the key; empty while there is none.
    pub(super) key: String,
    pub(super) entries: BTreeMap<(Scope, SecretName), Entry>,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
    pub(super) sealed: Sealed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    key: String,
    secrets: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    project: Option<String>,
    name: String,
    version: u64,
    created_ms: u64,
    updated_ms: u64,
    nonce: String,
    sealed: String,
}

impl Table {
    /// Reads the file; an empty table when there is none.
    pub(super) fn load(path: &Path) -> Result<Self, SecretsError> {
        let damaged = |what| SecretsError::Damaged {
            path: path.to_owned(),
            what,
        };
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(SecretsError::io(path))?,
        };
        let document: Document =
            serde_json::from_slice(&text).map_err(|_| damaged("it is not the store's format"))?;
        if document.format != FORMAT {
            return Err(damaged("another version of RustCI wrote it"));
        }
        let entries = document.secrets.into_iter().map(Row::entry);
        let entries: Option<_> = entries.collect();
        Ok(Self {
            key: document.key,
            entries: entries.ok_or_else(|| damaged("a row has values that no row has"))?,
        })
    }

    /// Writes the file in one step.
    pub(super) fn save(&self, path: &Path) -> Result<(), SecretsError> {
        let document = Document {
            format: FORMAT,
            key: self.key.clone(),
            secrets: self.entries.iter().map(row).collect(),
        };
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|error| SecretsError::io(path)(error.into()))?;
        replace_private(path, &text).map_err(SecretsError::io(path))
    }
}

impl Row {
    fn entry(self) -> Option<((Scope, SecretName), Entry)> {
        let scope = Scope::of(self.project.as_deref()).ok()?;
        let name = SecretName::new(&self.name).ok()?;
        let sealed = Sealed {
            nonce: hex::decode(&self.nonce)?.try_into().ok()?,
            bytes: hex::decode(&self.sealed)?,
        };
        let entry = Entry {
            version: self.version,
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            sealed,
        };
        Some(((scope, name), entry))
    }
}

fn row(((scope, name), entry): (&(Scope, SecretName), &Entry)) -> Row {
    Row {
        project: scope.project().map(str::to_owned),
        name: name.to_string(),
        version: entry.version,
        created_ms: entry.created_ms,
        updated_ms: entry.updated_ms,
        nonce: hex::encode(&entry.sealed.nonce),
        sealed: hex::encode(&entry.sealed.bytes),
    }
}
