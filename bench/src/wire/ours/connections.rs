//! Opening connections and streams, and holding many that do nothing.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local};
use valkyrie::{
    Endpoint, Event, Handler, Idle, Link, LinkConfig, SessionConfig, StreamClass, block_on,
};
use valkyrie::{listen, serve as serve_links, v2};

use super::node::{CLASS, ECHO, client, run, sink};
use crate::wire::growth::Load;
use crate::wire::measure::{Figures, Hist, WARM_UP, ensure_echo, message};
use crate::wire::memory::Held;
use crate::wire::place::{Place, runtime};

const CONNECTS: u64 = 1_000;
const CONNECTS_TO_WARM_UP: u64 = 50;
const WAIT: Duration = Duration::from_secs(10);
const STREAMS: usize = 20_000;

/// From opening a connection to the word that it is negotiated, one round trip; a call follows.
pub(super) fn connect() -> Result<Figures> {
    let at = sink(Place::TwoCores, Idle::Park, LinkConfig::default)?;
    run(Place::TwoCores, Idle::Park, async {
        let mut hist = Hist::new(CONNECTS as usize);
        for index in 0..CONNECTS + CONNECTS_TO_WARM_UP {
            let start = Instant::now();
            let (link, _waker) = client(&at, LinkConfig::default()).await?;
            if index >= CONNECTS_TO_WARM_UP {
                hist.since(start);
            }
            one_call(&link, index).await?;
            link.abort();
            // Or its end would be a part of the next connection's time.
            link.closed().await;
        }
        Ok(vec![("connect_p50_us", hist.us(0.5))])
    })
}

async fn one_call(link: &Link, index: u64) -> Result<()> {
    let answer = link.call(CLASS, ECHO, &message(index), WAIT).await?;
    ensure_echo(&answer, index)
}

/// From asking for a stream to the peer's word that it is ready, with both ends on one core.
pub(super) fn open_streams() -> Result<Figures> {
    let at = sink(Place::OneCore, Idle::Park, LinkConfig::default)?;
    run(Place::OneCore, Idle::Park, async {
        let (link, waker) = client(&at, LinkConfig::default()).await?;
        let mut hist = Hist::new(STREAMS);
        for round in 0..STREAMS + WARM_UP {
            let open = v2::StreamOpen::default();
            let start = Instant::now();
            let stream = link.session().open(StreamClass::Data, &open)?;
            waker.notify.notified().await;
            if round >= WARM_UP {
                hist.since(start);
            }
            // The peer ends its direction when it sees this, so that ids come free again.
            link.session().finish(stream);
            while link.session().streams_open() > 0 {
                waker.notify.notified().await;
            }
        }
        Ok(vec![("stream_open_p99_us", hist.us(0.99))])
    })
}

/// Answers, and has no memory of its own that a connection would be charged for.
struct Echo;

impl Handler for Echo {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Event::Call { call, body, .. } = event {
            // The connection may be gone; then nobody waits.
            let _ = link.session().reply(call, &body);
        }
    }
}

/// Serves those that do nothing.
pub(super) fn serve(listener: TcpListener) -> Result<()> {
    let at = listener.local_addr()?;
    // The product listens by endpoint; the port stays ours between the two.
    drop(listener);
    let config = LinkConfig {
        connections_max: 1_000_000,
        ..LinkConfig::default()
    };
    block_on(async {
        let endpoint: Endpoint = format!("valkyrie+tcp://{at}").parse()?;
        let listener = listen(&endpoint).await?;
        Ok(serve_links(listener, config, |_| Echo).await?)
    })?
}

/// Opens connections, each of which has carried a call.
pub(super) fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let endpoint: Endpoint = format!("valkyrie+tcp://{at}").parse()?;
    let (runtime, local): (Runtime, LocalSet) = (runtime()?, LocalSet::new());
    let held = local.block_on(&runtime, async {
        let mut held = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let (link, waker) = client(&endpoint, LinkConfig::default()).await?;
            one_call(&link, index).await?;
            held.push((link, waker));
        }
        anyhow::Ok(held)
    })?;
    Ok(Box::new((held, local, runtime)))
}

/// Calls over many connections in turn.
pub(super) fn load(at: SocketAddr, load: Load) -> Result<()> {
    let endpoint: Endpoint = format!("valkyrie+tcp://{at}").parse()?;
    block_on(async {
        let mut held = Vec::with_capacity(load.connections);
        for index in 0..load.connections as u64 {
            let (link, waker) = client(&endpoint, LinkConfig::default()).await?;
            one_call(&link, index).await?;
            held.push((link, waker));
        }
        load.go()?;
        for index in 0..load.calls {
            let turn = index % load.connections;
            if let Some((link, _)) = held.get(turn) {
                one_call(link, index as u64).await?;
            }
        }
        load.go()
    })?
}

const IN_PROCESS: u64 = 1_000_000;

/// Wants nothing.
struct Quiet;

impl Handler for Quiet {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

/// A million connections with both ends in this process.
pub(super) fn in_process() -> Result<Figures> {
    block_on(async {
        let endpoint: Endpoint = "valkyrie+mem://million".parse()?;
        let listener = listen(&endpoint).await?;
        // Ends of one process cannot vanish unseen, and heartbeats of two million of them would be
        // more than one thread can send.
        let quiet = LinkConfig {
            session: SessionConfig {
                keepalive: None,
                ..SessionConfig::default()
            },
            connections_max: u32::MAX,
            ..LinkConfig::default()
        };
        spawn_local(serve_links(listener, quiet.clone(), |_| Echo));
        let mut held = Vec::with_capacity(IN_PROCESS as usize);
        let before = resident_kib()?;
        for index in 0..IN_PROCESS {
            let link = valkyrie::connect(&endpoint, quiet.clone(), Quiet).await?;
            // A sample of them is used, so that they are known to work.
            if index % 1_000 == 0 {
                one_call(&link, index).await?;
            }
            held.push(link);
        }
        let kib = (resident_kib()? - before) / IN_PROCESS as f64;
        for (index, link) in held.iter().enumerate().step_by(50_000) {
            one_call(link, index as u64).await?;
        }
        Ok(vec![
            ("inprocess_connections", held.len() as f64),
            ("inprocess_kib_per_connection", kib),
        ])
    })?
}

fn resident_kib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.unwrap_or("0").parse()?)
}
