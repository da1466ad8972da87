//! From those who report something to the adapters.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant};

use super::adapter::{NotificationAdapter, NotifyError, deliver};
use super::gate::Gate;
use super::lane::{Lane, LaneCounts, done};
use super::{Notice, NotificationMessage, Rule};

/// Notices that wait for the rules.
const QUEUE_MAX: usize = 1_024;

/// Takes notifications and hands them to every adapter, within the [`Rule`]s.
///
/// Nothing ever waits for an adapter: each has a task and a queue of its own, and what finds a queue
/// full is dropped and counted. A message is tried three times at most. When the manager and all
/// [`Notifier`]s are gone, what was counted is told and the tasks end; [`close`](Self::close) waits
/// for that.
pub struct NotificationManager {
    notifier: Notifier,
}

/// Reports to a [`NotificationManager`], from any thread. Clones report to the same one.
#[derive(Clone)]
pub struct Notifier {
    sender: mpsc::Sender<Input>,
    shared: Arc<Shared>,
}

enum Input {
    Notice(Notice),
    /// Tell everything that was counted.
    Drain,
}

struct Shared {
    lanes: Mutex<Vec<Lane>>,
    gate: Mutex<Gate>,
    /// Until there is a runtime for the task.
    idle: Mutex<Option<mpsc::Receiver<Input>>>,
    dropped: AtomicU64,
    /// Notices and messages that are not done with.
    pending: Arc<watch::Sender<usize>>,
}

impl fmt::Debug for NotificationManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotificationManager")
            .field(&self.counts())
            .finish()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Default for NotificationManager {
    fn default() -> Self {
        Self::new()
    }
}

impl NotificationManager {
    /// A manager without adapters and with the default [`Rule`] for each kind.
    #[must_use]
    pub fn new() -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let shared = Shared {
            lanes: Mutex::default(),
            gate: Mutex::default(),
            idle: Mutex::new(Some(queue)),
            dropped: AtomicU64::new(0),
            pending: Arc::new(watch::Sender::new(0)),
        };
        Self {
            notifier: Notifier {
                sender,
                shared: Arc::new(shared),
            },
        }
    }

    /// Sends to this adapter too, from now on.
    pub fn add_adapter(&mut self, adapter: Box<dyn NotificationAdapter>) {
        let shared = &self.notifier.shared;
        let lane = Lane::new(Arc::from(adapter), Arc::clone(&shared.pending));
        lock(&shared.lanes).push(lane);
    }

    /// Sets how often notifications of a kind come. Numbers beyond the bounds of [`Rule`] count as
    /// those.
    pub fn set_rule(&mut self, rule: Rule) {
        lock(&self.notifier.shared.gate).set(rule);
    }

    /// Reports a message of no kind. It is queued; whether it arrives shows in
    /// [`counts`](Self::counts) and the log.
    #[expect(
        clippy::unused_async,
        reason = "the requirement's programs await it, which also puts them into a runtime"
    )]
    pub async fn send_notification(&self, message: NotificationMessage) {
        self.notifier.notify(message.into());
    }

    /// What others report with. Within a tokio runtime this starts the tasks there, so that threads
    /// without one can report.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        self.notifier.start();
        self.notifier.clone()
    }

    /// Sends a message through every adapter at once, outside of rules and queues, and gives what
    /// each of them came to, in the order in which they were added.
    pub async fn test(
        &self,
        message: NotificationMessage,
    ) -> Vec<(String, Result<String, NotifyError>)> {
        let message = Arc::new(message.tamed());
        let adapters: Vec<_> = lock(&self.notifier.shared.lanes)
            .iter()
            .map(|lane| Arc::clone(&lane.adapter))
            .collect();
        let sending: Vec<_> = adapters
            .into_iter()
            .map(|adapter| {
                let message = Arc::clone(&message);
                let name = adapter.name().to_owned();
                let task = tokio::spawn(async move { deliver(&*adapter, &message).await });
                (name, task)
            })
            .collect();
        let mut results = Vec::new();
        for (name, task) in sending {
            let result = match task.await {
                Ok(result) => result,
                Err(error) => Err(NotifyError::config(&name, error.to_string())),
            };
            results.push((name, result));
        }
        results
    }

    /// Waits until everything that was reported so far was sent, failed or was dropped. What the
    /// rules hold back is not waited for.
    pub async fn flush(&self) {
        self.notifier.start();
        let mut pending = self.notifier.shared.pending.subscribe();
        // The sender is ours.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }

    /// Tells what the rules held back, and waits for all of it, but no longer than `patience`.
    pub async fn close(self, patience: Duration) {
        self.notifier.put(Input::Drain);
        let _ = time::timeout(patience, self.flush()).await;
    }

    /// What each adapter did, in the order in which they were added.
    #[must_use]
    pub fn counts(&self) -> Vec<LaneCounts> {
        let lanes = lock(&self.notifier.shared.lanes);
        lanes.iter().map(Lane::counts).collect()
    }

    /// Notices that found the queue of 1,024 before the rules full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.notifier.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Notifier {
    /// Reports something. Never waits.
    pub fn notify(&self, notice: Notice) {
        let message = notice.message.tamed();
        self.put(Input::Notice(Notice { message, ..notice }));
    }

    fn put(&self, input: Input) {
        let Shared {
            pending, dropped, ..
        } = &*self.shared;
        pending.send_modify(|pending| *pending += 1);
        if self.sender.try_send(input).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
            done(pending);
        }
        self.start();
    }

    /// Starts the task unless it runs. Outside of a runtime this is left to the next one.
    fn start(&self) {
        let mut idle = lock(&self.shared.idle);
        if idle.is_some()
            && let Ok(runtime) = Handle::try_current()
            && let Some(queue) = idle.take()
        {
            runtime.spawn(work(queue, Arc::clone(&self.shared)));
        }
    }
}

/// Asks the rules about every notice, until nobody can report any more.
async fn work(mut queue: mpsc::Receiver<Input>, shared: Arc<Shared>) {
    loop {
        let due = lock(&shared.gate).due(Instant::now());
        shared.hand_out(due);
        let next = lock(&shared.gate).next();
        let input = match next {
            Some(at) => match time::timeout_at(at, queue.recv()).await {
                Ok(input) => input,
                Err(_) => continue,
            },
            None => queue.recv().await,
        };
        let messages = match input {
            Some(Input::Notice(notice)) => {
                let let_through = lock(&shared.gate).offer(notice, Instant::now());
                let_through.into_iter().collect()
            }
            Some(Input::Drain) => lock(&shared.gate).drain(),
            None => break,
        };
        shared.hand_out(messages);
        done(&shared.pending);
    }
    let rest = lock(&shared.gate).drain();
    shared.hand_out(rest);
}

impl Shared {
    fn hand_out(&self, messages: Vec<NotificationMessage>) {
        let lanes = lock(&self.lanes);
        for message in messages {
            let message = Arc::new(message);
            for lane in lanes.iter() {
                lane.put(Arc::clone(&message));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
