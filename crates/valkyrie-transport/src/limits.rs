//! Every bound of this crate.

use std::time::Duration;

/// Bytes that one direction of a mem connection holds before its writer waits.
///
/// Four flushes of 64 KiB: a writer and a reader on different threads overlap, and a stalled
/// reader still costs at most half a mebibyte per connection.
pub const MEM_BUFFER_BYTES: usize = 256 * 1024;

/// Mem connections that may wait to be accepted; the next `connect` waits.
pub const MEM_BACKLOG_MAX: usize = 1024;

/// How long a listener rests when the process has no descriptor left.
///
/// The pending connection stays in the kernel's queue meanwhile; without the pause the accept
/// loop would spin on the same error.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take for what comes before the first frame, such as handing over shared
/// memory.
///
/// Both ends are on one host or one network hop apart; who needs longer does not mean it.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(3);

/// Peers of one listener that may be in the middle of it; more wait in the kernel's queue.
pub const HANDSHAKES_MAX: usize = 256;

/// Bytes that a PROXY header may have behind its first sixteen. Proxies that pass on what they
/// know of TLS send a few hundred.
pub(crate) const PROXY_BYTES_MAX: usize = 4096;

/// Longest Unix socket path: `sun_path` is 108 bytes with its terminator.
pub(crate) const UNIX_PATH_BYTES_MAX: usize = 107;

/// Longest name of a mem endpoint.
pub(crate) const MEM_NAME_BYTES_MAX: usize = 255;
