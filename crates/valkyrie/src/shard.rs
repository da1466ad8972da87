//! Threads that connections live on.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// A thread with a single-threaded runtime, for connections and whatever serves them.
#[derive(Debug)]
pub struct Shard {
    thread: JoinHandle<()>,
}

/// A shard could not be started, or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The system gave no thread or no poller.
    #[error("shard {name} did not start: {source}")]
    Start {
        /// Name of the thread.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its thread panicked; a bug on this side.
    #[error("shard panicked")]
    Panicked,
}

impl Shard {
    /// Starts a thread called `name` that runs `main` on its own runtime until it ends.
    ///
    /// # Errors
    /// [`ShardError::Start`] when the system has no thread or descriptor left.
    pub fn spawn<F, M>(name: &str, main: M) -> Result<Self, ShardError>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let failed = |source| ShardError::Start {
            name: name.to_owned(),
            source,
        };
        let runtime = runtime().map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, async move { main().await }))
            .map_err(failed)?;
        Ok(Self { thread })
    }

    /// Waits for its main function to end.
    ///
    /// # Errors
    /// [`ShardError::Panicked`].
    pub fn join(self) -> Result<(), ShardError> {
        self.thread.join().map_err(|_panic| ShardError::Panicked)
    }
}

fn runtime() -> io::Result<Runtime> {
    // The default of 61 lets tasks that wake each other keep the shard from its sockets.
    Builder::new_current_thread()
        .enable_all()
        .event_interval(31)
        .build()
}

/// Makes this thread a shard until `main` ends.
///
/// # Panics
/// When the system has no descriptor left for a poller.
pub fn block_on<F: Future>(main: F) -> F::Output {
    let runtime = runtime().expect("the system has a descriptor for a poller");
    LocalSet::new().block_on(&runtime, main)
}
