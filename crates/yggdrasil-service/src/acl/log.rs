//! What was refused to whom.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use resp::Writer;

use crate::clock::Moment;
use crate::limits::{ACL_LOG_ENTRIES_MAX, ACL_LOG_OBJECT_BYTES_MAX};

/// The same thing that is refused again within this time is counted, not listed anew.
const SAME_MS: u64 = 60_000;

/// The newest of what was refused.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<VecDeque<Refused>>);

/// What was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) context: &'static str,
    /// A command, a key, a channel.
    pub(crate) object: Vec<u8>,
    pub(crate) user: String,
    /// A line of `CLIENT LIST`.
    pub(crate) client: String,
    pub(crate) at: Moment,
    pub(crate) count: i64,
}

impl Log {
    pub(crate) fn add(&self, mut refused: Refused) {
        refused.object.truncate(ACL_LOG_OBJECT_BYTES_MAX);
        let mut log = self.lock();
        let is_same = |old: &Refused| {
            let of = |it: &Refused| (it.reason, it.context, it.object.clone(), it.user.clone());
            refused.at.ms().saturating_sub(old.at.ms()) <= SAME_MS && of(old) == of(&refused)
        };
        let same = log.iter().position(is_same);
        if let Some(old) = same.and_then(|index| log.remove(index)) {
            refused.count += old.count;
        }
        log.push_front(refused);
        log.truncate(ACL_LOG_ENTRIES_MAX);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn write(&self, count: usize, now: Moment, out: &mut Writer<'_>) {
        let log = self.lock();
        let count = count.min(log.len());
        out.array(count);
        for refused in log.iter().take(count) {
            out.map(7);
            out.bulk(b"count");
            out.integer(refused.count);
            for (name, value) in [
                ("reason", refused.reason.as_bytes()),
                ("context", refused.context.as_bytes()),
                ("object", &refused.object),
                ("username", refused.user.as_bytes()),
            ] {
                out.bulk(name.as_bytes());
                out.bulk(value);
            }
            out.bulk(b"age-seconds");
            out.double(now.ms().saturating_sub(refused.at.ms()) as f64 / 1000.0);
            out.bulk(b"client-info");
            out.bulk(refused.client.as_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
