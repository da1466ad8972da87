//! Making connections, from both ends.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_local;
use valkyrie_frame::{ErrorCode, features};
use valkyrie_session::{Session, SessionConfig, Side};
use valkyrie_transport::{Connection, Endpoint, Listener};

use crate::config::{Admission, LinkConfig};
use crate::driver::{Driver, Settings};
use crate::error::{CloseReason, ConnectError, ServeError};
use crate::link::{Handler, Link};
use crate::timers;
use crate::upgrade::Upgrade;

/// Connects to `endpoint` and waits until the connection is ready. It runs in a local task of this
/// shard from then on, also when the link is dropped. A shard is a thread with one `LocalSet`, as
/// [`block_on`](crate::block_on) gives it: another one of the same thread would not keep deadlines.
///
/// Dropping the future before it is done gives the connection up.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    endpoint: &Endpoint,
    config: LinkConfig,
    handler: impl Handler,
) -> Result<Link, ConnectError> {
    let connection = valkyrie_transport::connect(endpoint).await?;
    connect_over(connection, config, handler).await
}

/// The same over a connection of the transport that the caller has made, as its initiator.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_over(
    connection: Connection,
    config: LinkConfig,
    handler: impl Handler,
) -> Result<Link, ConnectError> {
    timers::start().map_err(ConnectError::Timer)?;
    let random = random().map_err(ConnectError::Random)?;
    let link = link(&connection, Side::Initiator, &shared(&config), random);
    let (sender, ready) = oneshot::channel();
    let driver =
        Driver::new(link.clone(), connection, handler, Settings::of(&config)).tell_ready(sender);
    spawn_local(driver.run());
    let mut attempt = Attempt { link: Some(link) };
    match ready.await {
        Ok(Ok(())) => attempt
            .link
            .take()
            .ok_or(ConnectError::Handshake(CloseReason::Lost)),
        Ok(Err(reason)) => Err(ConnectError::Handshake(reason)),
        Err(_) => Err(ConnectError::Handshake(CloseReason::Lost)),
    }
}

/// A connection that nobody has yet; dropping it closes the connection.
struct Attempt {
    link: Option<Link>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.close(ErrorCode::NONE, Duration::ZERO);
        }
    }
}

/// Takes connections until the listener breaks or the future is dropped; each one gets a handler
/// from `make` and runs in a local task of this shard. Connections outlive the future: close them
/// through their links.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<H: Handler>(
    mut listener: Listener,
    config: LinkConfig,
    mut make: impl FnMut(&Link) -> H,
) -> Result<(), ServeError> {
    timers::start().map_err(ServeError::Timer)?;
    let (session, settings) = (shared(&config), Settings::of(&config));
    let room = Arc::new(Semaphore::new(config.connections_max as usize));
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        let connection = listener.accept().await?;
        if !admits(config.admission, connection.peer().uid()) {
            tracing::warn!(peer = %connection.peer(), "connection of another user refused");
            continue;
        }
        let random = random().map_err(ServeError::Random)?;
        let link = link(&connection, Side::Acceptor, &session, random);
        tracing::debug!(conn = link.id(), peer = %connection.peer(), "connection accepted");
        let handler = make(&link);
        let driver = Driver::new(link, connection, handler, Rc::clone(&settings));
        spawn_local(driver.hold(permit).run());
    }
}

/// Whether the user at the other end may connect, as far as the transport can tell.
fn admits(admission: Admission, uid: Option<u32>) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match (admission, uid) {
        (Admission::AnyUser, _) | (Admission::SameUser, None) => true,
        (Admission::SameUser, Some(uid)) => uid == own || uid == 0,
    }
}

/// What the sessions of a configuration share.
fn shared(config: &LinkConfig) -> Arc<SessionConfig> {
    let mut session = config.session.clone();
    match config.upgrade {
        Upgrade::Never => session.features &= !features::UPGRADE,
        Upgrade::Offer | Upgrade::Take => session.features |= features::UPGRADE,
    }
    Arc::new(session)
}

fn link(
    connection: &Connection,
    side: Side,
    config: &Arc<SessionConfig>,
    random: [u8; 32],
) -> Link {
    let session = Session::new(side, Arc::clone(config), random);
    Link::new(session, connection.peer().clone())
}

pub(crate) fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_is_only_admitted_where_everyone_is() {
        let own = rustix::process::geteuid().as_raw();
        for (uid, same_user) in [(None, true), (Some(own), true), (Some(0), true)] {
            assert_eq!(admits(Admission::SameUser, uid), same_user);
        }
        assert!(!admits(Admission::SameUser, Some(own + 1)));
        assert!(admits(Admission::AnyUser, Some(own + 1)));
    }
}
