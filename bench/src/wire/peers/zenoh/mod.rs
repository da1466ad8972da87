//! zenoh: two peers over TCP, without discovery.

mod bulk;
mod connections;
mod latency;
mod messages;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::{Config, Session, Wait};

use super::IDLE_CONNECTIONS;
use crate::processes::{free_port, wait_for};
use crate::wire::memory::{Idle, Server};
use crate::wire::{Case, Entrant, Work};

pub(crate) const ZENOH: Entrant = Entrant {
    name: "zenoh",
    cases: &[
        Case::new("messages", Work::Run(messages::one_way)),
        Case::new("calls", Work::Run(messages::calls)),
        Case::new("latency", Work::Pinned(latency::echo)),
        Case::new("latency", Work::Parked(latency::echo)),
        Case::new("bulk", Work::Run(bulk::chunks)),
        Case::new("bulk", Work::Run(bulk::urgent)),
        Case::new("connections", Work::Run(connections::connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: Server::Own(connections::serve),
                open: connections::open,
                // Opening one takes a millisecond of both ends, and dozens of KiB.
                connections_max: IDLE_CONNECTIONS / 8,
            }),
        ),
    ],
};

/// Its errors are no errors of the standard library.
trait Known<T> {
    fn known(self) -> Result<T>;
}

impl<T> Known<T> for zenoh::Result<T> {
    fn known(self) -> Result<T> {
        self.map_err(|error| anyhow!("{error}"))
    }
}

/// What a session does about its other end.
enum End {
    Listen(u16),
    Connect(u16),
}

fn open(mode: &str, end: &End) -> Result<Session> {
    let (listen, connect) = match end {
        End::Listen(port) => (format!("[\"tcp/127.0.0.1:{port}\"]"), "[]".to_owned()),
        End::Connect(port) => ("[]".to_owned(), format!("[\"tcp/127.0.0.1:{port}\"]")),
    };
    let mut config = Config::default();
    for (key, value) in [
        ("mode", format!("\"{mode}\"")),
        ("scouting/multicast/enabled", "false".to_owned()),
        ("listen/endpoints", listen),
        ("connect/endpoints", connect),
        ("transport/unicast/max_sessions", "20000".to_owned()),
    ] {
        config.insert_json5(key, &value).known()?;
    }
    zenoh::open(config).wait().known()
}

/// Two connected sessions.
fn pair() -> Result<(Session, Session)> {
    let port = free_port()?;
    let server = open("peer", &End::Listen(port))?;
    let client = open("peer", &End::Connect(port))?;
    Ok((server, client))
}

/// A publisher that waits when the other end is slow, after the other end subscribed.
fn publisher(session: &Session, key: &'static str, urgency: Urgency) -> Result<Publisher<'static>> {
    let publisher = session
        .declare_publisher(key)
        .congestion_control(CongestionControl::Block);
    let publisher = match urgency {
        Urgency::Batched => publisher,
        Urgency::Express => publisher.priority(Priority::RealTime).express(true),
    };
    let publisher = publisher.wait().known()?;
    wait_for("a subscription", || {
        let status = publisher.matching_status().wait();
        status.is_ok_and(|status| status.matching())
    })?;
    Ok(publisher)
}

#[derive(Clone, Copy)]
enum Urgency {
    /// Batches with others, at the usual priority.
    Batched,
    /// At once, at the highest priority.
    Express,
}

/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The next thing a callback sent.
fn next<T>(receiver: &std::sync::mpsc::Receiver<T>) -> Result<T> {
    match receiver.recv_timeout(LIMIT) {
        Ok(next) => Ok(next),
        Err(_) => bail!("a message was lost"),
    }
}
