//! Every limit of this crate.

/// Jobs of one run.
pub const RUN_JOBS_MAX: usize = 10_000;

const _: () = assert!(rustci_pipeline::limits::JOBS_MAX <= RUN_JOBS_MAX);
