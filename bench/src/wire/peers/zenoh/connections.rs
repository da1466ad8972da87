//! Opening a session, and holding many that do nothing.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::{Context, Result};
use zenoh::{Session, Wait};

use super::{End, Known, open as open_session};
use crate::wire::measure::{Figures, Hist, ensure_echo, message};
use crate::wire::memory::Held;

const SESSIONS: usize = 60;

/// From opening a session to the answer of its first query.
pub(super) fn connect() -> Result<Figures> {
    let port = crate::processes::free_port()?;
    let router = router(port)?;
    let mut hist = Hist::new(SESSIONS);
    let mut held = Vec::new();
    for index in 0..SESSIONS as u64 {
        let start = Instant::now();
        held.push(connected(port, index)?);
        hist.since(start);
    }
    drop(router);
    Ok(vec![("connect_p50_us", hist.us(0.5))])
}

fn router(port: u16) -> Result<Session> {
    let router = open_session("router", &End::Listen(port))?;
    router
        .declare_queryable("first")
        .callback(|query| {
            let payload = query.payload().cloned().unwrap_or_default();
            // The caller notices when its answer is missing.
            let _ = query.reply("first", payload).wait();
        })
        .background()
        .wait()
        .known()?;
    Ok(router)
}

fn connected(port: u16, index: u64) -> Result<Session> {
    let session = open_session("client", &End::Connect(port))?;
    let replies = session
        .get("first")
        .payload(message(index))
        .wait()
        .known()?;
    let reply = replies.recv_timeout(super::LIMIT).known()?;
    let reply = reply.context("no answer came")?;
    let sample = reply.result().ok().context("the query failed")?;
    ensure_echo(&sample.payload().to_bytes(), index)?;
    Ok(session)
}

/// Serves those that do nothing.
pub(super) fn serve(listener: TcpListener) -> Result<()> {
    let port = listener.local_addr()?.port();
    // It wants to bind the port itself.
    drop(listener);
    let _router = router(port)?;
    loop {
        std::thread::park();
    }
}

/// Opens sessions, each of which has carried a query.
pub(super) fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let held: Vec<_> = (0..count as u64)
        .map(|index| connected(at.port(), index))
        .collect::<Result<_>>()?;
    Ok(Box::new(held))
}
