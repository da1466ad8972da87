//! Opening and accepting connections.

use std::cell::RefCell;
use std::rc::Rc;

use telemetry::FrameTally;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use valkyrie_session::{Session, Side};
use valkyrie_transport::{Connection, Endpoint, Listener, PeerAddress};

use crate::config::{Admission, LinkConfig};
use crate::driver::{Driver, Meter};
use crate::error::{ConnectError, ServeError};
use crate::link::{Handler, Link};

/// Opens a connection and waits until it is ready. Its driver runs as a task of this shard, and
/// goes on when the returned handle is dropped; [`Link::close`] ends it.
///
/// # Errors
/// [`ConnectError`]: unreachable, or refused in the handshake.
///
/// # Panics
/// Outside a shard ([`Shard`](crate::Shard), [`block_on`](crate::block_on), a `LocalSet`).
pub async fn connect(
    endpoint: &Endpoint,
    config: LinkConfig,
    handler: impl Handler,
) -> Result<Link, ConnectError> {
    let io = valkyrie_transport::connect(endpoint).await?;
    let random = random().map_err(ConnectError::Random)?;
    let session = Session::new(Side::Initiator, config.session.clone(), random);
    let link = Link::new(session, io.peer().clone());
    let (ready, wait) = oneshot::channel();
    let driver = Driver::new(io, link.clone(), handler, meter(&config), Some(ready));
    spawn_local(driver.run());
    match wait.await {
        Ok(()) => Ok(link),
        Err(_ended) => Err(ConnectError::Handshake(link.closed().await)),
    }
}

/// Accepts connections for ever; `make` gives each its handler before the handshake. Connections
/// are tasks of this shard and go on when this future is dropped.
///
/// # Errors
/// [`ServeError`] when the listener breaks. A connection that fails ends alone.
///
/// # Panics
/// Outside a shard.
pub async fn serve<H: Handler>(
    mut listener: Listener,
    config: LinkConfig,
    mut make: impl FnMut(&Link) -> H,
) -> Result<(), ServeError> {
    let meter = meter(&config);
    loop {
        let io = listener.accept().await?;
        if !admits(config.admission, io.peer()) {
            tracing::warn!(peer = %io.peer(), "connection of another user refused");
            continue;
        }
        let random = match random() {
            Ok(random) => random,
            Err(error) => {
                tracing::error!(%error, "no random bytes; connection refused");
                continue;
            }
        };
        accept(io, &config, random, meter.clone(), &mut make);
    }
}

fn accept<H: Handler>(
    io: Connection,
    config: &LinkConfig,
    random: [u8; 32],
    meter: Option<Rc<Meter>>,
    make: &mut impl FnMut(&Link) -> H,
) {
    let session = Session::new(Side::Acceptor, config.session.clone(), random);
    let link = Link::new(session, io.peer().clone());
    let handler = make(&link);
    spawn_local(Driver::new(io, link, handler, meter, None).run());
}

fn admits(admission: Admission, peer: &PeerAddress) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match (admission, peer.uid()) {
        (Admission::AnyUser, _) | (Admission::SameUser, None) => true,
        (Admission::SameUser, Some(uid)) => uid == own || uid == 0,
    }
}

fn meter(config: &LinkConfig) -> Option<Rc<Meter>> {
    let metrics = config.metrics.as_ref()?.valkyrie.clone();
    let tally = RefCell::new(FrameTally::new(&metrics));
    Some(Rc::new(Meter { metrics, tally }))
}

fn random() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
