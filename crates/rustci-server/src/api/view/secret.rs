//! What the API says of secrets: never a value.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name in pipeline files.
    pub name: String,
    /// The project it is for; all projects when there is none.
    pub project: Option<String>,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was first set.
    pub created_ms: u64,
    /// When its value was last set.
    pub updated_ms: u64,
    /// For `If-Match`: names this state of it.
    pub etag: String,
}

/// A page of secrets, global ones first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// By project and name.
    pub secrets: Vec<SecretView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A value to keep. It has no `Debug`, so that no log line can have it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// 1 byte to 64 KiB of text without NUL.
    #[schema(min_length = 1, max_length = 65536, pattern = "^[^\\x00]+$")]
    pub value: String,
}

/// What a new key was given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rekeyed {
    /// How many values were sealed anew.
    pub secrets: u64,
}
