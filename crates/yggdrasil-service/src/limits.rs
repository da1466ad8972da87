//! Bounds of everything that a client may make the server keep.

/// Answers of one client that wait in memory before its next command is looked at. A single answer may
/// be longer, by the longest value.
pub(crate) const OUTPUT_BYTES: usize = 256 << 10;
/// Bytes that are read from a client at once.
pub(crate) const INPUT_BYTES: usize = 64 << 10;
/// Commands of one client that are looked at before the first of them is done.
pub(crate) const AHEAD: usize = 16;
/// Commands of a transaction that wait for `EXEC`.
pub(crate) const QUEUED_COMMANDS_MAX: usize = 64 << 10;
/// Bytes of their arguments.
pub(crate) const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Keys that a client watches.
pub(crate) const WATCHED_MAX: usize = 4096;
/// Bytes of all that a client wants to hear of: channels, patterns and beginnings of keys.
pub(crate) const FEED_BYTES_MAX: usize = 16 << 20;
/// Longest name of a channel, pattern or beginning of keys.
pub(crate) const TOPIC_BYTES_MAX: usize = 64 << 10;
/// Seconds that a client has for proving who it is with TLS.
pub(crate) const HANDSHAKE_S_MAX: u64 = 10;
/// Users, and bytes of a file of them.
pub(crate) const USERS_MAX: usize = 10_000;
pub(crate) const USERS_FILE_BYTES_MAX: u64 = 16 << 20;
/// Entries of the log of what was refused, and what is kept of the name of each.
pub(crate) const ACL_LOG_ENTRIES_MAX: usize = 128;
pub(crate) const ACL_LOG_OBJECT_BYTES_MAX: usize = 256;
/// Entries of the slow log, and what is kept of each.
pub(crate) const SLOWLOG_ENTRIES_MAX: usize = 1024;
pub(crate) const SLOWLOG_ARGS_MAX: usize = 32;
pub(crate) const SLOWLOG_ARG_BYTES_MAX: usize = 128;
/// Bytes of a client's name.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Failed attempts to say who one is, after which a connection ends.
pub(crate) const AUTH_FAILURES_MAX: u32 = 10;
/// Addresses that have a bucket at the same time, where the server limits them. More of them push out
/// buckets that are full soonest.
pub(crate) const SOURCES_MAX: usize = 64 << 10;
/// Addresses that are banned at the same time.
pub(crate) const BANS_MAX: usize = 64 << 10;

const _: () = assert!(INPUT_BYTES <= OUTPUT_BYTES);
