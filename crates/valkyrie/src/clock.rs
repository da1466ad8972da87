//! The monotonic clock as [`Time`].

use std::sync::OnceLock;
use std::time::Instant;

use valkyrie_frame::Time;

/// Now; the first call of the process is [`Time::ZERO`].
pub(crate) fn now() -> Time {
    let nanos = start().elapsed().as_nanos();
    Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The instant that `time` stands for.
pub(crate) fn instant(time: Time) -> Instant {
    start() + std::time::Duration::from_nanos(time.as_nanos())
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
