//! A byte proxy between two connections of any transport that does what networks do, from a seed.
//!
//! [`Plan`] says what happens to each direction; [`relay`] carries one connection, [`Proxy`] every
//! connection to an endpoint. The same seed makes the same cuts, delays and flipped bits; what
//! the two ends make of it is up to their timing.

mod direction;
mod rng;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::split;
use valkyrie_transport::{
    AcceptError, Connection, Endpoint, ListenError, Listener, connect, listen,
};

pub use direction::Carried;
use direction::carry;
use rng::Rng;

/// What happens to the bytes of one direction. The default passes them on as they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Cuts them into pieces of one to this many bytes.
    pub slice_bytes_max: Option<usize>,
    /// Holds each piece for up to this long; order is kept.
    pub delay_max: Duration,
    /// Passes on no more than this.
    pub bytes_per_second: Option<u64>,
    /// Flips one bit of the byte at this offset.
    pub corrupt_at: Option<u64>,
    /// Ends the direction before this offset, as its sender had finished there. The other
    /// direction goes on.
    pub finish_at: Option<u64>,
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where chance comes from.
    pub seed: u64,
    /// From who connected to who was connected to.
    pub forth: Faults,
    /// The other direction.
    pub back: Faults,
}

impl Plan {
    /// The same in both directions.
    #[must_use]
    pub const fn both(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            forth: faults,
            back: faults,
        }
    }
}

/// Carries bytes between `near`, which connected, and `far` until both directions have ended.
/// Returns what went forth and what came back.
pub async fn relay(near: Connection, far: Connection, plan: Plan) -> (Carried, Carried) {
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(far);
    let mut rng = Rng::new(plan.seed);
    let forth = carry(near_read, far_write, plan.forth, rng.fork());
    let back = carry(far_read, near_write, plan.back, rng.fork());
    tokio::join!(forth, back)
}

/// Takes connections on one endpoint and carries each to another.
#[derive(Debug)]
pub struct Proxy {
    listener: Listener,
    target: Endpoint,
    plan: Plan,
    corrupted: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens on `endpoint`, in front of `target`.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn new(
        endpoint: &Endpoint,
        target: Endpoint,
        plan: Plan,
    ) -> Result<Self, ListenError> {
        Ok(Self {
            listener: listen(endpoint).await?,
            target,
            plan,
            corrupted: Arc::default(),
        })
    }

    /// Where to connect to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        self.listener.endpoint()
    }

    /// Takes the next connection; the future carries it to its end. A target that does not answer
    /// ends it at once. Connections get different seeds.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(&mut self) -> Result<impl Future<Output = ()> + Send + use<>, AcceptError> {
        let near = self.listener.accept().await?;
        let (target, plan) = (self.target.clone(), self.plan);
        self.plan.seed = self.plan.seed.wrapping_add(1);
        let corrupted = self.corrupted.clone();
        Ok(async move {
            if let Ok(far) = connect(&target).await {
                let (forth, back) = relay(near, far, plan).await;
                corrupted.fetch_add(forth.corrupted + back.corrupted, Ordering::Relaxed);
            }
        })
    }

    /// Counts bytes that were changed on connections that have ended.
    #[must_use]
    pub fn corrupted(&self) -> Arc<AtomicU64> {
        self.corrupted.clone()
    }
}
