//! Artifacts and caches as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An artifact of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Its number.
    pub id: u64,
    /// The run it is of.
    pub run: u64,
    /// Key of the job that made it.
    pub job: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Unique in the run.
    pub name: String,
    /// BLAKE3 of the list of its files; equal for equal files.
    pub digest: String,
    /// How many files it has.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that the server did not have before.
    pub stored_bytes: u64,
    /// When it was made.
    pub created_ms: u64,
    /// When it is removed.
    pub expires_ms: u64,
}

/// A page of the artifacts of a run, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactList {
    /// The artifacts.
    pub artifacts: Vec<ArtifactView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Relative, with `/` between its parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// An artifact with a page of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactFiles {
    /// The artifact.
    pub artifact: ArtifactView,
    /// Files, by path.
    pub files: Vec<FileView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// An entry of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheView {
    /// Its number.
    pub id: u64,
    /// The project it is of.
    pub project: String,
    /// Whose runs find it: `trusted`, or `pr:` and a ref for a pull request's own.
    pub scope: String,
    /// Its key.
    pub key: String,
    /// BLAKE3 of the list of its files.
    pub digest: String,
    /// Files and links.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The run that saved it.
    pub run: u64,
    /// Key of the job that saved it.
    pub job: String,
    /// When it was saved.
    pub created_ms: u64,
    /// When it was last restored, or saved.
    pub used_ms: u64,
}

/// A page of cache entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheList {
    /// The entries.
    pub caches: Vec<CacheView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}
