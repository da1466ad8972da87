//! Connections that this program makes.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use valkyrie::{
    ConnectError, Endpoint, ErrorCode, Handler, Link, LinkConfig, SessionConfig, connect_over,
};
use valkyrie_transport::ConnectError as TransportError;

use crate::failure::Failure;

/// How long an orderly end may take: what is not said by then is not worth waiting for.
const DRAIN: Duration = Duration::from_secs(5);

/// A connection that is ready, and how long it took to get it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    /// Until the transport was connected.
    pub(crate) connected: Duration,
    /// Until both sides had agreed.
    pub(crate) ready: Duration,
}

/// The name of this program for its peers.
pub(crate) fn config() -> LinkConfig {
    LinkConfig {
        session: SessionConfig {
            node: concat!("valkyrie-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..SessionConfig::default()
        },
        ..LinkConfig::default()
    }
}

/// Connects and waits until the connection is ready.
///
/// # Errors
/// Nobody answers there within `limit`, or not in Valkyrie.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    limit: Duration,
    handler: impl Handler,
) -> Result<Peer, Failure> {
    if matches!(endpoint, Endpoint::Mem { .. }) {
        return Err(Failure::Usage {
            message: format!("{endpoint} is inside one process, and this is another"),
            hint: "name a valkyrie+tcp:// or valkyrie+unix:// endpoint".to_owned(),
        });
    }
    let began = Instant::now();
    let connecting = async {
        let connection = valkyrie_transport::connect(endpoint).await?;
        let connected = began.elapsed();
        let link = connect_over(connection, config(), handler).await?;
        Ok(Peer {
            link,
            connected,
            ready: began.elapsed(),
        })
    };
    match timeout(limit, connecting).await {
        Ok(result) => result.map_err(|error| failed(endpoint, &error)),
        Err(_) => Err(Failure::Connect {
            cause: format!(
                "{endpoint} does not answer within {}",
                humantime::format_duration(limit)
            ),
            hint: Some("--timeout waits longer".to_owned()),
        }),
    }
}

/// Ends a connection in order, so that everything sent arrives.
pub(crate) async fn close(link: &Link) {
    link.close(ErrorCode::NONE, DRAIN);
    // The drain is over by then, whatever the peer does.
    drop(timeout(DRAIN * 2, link.closed()).await);
}

fn failed(endpoint: &Endpoint, error: &ConnectError) -> Failure {
    let hint = match error {
        ConnectError::Transport(TransportError::Io { source, .. }) => match source.kind() {
            io::ErrorKind::ConnectionRefused => Some("nobody listens there now"),
            io::ErrorKind::NotFound => Some("there is no socket at this path"),
            io::ErrorKind::PermissionDenied => Some("the socket belongs to somebody else"),
            _ => None,
        },
        ConnectError::Handshake(_) => {
            Some("does a Valkyrie server listen there? `valkyrie capture` shows what it says")
        }
        _ => None,
    };
    let cause = match error {
        // Errors of the transport name the endpoint already.
        ConnectError::Transport(error) => error.to_string(),
        error => format!("{endpoint}: {error}"),
    };
    Failure::Connect {
        cause,
        hint: hint.map(str::to_owned),
    }
}
