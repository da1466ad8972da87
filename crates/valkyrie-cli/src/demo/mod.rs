//! The services of `valkyrie serve`: something to speak with.

mod calls;
mod streams;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use valkyrie::{CloseReason, Diagnostics, ErrorCode, Event, Handler, Health, HealthStatus, Link};

use calls::Calls;
use streams::Streams;

/// What the services are and how they are used.
pub(crate) const METHODS: [(&str, &str); 6] = [
    ("demo.Echo/Say", "call: answers with the body"),
    ("demo.Echo/Stream", "stream: sends back what comes"),
    (
        "demo.Sink/Put",
        "call, message, stream: takes everything, answers its size",
    ),
    (
        "demo.Source/Get",
        "call, stream: sends as many bytes as the body says",
    ),
    (
        "demo.Clock/Wait",
        "call: answers after the milliseconds that the body says",
    ),
    (Diagnostics::METHOD, "call: what `valkyrie top` shows"),
];

/// What health checks are told of the services.
pub(crate) fn health() -> Health {
    let health = Health::default();
    for (method, _) in METHODS {
        let (service, _) = method.split_once('/').unwrap_or((method, ""));
        health.set(service, HealthStatus::Serving);
    }
    health
}

/// The connections of a server, to be closed at its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    links: Rc<RefCell<HashMap<u64, Link>>>,
    diagnostics: Diagnostics,
}

impl Open {
    /// Ends all connections in order and waits for them, `drain` at most.
    pub(crate) async fn close(&self, drain: Duration) {
        let links: Vec<Link> = self.links.borrow().values().cloned().collect();
        for link in &links {
            link.close(ErrorCode::NONE, drain);
        }
        for link in &links {
            link.closed().await;
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.links.borrow().len()
    }
}

/// Serves one connection.
#[derive(Debug)]
pub(crate) struct Demo {
    open: Open,
    calls: Calls,
    streams: Streams,
}

impl Demo {
    /// A handler for a connection that is among `open` from now on.
    pub(crate) fn new(open: &Open, link: &Link) -> Self {
        open.links.borrow_mut().insert(link.id(), link.clone());
        open.diagnostics.watch(link);
        Self {
            open: open.clone(),
            calls: Calls::default(),
            streams: Streams::default(),
        }
    }
}

impl Handler for Demo {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let Some(event) = self.open.diagnostics.answer(link, event) else {
            return;
        };
        match event {
            Event::Call {
                call, method, body, ..
            } => self.calls.call(link, call, &method, &body),
            Event::CallCanceled { call } => self.calls.canceled(link, call),
            Event::Opened { stream, open, .. } => self.streams.opened(link, stream, &open),
            Event::Data { stream, bytes, .. } => self.streams.data(link, stream, &bytes),
            Event::Writable { stream } => self.streams.writable(link, stream),
            Event::Finished { stream, .. } => self.streams.finished(link, stream),
            Event::Reset { stream, .. } => self.streams.reset(stream),
            // A MESSAGE has no answer, and what a sink takes is gone.
            _ => {}
        }
    }

    fn closed(&mut self, link: &Link, _reason: &CloseReason) {
        self.calls.abort();
        self.open.links.borrow_mut().remove(&link.id());
    }
}

/// A number in a request: decimal digits, white space around them.
fn number(body: &[u8]) -> Option<u64> {
    str::from_utf8(body).ok()?.trim().parse().ok()
}
