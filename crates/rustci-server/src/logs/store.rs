//! The thread that owns the log files, and the handles by which others reach it.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use telemetry::RustciMetrics;
use tokio::sync::{Notify, watch};

use crate::limits::{LOG_FILES_OPEN_MAX, THREAD_STACK_BYTES};
use crate::logs::LogKey;
use crate::logs::file::{AppendError, LogFile};

/// How far the readers of a log may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogTail {
    /// Durable bytes.
    pub durable: u64,
    /// Whether the attempt is over and no byte will follow.
    pub finished: bool,
}

/// What the engine has to know about a log since it last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogProgress {
    /// Whether an [`Logs::open`] was answered; `durable` is where to resume.
    pub opened: bool,
    /// Durable bytes.
    pub durable: u64,
    /// Why the last bytes were refused, if they were.
    pub refused: Option<AppendError>,
}

/// News for the engine, coalesced per log: it cannot grow past the number of open logs.
#[derive(Debug, Default)]
pub struct LogEvents {
    news: Mutex<News>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct News {
    progress: HashMap<LogKey, LogProgress>,
    failed: Option<String>,
}

impl LogEvents {
    /// Waits until there is news. Cancel safe.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Moves the news into `out`. Gives back why the store stopped, if it did.
    pub fn take(&self, out: &mut Vec<(LogKey, LogProgress)>) -> Option<String> {
        let mut news = lock(&self.news);
        out.extend(news.progress.drain());
        news.failed.clone()
    }

    fn publish(&self, change: impl FnOnce(&mut News)) {
        change(&mut lock(&self.news));
        self.ready.notify_one();
    }
}

#[derive(Debug)]
enum Command {
    Open(LogKey),
    Append {
        key: LogKey,
        offset: u64,
        bytes: Range<usize>,
    },
    Finish(LogKey),
}

/// What waits for the thread. Its bytes are bounded by the credit of the log streams: a runner may
/// send no more than one window that is not durable yet.
#[derive(Debug, Default)]
struct Queue {
    commands: Vec<Command>,
    bytes: Vec<u8>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    events: Arc<LogEvents>,
    tails: Mutex<HashMap<LogKey, watch::Sender<LogTail>>>,
}

/// The running store; dropping it ends the thread after what was handed over is durable.
#[derive(Debug)]
pub struct LogStore {
    logs: Logs,
    thread: Option<JoinHandle<()>>,
}

/// A handle to the store; all methods return at once.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Shared>);

impl LogStore {
    /// Starts the store over the directory `dir`, which is made when missing.
    ///
    /// # Errors
    /// When the directory cannot be made or no thread can be started.
    pub fn start(dir: &Path, metrics: RustciMetrics) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let logs = Logs(Arc::new(Shared {
            dir: dir.to_owned(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            events: Arc::default(),
            tails: Mutex::default(),
        }));
        let worker = Worker {
            shared: Arc::clone(&logs.0),
            files: HashMap::new(),
            turn: 0,
            metrics,
            stored: (0, 0),
        };
        let thread = thread::Builder::new()
            .name("logs".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || worker.run())?;
        Ok(Self {
            logs,
            thread: Some(thread),
        })
    }

    /// A handle for engine and readers.
    #[must_use]
    pub fn logs(&self) -> Logs {
        self.logs.clone()
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        lock(&self.logs.0.queue).closed = true;
        self.logs.0.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; there is nobody to pass it to here.
            let _ = thread.join();
        }
    }
}

impl Logs {
    /// Asks for the durable offset of a log, repairing it first if the server crashed while it grew.
    /// Answered by [`LogProgress::opened`].
    pub fn open(&self, key: LogKey) {
        self.send(|queue| queue.commands.push(Command::Open(key)));
    }

    /// Hands over records that belong at `offset`. Answered by [`LogProgress::durable`], or by
    /// [`LogProgress::refused`].
    pub fn append(&self, key: LogKey, offset: u64, records: &[u8]) {
        self.send(|queue| {
            let start = queue.bytes.len();
            queue.bytes.extend_from_slice(records);
            let bytes = start..queue.bytes.len();
            queue.commands.push(Command::Append { key, offset, bytes });
        });
    }

    /// Says that no byte will follow: seals the hash chain and ends the readers who follow.
    pub fn finish(&self, key: LogKey) {
        self.send(|queue| queue.commands.push(Command::Finish(key)));
    }

    /// News for the engine. There is one listener.
    #[must_use]
    pub fn events(&self) -> Arc<LogEvents> {
        Arc::clone(&self.0.events)
    }

    /// Where the log of `key` lies.
    #[must_use]
    pub fn path(&self, key: LogKey) -> PathBuf {
        key.path(&self.0.dir)
    }

    /// Watches a log. Before its first byte of this process, `durable` is the length of its file.
    #[must_use]
    pub fn follow(&self, key: LogKey) -> watch::Receiver<LogTail> {
        let mut tails = lock(&self.0.tails);
        tails.retain(|_, tail| tail.receiver_count() > 0);
        let tail = tails.entry(key).or_insert_with(|| {
            let durable = std::fs::metadata(self.path(key)).map_or(0, |file| file.len());
            watch::Sender::new(LogTail {
                durable,
                finished: false,
            })
        });
        tail.subscribe()
    }

    fn send(&self, push: impl FnOnce(&mut Queue)) {
        let mut queue = lock(&self.0.queue);
        let asleep = queue.commands.is_empty();
        push(&mut queue);
        drop(queue);
        if asleep {
            self.0.wake.notify_one();
        }
    }
}

/// A poisoned lock only means that a thread panicked between two whole changes of plain data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    shared: Arc<Shared>,
    files: HashMap<LogKey, Open>,
    turn: u64,
    metrics: RustciMetrics,
    /// Bytes and lines of this turn.
    stored: (u64, u64),
}

struct Open {
    file: LogFile,
    /// Turn in which it was last written; the files to sync and the one to close first follow.
    touched: u64,
    finish: bool,
}

/// A failed operation on the files, with the log it hit.
struct Failure(LogKey, io::Error);

impl Worker {
    fn run(mut self) {
        let (mut commands, mut bytes) = (Vec::new(), Vec::new());
        while self.wait(&mut commands, &mut bytes) {
            self.turn += 1;
            if let Err(Failure(key, error)) = self.take_turn(&commands, &bytes) {
                tracing::error!(log = %key, %error, "the log store stops: a log could not be written");
                let text = format!("log {key} could not be written: {error}");
                self.shared.events.publish(|news| news.failed = Some(text));
                return;
            }
            commands.clear();
            bytes.clear();
            bytes.shrink_to(1 << 20);
        }
    }

    /// Waits for commands and swaps them in; `false` when the store is closed and empty.
    fn wait(&self, commands: &mut Vec<Command>, bytes: &mut Vec<u8>) -> bool {
        let mut queue = lock(&self.shared.queue);
        while queue.commands.is_empty() && !queue.closed {
            queue = self
                .shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut queue.commands, commands);
        mem::swap(&mut queue.bytes, bytes);
        !commands.is_empty()
    }

    fn take_turn(&mut self, commands: &[Command], bytes: &[u8]) -> Result<(), Failure> {
        let mut progress = HashMap::new();
        for command in commands {
            self.apply(command, bytes, &mut progress)?;
        }
        self.save()?;
        let turn = self.turn;
        for (key, open) in self.files.iter().filter(|(_, open)| open.touched == turn) {
            progress
                .entry(*key)
                .or_insert_with(LogProgress::default)
                .durable = open.file.durable();
        }
        let (bytes, lines) = mem::take(&mut self.stored);
        self.metrics.log_stored(bytes, lines);
        self.publish(progress);
        self.close_finished()
    }

    fn apply(
        &mut self,
        command: &Command,
        bytes: &[u8],
        progress: &mut HashMap<LogKey, LogProgress>,
    ) -> Result<(), Failure> {
        match command {
            Command::Open(key) => {
                self.open(*key)?;
                progress.entry(*key).or_default().opened = true;
            }
            Command::Append {
                key,
                offset,
                bytes: range,
            } => {
                let bytes = bytes.get(range.clone()).unwrap_or_default();
                match self.open(*key)?.file.append(*offset, bytes) {
                    Ok(added) => {
                        self.stored.0 += added.bytes;
                        self.stored.1 += added.lines;
                    }
                    Err(error) => {
                        tracing::warn!(log = %key, %error, "refused log bytes");
                        progress.entry(*key).or_default().refused = Some(error);
                    }
                }
            }
            Command::Finish(key) => self.finish(*key)?,
        }
        Ok(())
    }

    /// Marks a log to be sealed, also one that an earlier process wrote.
    fn finish(&mut self, key: LogKey) -> Result<(), Failure> {
        if self.files.contains_key(&key) || key.path(&self.shared.dir).exists() {
            self.open(key)?.finish = true;
        } else {
            self.tell_readers(key, |tail| tail.finished = true);
        }
        Ok(())
    }

    fn open(&mut self, key: LogKey) -> Result<&mut Open, Failure> {
        if !self.files.contains_key(&key) {
            self.make_room();
            let path = key.path(&self.shared.dir);
            let file = LogFile::open(&path).map_err(|error| Failure(key, error))?;
            self.files.insert(
                key,
                Open {
                    file,
                    touched: 0,
                    finish: false,
                },
            );
        }
        let open = self.files.get_mut(&key).expect("the log was just opened");
        open.touched = self.turn;
        Ok(open)
    }

    /// Closes the file that was idle longest. Files of this turn stay: they have bytes to write.
    fn make_room(&mut self) {
        if self.files.len() < LOG_FILES_OPEN_MAX {
            return;
        }
        let idle = self
            .files
            .iter()
            .filter(|(_, open)| open.touched < self.turn);
        let oldest = idle
            .min_by_key(|(_, open)| open.touched)
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.files.remove(&key);
        }
    }

    /// Writes everything, then syncs everything: the device sees the largest batch.
    fn save(&mut self) -> Result<(), Failure> {
        let turn = self.turn;
        let touched = |open: &Open| open.touched == turn;
        for (key, open) in self.files.iter_mut().filter(|(_, open)| touched(open)) {
            open.file.write().map_err(|error| Failure(*key, error))?;
        }
        for (key, open) in self.files.iter_mut().filter(|(_, open)| touched(open)) {
            open.file.sync().map_err(|error| Failure(*key, error))?;
        }
        Ok(())
    }

    fn publish(&self, progress: HashMap<LogKey, LogProgress>) {
        for (key, log) in &progress {
            self.tell_readers(*key, |tail| tail.durable = tail.durable.max(log.durable));
        }
        self.shared.events.publish(|news| {
            for (key, log) in progress {
                let known = news.progress.entry(key).or_default();
                known.opened |= log.opened;
                known.durable = log.durable;
                known.refused = log.refused.or(known.refused);
            }
        });
    }

    fn close_finished(&mut self) -> Result<(), Failure> {
        let finished: Vec<_> = self
            .files
            .iter()
            .filter(|(_, open)| open.finish)
            .map(|(key, _)| *key)
            .collect();
        for key in finished {
            if let Some(open) = self.files.remove(&key) {
                open.file.seal().map_err(|error| Failure(key, error))?;
            }
            self.tell_readers(key, |tail| tail.finished = true);
        }
        Ok(())
    }

    fn tell_readers(&self, key: LogKey, change: impl FnOnce(&mut LogTail)) {
        if let Some(tail) = lock(&self.shared.tails).get(&key) {
            tail.send_modify(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::record::tests::line;

    const KEY: LogKey = LogKey {
        run: 1,
        job: 2,
        attempt: 1,
    };

    async fn progress(logs: &Logs) -> LogProgress {
        let (events, mut out) = (logs.events(), Vec::new());
        while out.is_empty() {
            events.ready().await;
            assert_eq!(events.take(&mut out), None);
        }
        out[0].1
    }

    #[tokio::test]
    async fn opened_log_resumes_at_its_durable_end() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = line(b"hello");
        let store = LogStore::start(dir.path(), telemetry::Metrics::new().rustci).unwrap();
        store.logs().append(KEY, 0, &bytes);
        drop(store);
        let store = LogStore::start(dir.path(), telemetry::Metrics::new().rustci).unwrap();
        store.logs().open(KEY);
        let seen = progress(&store.logs()).await;
        assert_eq!((seen.opened, seen.durable), (true, bytes.len() as u64));
    }

    #[tokio::test]
    async fn a_gap_is_reported_and_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::start(dir.path(), telemetry::Metrics::new().rustci).unwrap();
        let (logs, bytes) = (store.logs(), line(b"a"));
        logs.append(KEY, 5, &bytes);
        let seen = progress(&logs).await;
        assert_eq!(
            seen.refused,
            Some(AppendError::Gap {
                offset: 5,
                expected: 0
            })
        );
        logs.append(KEY, 0, &bytes);
        assert_eq!(progress(&logs).await.durable, bytes.len() as u64);
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_bytes_and_by_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::start(dir.path(), telemetry::Metrics::new().rustci).unwrap();
        let (logs, bytes) = (store.logs(), line(b"a"));
        let mut tail = logs.follow(KEY);
        logs.append(KEY, 0, &bytes);
        let durable = bytes.len() as u64;
        tail.wait_for(|tail| tail.durable == durable).await.unwrap();
        logs.finish(KEY);
        tail.wait_for(|tail| tail.finished).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_cannot_write_says_so_and_acknowledges_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::start(dir.path(), telemetry::Metrics::new().rustci).unwrap();
        std::fs::write(dir.path().join("1"), b"in the way").unwrap();
        let logs = store.logs();
        logs.append(KEY, 0, &line(b"a"));
        let (events, mut out) = (logs.events(), Vec::new());
        events.ready().await;
        let failed = events.take(&mut out);
        assert!(failed.unwrap().contains("log 1/2.1"));
        assert!(out.is_empty());
    }
}
