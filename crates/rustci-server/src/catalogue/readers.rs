//! Threads that only read the catalogue, so that nobody who looks waits behind what is written.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use crate::catalogue::{Catalogue, CatalogueError};
use crate::limits::{CATALOGUE_QUEUE, CATALOGUE_READERS, THREAD_STACK_BYTES};

/// Something to do with the catalogue.
pub(crate) type Query = Box<dyn FnOnce(&Catalogue) + Send>;
/// A query, or the end of one thread.
type Task = Option<Query>;

/// The threads. Dropping this ends them when what they were asked is answered.
#[derive(Debug)]
pub(super) struct Readers {
    handle: ReadHandle,
    threads: Vec<JoinHandle<()>>,
}

/// A handle for asking them.
#[derive(Debug, Clone)]
pub(super) struct ReadHandle(mpsc::Sender<Task>);

impl Readers {
    /// Starts them over the database of `catalogue`, each with a connection of its own.
    pub(super) fn start(catalogue: &Catalogue) -> Result<Self, CatalogueError> {
        let (sender, receiver) = mpsc::channel(CATALOGUE_QUEUE);
        let mut readers = Self {
            handle: ReadHandle(sender),
            threads: Vec::new(),
        };
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..CATALOGUE_READERS {
            let catalogue = catalogue.reader()?;
            let receiver = Arc::clone(&receiver);
            let thread = thread::Builder::new()
                .name("catalogue-read".into())
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || run(&catalogue, &receiver))
                .map_err(CatalogueError::Thread)?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) fn handle(&self) -> ReadHandle {
        self.handle.clone()
    }
}

fn run(catalogue: &Catalogue, receiver: &Mutex<mpsc::Receiver<Task>>) {
    loop {
        // Held while waiting: the other threads wait for the lock instead.
        let task = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        match task {
            Some(Some(query)) => catalogue.in_one_state(query),
            Some(None) | None => return,
        }
    }
}

impl Catalogue {
    /// Runs a query of several statements between two transactions of the writer.
    fn in_one_state(&self, query: Query) {
        let begun = self.connection().execute_batch("BEGIN").is_ok();
        query(self);
        if begun {
            // Nothing was written, so there is nothing that could fail to be.
            let _ = self.connection().execute_batch("COMMIT");
        }
    }
}

impl ReadHandle {
    pub(super) async fn ask(&self, query: Query) -> Result<(), CatalogueError> {
        let sent = self.0.send(Some(query)).await;
        sent.map_err(|_| CatalogueError::Stopped)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for _ in &self.threads {
            // A thread that works is behind a queue that moves.
            while let Err(mpsc::error::TrySendError::Full(_)) = self.handle.0.try_send(None) {
                thread::yield_now();
            }
        }
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by its hook; there is nobody to pass it to here.
            let _ = thread.join();
        }
    }
}

/// A query that sends its answer to whoever waits for it.
pub(super) fn query<T: Send + 'static>(
    ask: impl FnOnce(&Catalogue) -> Result<T, CatalogueError> + Send + 'static,
) -> (Query, oneshot::Receiver<Result<T, CatalogueError>>) {
    let (reply, answer) = oneshot::channel();
    let query: Query = Box::new(move |catalogue| {
        // Whoever asked may have gone away; then nobody misses the answer.
        let _ = reply.send(ask(catalogue));
    });
    (query, answer)
}
