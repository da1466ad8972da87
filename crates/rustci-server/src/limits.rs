//! Every bound of this crate, in one place, checked against each other at compile time.

use std::time::Duration;

use valkyrie_frame::limits::{LOG_RECORD_BYTES_MAX, LOG_RECORD_HEADER_BYTES};

/// Longest body of `POST /api/v1/runs`: a pipeline file, its event and its inputs.
pub const RUN_BODY_BYTES_MAX: usize = 4 << 20;
/// Longest pipeline file taken over HTTP; the parser's own limit is the same.
pub const PIPELINE_BYTES_MAX: usize = 1 << 20;
/// Largest blob: one source snapshot.
pub const BLOB_BYTES_MAX: u64 = 2 << 30;
/// Runs in one page of a list when the client does not say, and at most.
pub const PAGE_RUNS: u32 = 20;
/// Upper bound of `limit` in a list.
pub const PAGE_RUNS_MAX: u32 = 200;
/// Longest project name, job key or similar word taken from a request, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest project, pipeline, branch or file name in a request, in characters.
pub const NAME_CHARS_MAX: usize = 255;
/// Longest `X-Request-Id` that is taken over from a caller.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest value of a secret, in bytes: room for a key chain, none for a file system.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// Longest body that sets a secret: JSON writes some characters with six bytes.
pub const SECRET_BODY_BYTES_MAX: usize = 6 * SECRET_BYTES_MAX + 1_024;
/// Longest name of a secret, as in the pipeline file.
pub const SECRET_NAME_BYTES_MAX: usize = 100;
/// Secrets in one store; all of them are in memory, sealed.
pub const SECRETS_MAX: usize = 1_000;

/// Commands from HTTP that may wait for the engine; further requests wait in their connection.
pub const ENGINE_QUEUE: usize = 1_024;
/// Commands and journal batches the engine takes in one turn before it writes frames again.
pub const ENGINE_TURN: usize = 4_096;
/// Bytes that may wait for the journal's writer before new runs are refused.
pub const JOURNAL_BACKLOG_BYTES: usize = 64 << 20;
/// Records between two snapshots.
pub const SNAPSHOT_RECORDS: u64 = 200_000;
/// Ended runs the scheduler holds before the catalogue is asked to take them over for good.
pub const RUNS_ENDED_MAX: usize = 256;
/// Plans whose jobs are kept encoded.
pub const PLANS_ENCODED_MAX: usize = 256;
/// Job streams of one runner: its class has 449 ids for each side, and some are always between
/// their last message and its acknowledgement.
pub const JOB_STREAMS_MAX: u32 = 400;
/// Labels of one runner.
pub const LABELS_MAX: usize = 100;
/// Steps of a job whose states are kept.
pub const STEPS_MAX: usize = 10_000;
/// Time between the polite signal and the end of a job that is told to stop.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// Time between two rounds that remove old runs.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Runs removed in one transaction.
pub const RETENTION_RUNS: u32 = 200;
/// How long an archive that no run names is kept: who uploads it wants to use it.
pub const SOURCE_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a client may repeat a request under its key.
pub const REQUEST_KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a server tries to bind a key in a store, where it ends between two looks.
pub const REQUEST_KEY_CLAIMS: usize = 3;
/// How often a server says in a shared store which of its runners live.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a runner is taken to live after its server said so.
pub const PRESENCE_LIFE: Duration = Duration::from_secs(15);
/// How long the end of a server may wait for what it said of its runners to be removed.
pub const PRESENCE_FAREWELL: Duration = Duration::from_secs(1);
/// How long an answer waits for the runners of other servers.
pub const PRESENCE_PATIENCE: Duration = Duration::from_secs(2);
/// Runners of other servers in one answer.
pub const RUNNERS_ELSEWHERE_MAX: usize = 1_000;
/// Requests with keys that are remembered; the oldest are forgotten first.
pub const REQUEST_KEYS_MAX: usize = 100_000;

/// Changes that may wait for the catalogue before new runs are refused.
pub const PROJECTION_BACKLOG: usize = 200_000;
/// How soon a full queue of the catalogue is tried again.
pub const CATALOGUE_RETRY: Duration = Duration::from_millis(2);
/// Requests and record batches that may wait for the catalogue thread. Changes that do not
/// fit wait with the engine.
pub const CATALOGUE_QUEUE: usize = 256;
/// Records that one transaction of the catalogue applies.
pub const CATALOGUE_BATCH: usize = 4_096;
/// Threads that only read the catalogue.
pub const CATALOGUE_READERS: usize = 2;
/// Memory of the SQLite page cache of one connection in KiB: hot rows of the last runs, and small on purpose.
pub const CATALOGUE_CACHE_KIB: u32 = 2_048;
/// Ended runs whose traces wait to be sent; further ones are counted and left out.
pub const TRACES_QUEUE: usize = 4_096;
/// Threads of the HTTP runtime for work that may wait for the disk: planning, storing blobs.
pub const HTTP_BLOCKING_THREADS: usize = 4;
/// Stack of the server's own threads; none of them recurses.
pub const THREAD_STACK_BYTES: usize = 1 << 20;

/// Bytes of a backup sent at once.
pub const BACKUP_CHUNK_BYTES: usize = 256 << 10;
/// Pieces of a backup that wait for their reader.
pub const BACKUP_CHUNKS: usize = 4;

/// Bytes of a log covered by one link of its BLAKE3 chain.
pub const CHAIN_BLOCK_BYTES: usize = 64 << 10;
/// Log files held open; the one that was idle longest is closed first.
pub const LOG_FILES_OPEN_MAX: usize = 512;
/// Bytes a log reader takes from a file at once.
pub const LOG_READ_BYTES: usize = 64 << 10;
/// Lines that `tail=` gives back at most.
pub const LOG_TAIL_LINES_MAX: u64 = 100_000;

/// Bytes of one file transfer chunk on a source stream.
pub const SOURCE_CHUNK_BYTES: usize = 32 << 10;
/// Source streams one runner may hold open.
pub const SOURCE_STREAMS_MAX: usize = 64;

/// Threads that sync the blobs of one transfer side by side.
pub const SYNC_THREADS: usize = 4;
/// Digests in one question for missing blobs.
pub const MISSING_DIGESTS_MAX: usize = 4_096;
/// Blobs on one `Blob/Put` stream; each has a file open until all are synced.
pub const PUT_RECORDS_MAX: usize = 1_024;
/// Longest blob on a `Blob/Put` stream: the list of a tree.
pub const PUT_BLOB_BYTES_MAX: u32 = 32 << 20;
/// Blobs asked for on one `Blob/Get` stream.
pub const GET_RECORDS_MAX: usize = 4_096;
/// Streams for blobs that one runner may hold open in each direction.
pub const CONTENT_STREAMS_MAX: usize = 32;
/// Bytes read from a blob that wait to be sent on one stream.
pub const GET_QUEUE_BLOBS: usize = 4;
/// Blobs that one attempt may bring or have found, so that what is held for it has a bound.
pub const PINS_MAX: usize = 1_000_000;
/// Downloads of artifacts that are written at once; each has a thread.
pub const DOWNLOADS_MAX: usize = 32;
/// Bytes of one piece of a download's body.
pub const DOWNLOAD_CHUNK_BYTES: usize = 256 << 10;
/// Pieces that are written ahead of a reader.
pub const DOWNLOAD_CHUNKS: usize = 4;
/// Restore keys of one cache.
pub const RESTORE_KEYS_MAX: usize = 16;
/// Artifacts and cache entries of one attempt.
pub const TREES_MAX: usize = 256;
/// Longest key of a cache, in bytes.
pub const CACHE_KEY_BYTES_MAX: usize = 512;
/// Default of the largest artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 5 << 30;
/// Default of what the caches of one project may have together.
pub const CACHE_BYTES_MAX: u64 = 10 << 30;
/// How long an artifact is kept when its pipeline does not say.
pub const ARTIFACT_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Time between two looks at what can go.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(600);
/// A blob that nothing names goes when it was not used for so long: the attempt that brought it may
/// still be on its way to say so, over a lost connection and a restart of the server.
pub const SWEEP_GRACE: Duration = Duration::from_secs(3600);

/// Interval in which a read-only follower looks at the files of another process.
pub const READ_ONLY_POLL: Duration = Duration::from_millis(50);
/// Silence on an event stream after which a comment line keeps proxies from closing it.
pub const SSE_KEEPALIVE: Duration = Duration::from_secs(15);
/// How soon a browser comes back after a stream broke off.
pub const SSE_RETRY: Duration = Duration::from_secs(1);
/// Least time between two looks at a run that somebody follows.
pub const SSE_PAUSE: Duration = Duration::from_millis(20);
/// Jobs of one answer for which the engine says why they wait.
pub const REASONS_MAX: usize = 1_000;
/// How long a part may take to answer a health check.
pub const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// Jobs of which it is remembered how long they take.
pub const HISTORY_JOBS_MAX: usize = 20_000;
/// Jobs of a run that are explained in one answer.
pub const EXPLAINED_JOBS_MAX: usize = 200;
/// Jobs of a run up to which it is reckoned when those begin that wait for others.
pub const FORECAST_JOBS_MAX: usize = 256;
/// Requirements and projects that one look at the queue lists.
pub const QUEUE_GROUPS_MAX: usize = 100;
/// Time given to connections to drain at shutdown.
pub const SHUTDOWN_DRAIN: Duration = Duration::from_secs(2);
/// Largest blob of a test report that is read.
pub const REPORT_BLOB_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of the summaries in one page, unless a single one is longer.
pub const SUMMARY_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Runs that count in the history of tests, without another wish.
pub const HISTORY_RUNS: u32 = 30;
/// Most runs that count in the history of tests.
pub const HISTORY_RUNS_MAX: u32 = 200;

const _: () = assert!(PIPELINE_BYTES_MAX < RUN_BODY_BYTES_MAX);
const _: () = assert!(PUT_BLOB_BYTES_MAX as u64 <= BLOB_BYTES_MAX);
const _: () = assert!(PUT_BLOB_BYTES_MAX as usize >= rustci_content::limits::MANIFEST_BYTES_MAX);
const _: () = assert!(PUT_BLOB_BYTES_MAX as usize >= rustci_content::limits::CHUNK_BYTES_MAX);
const _: () = assert!(PAGE_RUNS <= PAGE_RUNS_MAX);
// A reader's buffer has to hold at least one whole record, or it could never advance.
const _: () = assert!(LOG_RECORD_HEADER_BYTES + LOG_RECORD_BYTES_MAX <= LOG_READ_BYTES);
// A block without the start of a record is legal, two in a row are not.
const _: () = assert!(LOG_RECORD_HEADER_BYTES + LOG_RECORD_BYTES_MAX <= CHAIN_BLOCK_BYTES);
