//! Commands that took long.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use resp::{Args, Writer};

use crate::client::Client;
use crate::clock::Moment;
use crate::limits;

/// The newest of them.
#[derive(Debug, Default)]
pub(crate) struct Slowlog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    next: u64,
    entries: VecDeque<Slow>,
}

#[derive(Debug)]
struct Slow {
    number: u64,
    at: Moment,
    took: Duration,
    args: Vec<Vec<u8>>,
    address: String,
    name: String,
}

impl Slowlog {
    pub(crate) fn add(&self, client: &Client, args: Args<'_>, at: Moment, took: Duration) {
        let secret = args.get(0).is_some_and(|name| {
            let secret = [&b"ACL"[..], b"AUTH", b"HELLO"];
            secret.iter().any(|one| name.eq_ignore_ascii_case(one))
        });
        let shown = if secret { 1 } else { limits::SLOWLOG_ARGS_MAX };
        let mut kept: Vec<Vec<u8>> = args.iter().take(shown).map(shorten).collect();
        if args.len() > kept.len() {
            let left = args.len() - kept.len();
            kept.push(format!("... ({left} more arguments)").into_bytes());
        }
        let mut log = self.lock();
        let number = log.next;
        log.next += 1;
        log.entries.push_front(Slow {
            number,
            at,
            took,
            args: kept,
            address: client.info.address.clone(),
            name: client.name(),
        });
        log.entries.truncate(limits::SLOWLOG_ENTRIES_MAX);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub(crate) fn clear(&self) {
        self.lock().entries.clear();
    }

    pub(crate) fn write(&self, count: usize, out: &mut Writer<'_>) {
        let log = self.lock();
        let count = count.min(log.entries.len());
        out.array(count);
        for slow in log.entries.iter().take(count) {
            out.array(6);
            out.integer(slow.number as i64);
            out.integer((slow.at.ms() / 1000) as i64);
            out.integer(slow.took.as_micros() as i64);
            out.array(slow.args.len());
            for arg in &slow.args {
                out.bulk(arg);
            }
            out.bulk(slow.address.as_bytes());
            out.bulk(slow.name.as_bytes());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shorten(arg: &[u8]) -> Vec<u8> {
    match arg.split_at_checked(limits::SLOWLOG_ARG_BYTES_MAX) {
        Some((kept, rest)) if !rest.is_empty() => {
            let more = format!("... ({} more bytes)", rest.len());
            [kept, more.as_bytes()].concat()
        }
        _ => arg.to_vec(),
    }
}
