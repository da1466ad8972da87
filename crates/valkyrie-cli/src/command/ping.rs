//! `valkyrie ping`.

use std::future::pending;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use valkyrie::{Event, Handler, Link};

use crate::args::PingArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer::{self, Peer};
use crate::signals::Signals;
use crate::spread::Spread;
use crate::style;

/// How long the last PONG is waited for.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Hands round trips to the command. The session has one PING on its way at a time, so the channel
/// never holds many.
struct Pongs {
    sender: mpsc::Sender<Duration>,
}

impl Handler for Pongs {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        if let Event::Rtt { rtt } = event {
            // A round trip that nobody reads, at the end, is of no use.
            let _ = self.sender.try_send(rtt);
        }
    }
}

/// How the pings went.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    round_trips: Vec<Duration>,
}

/// Sends PINGs until the count is reached or a signal comes.
///
/// # Errors
/// Nobody answers there, or the connection ends.
pub(crate) async fn ping(args: &PingArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (sender, mut pongs) = mpsc::channel(16);
    let peer = tokio::select! {
        peer = peer::connect(&args.endpoint, args.timeout, Pongs { sender }) => peer?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    announce(&peer, args, out)?;
    let mut tally = Tally::default();
    let result = tokio::select! {
        result = exchange(&peer.link, args, &mut pongs, &mut tally, out) => result,
        () = signals.next() => Ok(()),
    };
    tell(&tally, out)?;
    result?;
    peer::close(&peer.link).await;
    Ok(match tally.round_trips.len() as u64 == tally.sent {
        true => Exit::Success,
        false => Exit::Failed,
    })
}

async fn exchange(
    link: &Link,
    args: &PingArgs,
    pongs: &mut mpsc::Receiver<Duration>,
    tally: &mut Tally,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            Some(rtt) = pongs.recv() => {
                tally.round_trips.push(rtt);
                show(tally, rtt, out)?;
                if last.is_some() && tally.round_trips.len() as u64 == tally.sent {
                    return Ok(());
                }
            }
            _ = ticks.tick(), if last.is_none() => {
                link.session().ping();
                tally.sent += 1;
                if args.count.is_some_and(|count| tally.sent >= count) {
                    last = Some(Box::pin(sleep(LAST_WAIT)));
                }
            }
            () = end_of(&mut last) => return Ok(()),
            reason = link.closed() => {
                return Err(Failure::Lost {
                    endpoint: args.endpoint.to_string(),
                    cause: reason.to_string(),
                });
            }
        }
    }
}

async fn end_of(last: &mut Option<std::pin::Pin<Box<tokio::time::Sleep>>>) {
    match last {
        Some(sleep) => sleep.await,
        None => pending().await,
    }
}

fn announce(peer: &Peer, args: &PingArgs, out: &mut Output) -> Result<(), Failure> {
    let session = peer.link.session();
    let Some(agreed) = session.agreement() else {
        return Ok(());
    };
    let version = format!("{}.{}", agreed.version >> 8, agreed.version & 0xFF);
    let (mode, node) = (agreed.mode, &agreed.node);
    match out.format() {
        Format::Json => out.json(&json!({
            "endpoint": args.endpoint.to_string(),
            "connected_us": micros(peer.connected),
            "ready_us": micros(peer.ready),
            "version": version, "mode": mode.name(), "node": node,
        })),
        Format::Text => {
            let text = format!(
                "{}\n  connected in {}, ready in {}\n  Valkyrie {version}, {mode}, node {node:?}\n",
                args.endpoint,
                style::time(peer.connected),
                style::time(peer.ready),
            );
            out.text(&text)
        }
    }
}

fn show(tally: &Tally, rtt: Duration, out: &mut Output) -> Result<(), Failure> {
    let number = tally.round_trips.len();
    match out.format() {
        Format::Json => out.json(&json!({ "pong": number, "rtt_us": micros(rtt) })),
        Format::Text => out.text(&format!("pong {number:<4} {}\n", style::time(rtt))),
    }
}

fn tell(tally: &Tally, out: &mut Output) -> Result<(), Failure> {
    let (sent, answered) = (tally.sent, tally.round_trips.len() as u64);
    let lost = sent - answered;
    let spread = Spread::of(&tally.round_trips);
    if out.format() == Format::Json {
        let rtt = spread.map(|spread| spread.to_json());
        return out.json(&json!({
            "sent": sent, "answered": answered, "lost": lost, "rtt_us": rtt,
        }));
    }
    let mut text = format!("{sent} sent, {answered} answered, {lost} lost\n");
    if let Some(spread) = spread {
        text.push_str(&format!("{spread}\n"));
    }
    out.text(&text)
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
