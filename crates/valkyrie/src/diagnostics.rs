//! Shows the connections of a shard to those who ask.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::fmt;
use std::rc::Rc;

use prost::Message;
use valkyrie_frame::{ErrorCode, Time, v2};
use valkyrie_session::{Event, FlowView, Session, StreamView};

use crate::clock;
use crate::link::{Link, WeakLink};

/// Longest answer.
const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024;
/// Most connections of an answer, and streams of a connection.
const ENTRIES_MAX: u32 = 1000;
/// What comes when the request names no number.
const CONNECTIONS_DEFAULT: u32 = 100;
const STREAMS_DEFAULT: u32 = 16;

/// The service `valkyrie.v2.Diagnostics`: what the connections of this shard look like.
///
/// Nothing offers it by itself, since its answers tell who else is connected. A server that wants
/// `valkyrie top` to work [watches](Self::watch) its links and lets the service
/// [answer](Self::answer) what is for it:
///
/// ```
/// use valkyrie::{Diagnostics, Event, Handler, Link};
///
/// struct Service {
///     diagnostics: Diagnostics,
/// }
/// impl Handler for Service {
///     fn event(&mut self, link: &Link, event: Event<'_>) {
///         let Some(event) = self.diagnostics.answer(link, event) else { return };
///         // The events of the service itself.
/// #       drop(event);
///     }
/// }
/// let diagnostics = Diagnostics::default();
/// let make = move |link: &Link| {
///     diagnostics.watch(link);
///     Service { diagnostics: diagnostics.clone() }
/// };
/// # let _ = make;
/// ```
///
/// Clones watch the same links.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    watched: Rc<RefCell<Watched>>,
}

#[derive(Default)]
struct Watched {
    links: Vec<(WeakLink, Time)>,
    total: u64,
    /// How many links there may be before those that are over are looked for.
    room: usize,
}

impl Diagnostics {
    /// Name of the one method.
    pub const METHOD: &'static str = "valkyrie.v2.Diagnostics/Snapshot";

    /// Shows a link from now on until its connection is over.
    pub fn watch(&self, link: &Link) {
        let mut watched = self.watched.borrow_mut();
        if watched.links.len() >= watched.room {
            watched.links.retain(|(link, _)| link.upgrade().is_some());
            // So each link is looked at twice in the long run, however many come and go.
            watched.room = watched.links.len() * 2 + 16;
        }
        watched.links.push((link.downgrade(), clock::now()));
        watched.total += 1;
    }

    /// Answers the calls of [`METHOD`](Self::METHOD), and gives all other events back.
    pub fn answer<'b>(&self, link: &Link, event: Event<'b>) -> Option<Event<'b>> {
        let Event::Call {
            call, method, body, ..
        } = &event
        else {
            return Some(event);
        };
        if method != Self::METHOD {
            return Some(event);
        }
        let answer = v2::DiagnosticsRequest::decode(&body[..])
            .map(|request| self.snapshot(&request).encode_to_vec());
        let mut session = link.session();
        let sent = match answer {
            Ok(snapshot) => session.reply(*call, &snapshot),
            Err(error) => {
                let text = format!("not a DiagnosticsRequest: {error}");
                session.reply_error(*call, ErrorCode::MALFORMED, &text)
            }
        };
        drop(session);
        if let Err(error) = sent {
            tracing::debug!(conn = link.id(), %error, "diagnostics not sent");
        }
        None
    }

    /// What the connections look like now.
    #[must_use]
    pub fn snapshot(&self, request: &v2::DiagnosticsRequest) -> v2::DiagnosticsSnapshot {
        let now = clock::now();
        let watched = self.watched.borrow();
        let links = watched.links.iter();
        let mut open: Vec<(Link, Time, u64)> = links
            .filter_map(|(link, since)| {
                let link = link.upgrade()?;
                let flow = link.look()?.flow_view();
                Some((link, *since, flow.sent.saturating_add(flow.received)))
            })
            .collect();
        open.sort_by_key(|(_, _, bytes)| Reverse(*bytes));
        let mut snapshot = v2::DiagnosticsSnapshot {
            time_ns: now.as_nanos(),
            connections_open: u32::try_from(open.len()).unwrap_or(u32::MAX),
            connections_total: watched.total,
            connections: Vec::new(),
        };
        let streams_max = entries(request.streams_max, STREAMS_DEFAULT);
        let mut bytes = 0;
        for (link, since, _) in open
            .iter()
            .take(entries(request.connections_max, CONNECTIONS_DEFAULT))
        {
            let Some(view) = connection(link, *since, now, streams_max) else {
                continue;
            };
            // Tag and length of an entry take at most 6 bytes, the other fields 64.
            bytes += view.encoded_len() + 6;
            if bytes + 64 > SNAPSHOT_BYTES_MAX {
                break;
            }
            snapshot.connections.push(view);
        }
        snapshot
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

fn entries(asked: u32, default: u32) -> usize {
    let asked = if asked == 0 { default } else { asked };
    asked.min(ENTRIES_MAX) as usize
}

fn connection(
    link: &Link,
    since: Time,
    now: Time,
    streams_max: usize,
) -> Option<v2::ConnectionView> {
    let session = link.look()?;
    let peer = link.peer();
    let [frames_sent, frames_received] = session.frames();
    let calls = session.calls_view();
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Some(v2::ConnectionView {
        id: link.id(),
        peer: peer.address.to_string(),
        node: peer.node,
        role: peer.role.0,
        age_ms: nanos(now.saturating_since(since)) / 1_000_000,
        rtt_ns: session.rtt().map_or(0, nanos),
        closing: session.is_closing(),
        frames_sent,
        frames_received,
        queued_bytes: session.queued_bytes() as u64,
        calls_outgoing: calls.outgoing,
        calls_incoming: calls.incoming,
        streams_open: u32::try_from(session.streams_open()).unwrap_or(u32::MAX),
        flow: Some(flow(&session.flow_view())),
        streams: streams(&session, streams_max),
    })
}

fn streams(session: &Session, most: usize) -> Vec<v2::StreamView> {
    let mut views: Vec<StreamView> = session.stream_views().collect();
    let bytes = |view: &StreamView| view.flow.sent.saturating_add(view.flow.received);
    views.sort_by_key(|view| (Reverse(bytes(view)), view.stream));
    views.truncate(most);
    views
        .iter()
        .map(|view| v2::StreamView {
            id: view.stream.0,
            state: view.state.to_owned(),
            flow: Some(flow(&view.flow)),
        })
        .collect()
}

const fn flow(view: &FlowView) -> v2::FlowView {
    v2::FlowView {
        sent: view.sent,
        send_limit: view.send_limit,
        received: view.received,
        consumed: view.consumed,
        receive_limit: view.receive_limit,
    }
}
