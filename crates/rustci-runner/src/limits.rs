//! Every bound of this crate in one place.

use std::time::Duration;

/// A secret, or a line of one, shorter than this is never masked: hiding every `ab` of a log would
/// hide the log.
pub const MASKED_BYTES_MIN: usize = 4;

/// Longest secret whose encoded forms are masked too; of a longer one only the plain lines are. A
/// secret's forms take some fifty times its size.
pub const SECRET_ENCODED_BYTES_MAX: usize = 64 * 1024;

/// Files of test reports read for one job.
pub const REPORT_FILES_MAX: usize = 1_000;

/// Lines that say what was wrong with the files of one report.
pub const REPORT_WARNINGS_MAX: usize = 20;

/// Directories inside each other that are searched for reports.
pub const WORKSPACE_DEPTH_MAX: usize = 64;

/// Largest file of a test report.
pub const REPORT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Elements inside each other in a test report.
pub const REPORT_DEPTH_MAX: usize = 64;

/// Tests kept of one job. The others are counted all the same.
pub const REPORT_TESTS_MAX: usize = 100_000;

/// Longest name of a test, its class, its suite or its file, and longest message.
pub const REPORT_NAME_BYTES_MAX: usize = 1024;

/// Longest text of a test's failures, and of what it printed: half from the start, half from the end.
pub const REPORT_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Bytes of all names and texts kept of one job.
pub const REPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest text of one log record; a longer line continues in the next record.
pub const RECORD_TEXT_BYTES_MAX: usize = 32 * 1024;

/// Default of the largest log of one attempt: its head is kept, the rest is dropped with a notice.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Largest `CI_OUTPUT` file of a step, and largest `CI_ENV` file.
pub const OUTPUT_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Largest `CI_PATH` file of a step.
pub const PATH_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Largest `CI_STEP_SUMMARY` file of a step.
pub const SUMMARY_BYTES_MAX: u64 = 1024 * 1024;

/// Largest part of the `CI_MASK` file that is read.
pub const MASK_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Values of the `CI_MASK` file that are masked.
pub const MASK_VALUES_MAX: usize = 1000;

/// Largest job specification the job process reads back from its directory.
pub const SPEC_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes read from a step's pipe at once; as much as a pipe holds after it was widened.
pub const PIPE_READ_BYTES: usize = 256 * 1024;

/// Capacity asked for each pipe of a step. The kernel may refuse: the default then stays.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// How long the start of an unfinished line (a prompt, a progress bar) waits for its end.
pub const PARTIAL_LINE_WAIT: Duration = Duration::from_millis(100);

/// Time between two looks at which processes a job has, for the list that outlives it.
pub const PROCESS_LIST_INTERVAL: Duration = Duration::from_millis(500);

/// What background processes get between the polite signal and the end once the steps are over.
pub const BACKGROUND_GRACE: Duration = Duration::from_secs(1);

/// Tries of one step, the first included.
pub const TRIES_MAX: u32 = 100;

/// Files and directories of one source archive.
pub const SOURCE_ENTRIES_MAX: u64 = 1_000_000;

/// Unpacked bytes of one source archive.
pub const SOURCE_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;

/// Default size of the cache of source archives.
pub const SOURCE_CACHE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Log bytes read from the spool and handed to the link at once.
pub const LOG_BATCH_BYTES: usize = 64 * 1024;

/// Largest message between the runner and a job process.
pub const JOB_MESSAGE_BYTES_MAX: u32 = 1024 * 1024;

/// Largest blob a job hands on as a whole: a summary, a report, the list of an artifact's files.
pub const OUTGOING_BLOB_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Default size of the cache of chunks of artifacts and caches.
pub const CHUNK_CACHE_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// Pieces in one question for what the server lacks; the server takes no more.
pub const MISSING_PIECES_MAX: usize = 4_096;

/// Blobs and bytes on one upload stream: each stream costs the server one sync.
pub const PUT_PIECES_MAX: usize = 512;
/// See [`PUT_PIECES_MAX`].
pub const PUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Uploads of one job at once.
pub const PUTS_MAX: usize = 3;

/// Blobs asked for on one download stream; the server takes no more than 4,096.
pub const GET_BLOBS_MAX: usize = 1_024;

/// Blobs that are read ahead of an upload.
pub const PUT_QUEUE_BLOBS: usize = 4;

/// Pieces and bytes of paths in one report to the runner.
pub const UPLOAD_REPORT_PIECES: usize = 128;

/// Restore keys of one cache; the server takes no more.
pub const RESTORE_KEYS_MAX: usize = 16;

/// First and longest wait between two tries to reach the server.
pub const RECONNECT_WAIT: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));

const _: () = assert!(RECORD_TEXT_BYTES_MAX + 15 <= LOG_BATCH_BYTES);
const _: () = assert!(REPORT_BYTES_MAX + 64 * REPORT_TESTS_MAX <= OUTGOING_BLOB_BYTES_MAX as usize);
const _: () = assert!(PIPE_READ_BYTES <= PIPE_BYTES);
const _: () = assert!(PARTIAL_LINE_WAIT.as_nanos() < PROCESS_LIST_INTERVAL.as_nanos());
