//! Both ends as a program has them: a server on its own shard, a client on this one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::Notify;
use valkyrie::{
    Batch, Correlation, Endpoint, Event, Handler, Idle, Limits, Link, LinkConfig, SessionConfig,
    StreamClass, StreamId, block_on_with, connect, listen, serve, v2,
};

use crate::wire::measure::Tally;
use crate::wire::place::Place;

/// The method that sends back what it gets.
pub(super) const ECHO: &str = "bench.Echo/Say";
/// The method that answers with what came on streams, once as much came as the request says.
pub(super) const TOTAL: &str = "bench.Sink/Total";
/// Of everything that is asked here.
pub(super) const CLASS: StreamClass = StreamClass::System;

/// A profile with a wider window for data.
pub(super) fn window(bytes: u32) -> LinkConfig {
    let wire = v2::Limits {
        connection_window: 16 * 1024 * 1024,
        class_window: vec![0, 0, bytes, 0],
        ..v2::Limits::default()
    };
    let limits = Limits::from_wire(&wire).expect("a window inside its range");
    LinkConfig {
        session: SessionConfig {
            limits,
            ..SessionConfig::default()
        },
        ..LinkConfig::default()
    }
}

/// A call of [`TOTAL`] that waits for so many messages.
type Waiting = (u64, Correlation, Link);

/// Counts messages of streams, answers [`ECHO`] and [`TOTAL`], accepts every stream.
#[derive(Default)]
pub(super) struct Sink {
    tally: Rc<RefCell<Tally>>,
    waiting: Rc<RefCell<Vec<Waiting>>>,
    failed: bool,
}

impl Sink {
    fn count<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>) {
        let mut tally = self.tally.borrow_mut();
        for message in messages {
            self.failed |= tally.add(message).is_err();
        }
        let count = tally.count;
        drop(tally);
        if !self.waiting.borrow().is_empty() {
            self.answer(count);
        }
    }

    fn answer(&self, count: u64) {
        let tally = self.tally.borrow();
        let numbers = [tally.count, tally.sum, tally.bytes];
        let body: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.waiting.borrow_mut().retain(|(expected, call, link)| {
            let done = self.failed || count >= *expected;
            if done {
                // The connection may be gone; then nobody waits.
                let _ = link.session().reply(*call, &body);
            }
            !done
        });
    }
}

impl Sink {
    /// Takes over what another has counted.
    pub(super) fn set(&self, tally: &Tally) {
        let count = tally.count;
        *self.tally.borrow_mut() = Tally { ..*tally };
        if !self.waiting.borrow().is_empty() {
            self.answer(count);
        }
    }
}

impl Handler for Sink {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Opened { stream, .. } => link.session().accept(stream, 0),
            Event::Finished { stream, .. } => link.session().finish(stream),
            Event::Data { stream, bytes, .. } => {
                self.count([&bytes[..]].into_iter());
                link.session().consume(stream, bytes.len());
            }
            Event::Call {
                call, method, body, ..
            } if method == TOTAL => {
                let expected = body
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let waiting = (expected, call, link.clone());
                self.waiting.borrow_mut().push(waiting);
                let count = self.tally.borrow().count;
                self.answer(count);
            }
            Event::Call { call, body, .. } => {
                let _ = link.session().reply(call, &body);
            }
            Event::Job {
                stream,
                kind,
                correlation,
                ..
            } => {
                let end = valkyrie::End::No;
                // As above.
                let _ = link.session().ack(stream, kind, correlation, end);
            }
            _ => {}
        }
    }

    fn batch(&mut self, link: &Link, batch: Batch<'_>) {
        self.count(batch.into_iter());
        link.session().consume(batch.stream(), batch.bytes());
    }
}

/// A server on a thread of its own, with a handler that `make` gives each connection; it ends with
/// the process.
pub(super) fn start<H: Handler>(
    endpoint: &str,
    place: Place,
    idle: Idle,
    config: fn() -> LinkConfig,
    make: impl Fn() -> H + Send + 'static,
) -> Result<Endpoint> {
    let endpoint: Endpoint = endpoint.parse()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let served = place.pin_server().and_then(|()| {
            block_on_with(idle, async {
                let listener = listen(&endpoint).await?;
                sender.send(listener.endpoint().clone())?;
                Ok(serve(listener, config(), |_| make()).await?)
            })?
        });
        if let Err(error) = served {
            crate::report::note(&format!("a server ended: {error:#}"));
        }
    });
    receiver.recv().context("the server did not start")
}

/// Where a server listens that may use any port.
pub(super) const TCP: &str = "valkyrie+tcp://127.0.0.1:0";

/// Where a server of this process listens for connections in shared memory.
pub(super) fn shm() -> String {
    let name = format!("rustci-bench-{}.sock", std::process::id());
    format!(
        "valkyrie+shm://{}",
        std::env::temp_dir().join(name).display()
    )
}

/// A [`Sink`] over TCP.
pub(super) fn sink(place: Place, idle: Idle, config: fn() -> LinkConfig) -> Result<Endpoint> {
    sink_at(TCP, place, idle, config)
}

/// A [`Sink`] that counts over all of its connections.
pub(super) fn sink_at(
    endpoint: &str,
    place: Place,
    idle: Idle,
    config: fn() -> LinkConfig,
) -> Result<Endpoint> {
    start(endpoint, place, idle, config, || {
        thread_local! {
            static ALL: (Rc<RefCell<Tally>>, Rc<RefCell<Vec<Waiting>>>) = Default::default();
        }
        ALL.with(|(tally, waiting)| Sink {
            tally: Rc::clone(tally),
            waiting: Rc::clone(waiting),
            failed: false,
        })
    })
}

/// The client's end: wakes whoever waits for credit or an acknowledgement.
#[derive(Clone, Default)]
pub(super) struct Waker {
    pub(super) notify: Rc<Notify>,
    /// The stream that was accepted last.
    accepted: Rc<Cell<Option<StreamId>>>,
    /// Offset up to which the peer has a file.
    pub(super) verified: Rc<Cell<Option<u64>>>,
}

impl Handler for Waker {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        match event {
            Event::FileVerified { offset, .. } => self.verified.set(Some(offset)),
            Event::Accepted { stream, .. } => self.accepted.set(Some(stream)),
            Event::Writable { .. }
            | Event::JobAcked { .. }
            | Event::FileAcked { .. }
            | Event::Finished { .. }
            | Event::Reset { .. } => {}
            _ => return,
        }
        self.notify.notify_one();
    }
}

/// A client and what wakes it.
pub(super) async fn client(endpoint: &Endpoint, config: LinkConfig) -> Result<(Link, Waker)> {
    let waker = Waker::default();
    Ok((connect(endpoint, config, waker.clone()).await?, waker))
}

/// A data stream that the peer has accepted.
pub(super) async fn open(link: &Link, waker: &Waker) -> Result<StreamId> {
    let open = v2::StreamOpen::default();
    let stream = link.session().open(StreamClass::Data, &open)?;
    while waker.accepted.get() != Some(stream) {
        waker.notify.notified().await;
    }
    Ok(stream)
}

/// Asks what came, and fails unless it is every one of `count` messages.
pub(super) async fn ensure_all(link: &Link, count: u64, bytes_each: usize) -> Result<()> {
    let wait = std::time::Duration::from_secs(60);
    let answer = link.call(CLASS, TOTAL, &count.to_le_bytes(), wait).await?;
    let mut numbers = answer.chunks_exact(8).map(|chunk| {
        let bytes = chunk.first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes)
    });
    let (Some(count_came), Some(sum), Some(bytes)) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        bail!("an answer of {} bytes", answer.len());
    };
    let tally = Tally {
        count: count_came,
        sum,
        bytes,
    };
    tally.ensure(count, bytes_each)
}

/// Runs one end on this thread.
pub(super) fn run<T>(place: Place, idle: Idle, main: impl Future<Output = Result<T>>) -> Result<T> {
    place.pin_client()?;
    block_on_with(idle, main).map_err(|error| anyhow!("a shard could not start: {error}"))?
}
