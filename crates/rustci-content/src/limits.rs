//! Every bound of this crate in one place.

/// A file up to this size is one chunk.
pub const WHOLE_FILE_BYTES_MAX: u64 = 1 << 20;
/// Shortest chunk of a larger file, except for its last one.
pub const CHUNK_BYTES_MIN: usize = 256 << 10;
/// Length around which chunks of larger files are cut.
pub const CHUNK_BYTES_AVERAGE: usize = 1 << 20;
/// Longest chunk.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Longest encoded manifest. A tree of 100,000 small files takes about 10 MB.
pub const MANIFEST_BYTES_MAX: usize = 32 << 20;
/// Files, links and empty directories of one tree.
pub const ENTRIES_MAX: usize = 262_144;
/// Longest path in a tree, in bytes.
pub const PATH_BYTES_MAX: usize = 4_096;
/// Longest name of a file or directory, in bytes; more than that no file system takes.
pub const NAME_BYTES_MAX: usize = 255;
/// Directories in a path.
pub const DEPTH_MAX: usize = 128;
/// A tree that is larger than [`RATIO_BYTES_MIN`] may unpack to so many times its different chunks.
/// A megabyte of chunks could otherwise fill any disk.
pub const RATIO_MAX: u64 = 1_000;
/// Trees up to this size may repeat themselves as they like.
pub const RATIO_BYTES_MIN: u64 = 1 << 30;

/// Threads that hash or write one tree at most.
pub const THREADS_MAX: usize = 4;
/// Bytes read from a file at once while it is cut.
pub const READ_BYTES: usize = 2 * CHUNK_BYTES_MAX;

const _: () = assert!(CHUNK_BYTES_MIN < CHUNK_BYTES_AVERAGE);
const _: () = assert!(CHUNK_BYTES_AVERAGE < CHUNK_BYTES_MAX);
const _: () = assert!(WHOLE_FILE_BYTES_MAX <= CHUNK_BYTES_MAX as u64);
// A buffer has to hold a whole chunk, or cuts would depend on where reads end.
const _: () = assert!(CHUNK_BYTES_MAX <= READ_BYTES);
const _: () = assert!(NAME_BYTES_MAX < PATH_BYTES_MAX);
