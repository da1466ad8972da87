//! Every limit of this crate.

/// Bytes of a pipeline file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// How deep sequences and mappings may lie in each other.
pub const DEPTH_MAX: usize = 64;
/// Values in a file, those that aliases bring counted again each time.
pub const NODES_MAX: usize = 50_000;
/// Values that aliases and merge keys may bring in all.
pub const ALIAS_NODES_MAX: usize = 10_000;
/// Aliases in a file.
pub const ALIASES_MAX: usize = 1_000;
/// Jobs of a run, matrix instances counted.
pub const JOBS_MAX: usize = 1_000;
/// Instances of one matrix.
pub const MATRIX_MAX: usize = 256;
/// Steps of one job.
pub const STEPS_MAX: usize = 1_000;
/// Steps that run at the same time.
pub const PARALLEL_STEPS_MAX: usize = 32;
/// Further tries of a job or step.
pub const RETRY_MAX: u32 = 10;
/// Longest timeout: 30 days.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Limit of a job that names none: one hour.
pub const TIMEOUT_MS_DEFAULT: u64 = 60 * 60 * 1000;
/// How long an approval is waited for when the file does not say: 7 days.
pub const APPROVAL_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;
/// Names that one approval can be given by.
pub const APPROVERS_MAX: usize = 50;
/// Most that `queue` of a concurrency group can let wait.
pub const WAITING_MAX: u32 = 1_000;
/// Caches, downloads or artifacts of one job.
pub const DATA_ENTRIES_MAX: usize = 100;
/// Longest time that an artifact is kept: ten years.
pub const EXPIRE_MS_MAX: u64 = 3_650 * 24 * 60 * 60 * 1000;
/// Bytes of a schedule.
pub const CRON_TEXT_BYTES_MAX: usize = 200;
/// Schedules of one pipeline.
pub const CRONS_MAX: usize = 50;
/// How deep files may include each other.
pub const INCLUDE_DEPTH_MAX: usize = 8;
/// Files that a pipeline may include.
pub const INCLUDE_FILES_MAX: usize = 64;
/// Bytes of all files that a pipeline includes.
pub const INCLUDE_BYTES_MAX: usize = 4 << 20;
/// How often files may be included or used by jobs, all together.
pub const INCLUDES_MAX: usize = 2_000;
/// Values in all inclusions, each time counted.
pub const INCLUDED_NODES_MAX: usize = 100_000;
/// Bytes of text that inputs may bring into included files.
pub const INCLUDED_TEXT_BYTES_MAX: usize = 16 << 20;
/// Bytes of the path of an included file.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Diagnostics that one file can have; later ones are dropped.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Combinations of matrix axes before `exclude`.
pub const COMBINATIONS_MAX: usize = 10_000;
/// Bytes of text in a plan, each matrix instance counted.
pub const PLAN_TEXT_BYTES_MAX: usize = 16 << 20;
/// Characters of a job, step, output or input name.
pub const NAME_CHARS_MAX: usize = 100;
/// Names that are looked through for the one that was probably meant.
pub const CANDIDATES_MAX: usize = 200;
/// Bytes of one expression.
pub const EXPRESSION_BYTES_MAX: usize = 21_000;
/// How deep an expression may nest.
pub const EXPRESSION_DEPTH_MAX: usize = 50;
/// Operations that one evaluation may take.
pub const EXPRESSION_STEPS_MAX: u32 = 100_000;
/// Bytes of text that one evaluation may build; GitHub's limit, which counts two for a character.
pub const EXPRESSION_TEXT_BYTES_MAX: usize = 1 << 19;
/// Bytes of a template with its values.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(MATRIX_MAX <= JOBS_MAX);
const _: () = assert!(1 < PARALLEL_STEPS_MAX && PARALLEL_STEPS_MAX <= STEPS_MAX);
const _: () = assert!(ALIAS_NODES_MAX <= NODES_MAX);
const _: () = assert!(EXPRESSION_BYTES_MAX < FILE_BYTES_MAX);
const _: () = assert!(TIMEOUT_MS_DEFAULT <= TIMEOUT_MS_MAX);
