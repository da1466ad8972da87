//! Every limit of this crate.

/// Jobs of one run.
pub const RUN_JOBS_MAX: usize = 10_000;

/// Documents of all kinds together. With the longest values they would take 10 GB, but who writes
/// them (pipelines, times of timed runs) stays far below.
pub const DOCUMENTS_MAX: usize = 10_000;

/// Bytes of one document's value.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Bytes of a document's kind, and of its key.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 1_024;

/// The largest weight of a project.
pub const QUOTA_WEIGHT_MAX: u32 = 1_000;

/// Projects with a quota of their own.
pub const QUOTAS_MAX: usize = 10_000;

/// Bytes of the name of a concurrency group.
pub const GROUP_BYTES_MAX: usize = 1_024;

/// Bytes of the name and of the comment of who answers a question for approval; more is cut off.
pub const ANSWER_BYTES_MAX: usize = 4_096;

const _: () = assert!(rustci_pipeline::limits::JOBS_MAX <= RUN_JOBS_MAX);
