//! Threads that each own a part of the connections.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::idle::{self, Idle};
use crate::turns::again_while_woken;

/// A thread with its own runtime, on which links live.
#[derive(Debug)]
pub struct Shard<T> {
    thread: JoinHandle<io::Result<T>>,
}

/// Why a shard gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// Its runtime could not start.
    #[error("shard could not start: {0}")]
    Start(#[from] io::Error),
    /// It panicked; the message is on standard error.
    #[error("shard panicked")]
    Panicked,
}

impl<T: Send + 'static> Shard<T> {
    /// Starts a thread called `name` that runs `main` to its end. Local tasks that are left then
    /// are dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn<F, Fut>(name: &str, main: F) -> io::Result<Self>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        Self::spawn_with(name, Idle::default(), main)
    }

    /// The same for a shard that does `idle` when nothing is to be done.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn_with<F, Fut>(name: &str, idle: Idle, main: F) -> io::Result<Self>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let builder = thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || block_on_with(idle, async move { main().await }))?;
        Ok(Self { thread })
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the shard; blocks the thread.
    ///
    /// # Errors
    /// See [`ShardError`].
    pub fn join(self) -> Result<T, ShardError> {
        Ok(self.thread.join().map_err(|_| ShardError::Panicked)??)
    }
}

/// Makes this thread a shard until `main` ends.
///
/// # Errors
/// The runtime could not start.
pub fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    block_on_with(Idle::default(), main)
}

/// The same for a shard that does `idle` when nothing is to be done.
///
/// # Errors
/// The runtime could not start.
pub fn block_on_with<F: Future>(idle: Idle, main: F) -> io::Result<F::Output> {
    // The default of 61 lets tasks that wake each other keep the shard from its sockets.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(31)
        .build()?;
    let local = LocalSet::new();
    if idle == Idle::LowLatency {
        local.spawn_local(idle::spin());
    }
    Ok(runtime.block_on(again_while_woken(local.run_until(main))))
}
