//! Following logs, in the process that writes them and in another one.

use std::fs;
use std::path::PathBuf;

use tokio::sync::watch;

use crate::limits::READ_ONLY_POLL;
use crate::logs::{LogKey, LogTail, Logs};

/// Where readers learn how long a log is.
#[derive(Debug, Clone)]
pub enum LogFollower {
    /// From the log store of this process, which wakes them.
    Store(Logs),
    /// From the files in this directory, because another process may write them.
    Files(PathBuf),
}

impl LogFollower {
    /// Where the log of `key` lies.
    #[must_use]
    pub fn path(&self, key: LogKey) -> PathBuf {
        match self {
            Self::Store(logs) => logs.path(key),
            Self::Files(dir) => key.path(dir),
        }
    }

    /// Watches a log until the receiver is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime with timers.
    #[must_use]
    pub fn follow(&self, key: LogKey) -> watch::Receiver<LogTail> {
        match self {
            Self::Store(logs) => logs.follow(key),
            Self::Files(_) => watch_file(self.path(key)),
        }
    }
}

/// Files of another process tell nobody that they grew, so this looks again and again.
fn watch_file(path: PathBuf) -> watch::Receiver<LogTail> {
    let tail = move || {
        let durable = fs::metadata(&path).map_or(0, |file| file.len());
        LogTail {
            durable,
            finished: false,
        }
    };
    let (sender, receiver) = watch::channel(tail());
    tokio::spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(READ_ONLY_POLL).await;
            let now = tail();
            sender.send_if_modified(|seen| std::mem::replace(seen, now) != now);
        }
    });
    receiver
}
