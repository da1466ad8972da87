//! Peers that have connected but have to say something before they are connections.

use std::future::Future;
use std::io;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::error::RefusedError;
use crate::limits::{HANDSHAKE_PATIENCE, HANDSHAKES_MAX};

type Arrival = Pin<Box<dyn Future<Output = Result<Connection, RefusedError>> + Send>>;

/// Serves many arrivals at once, so that a slow one keeps nobody waiting.
#[derive(Default)]
pub(crate) struct Arrivals {
    waiting: FuturesUnordered<Arrival>,
    refused: u64,
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals")
            .field("waiting", &self.waiting.len())
            .field("refused", &self.refused)
            .finish()
    }
}

impl Arrivals {
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Accepts with `accept`, lets `greet` make connections of what it gives, and returns the
    /// first one that is ready. Cancel safe if `accept` is.
    pub(crate) async fn next<T, A, G>(
        &mut self,
        mut accept: impl FnMut() -> A,
        greet: impl Fn(T) -> G,
    ) -> io::Result<Connection>
    where
        A: Future<Output = io::Result<T>>,
        G: Future<Output = Result<Connection, RefusedError>> + Send + 'static,
    {
        loop {
            tokio::select! {
                Some(arrived) = self.waiting.next() => match arrived {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        self.refused += 1;
                        tracing::info!(%error, "peer refused");
                    }
                },
                accepted = accept(), if self.waiting.len() < HANDSHAKES_MAX => {
                    let greeting = timeout(HANDSHAKE_PATIENCE, greet(accepted?));
                    self.waiting.push(Box::pin(async move {
                        greeting.await.unwrap_or(Err(RefusedError::Timeout))
                    }));
                }
            }
        }
    }
}
