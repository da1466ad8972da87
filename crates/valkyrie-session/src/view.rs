//! What a connection looks like to somebody who watches it.

use valkyrie_frame::StreamId;

use crate::session::Session;
use crate::state::StreamState;
use crate::streams::Flow;

/// Positions and limits of both directions of a stream, a channel or the connection, in bytes
/// since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowView {
    /// What was sent.
    pub sent: u64,
    /// How far this side may send.
    pub send_limit: u64,
    /// What came.
    pub received: u64,
    /// How much of it was taken.
    pub consumed: u64,
    /// How far the peer may send.
    pub receive_limit: u64,
}

/// One open stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamView {
    /// Its id.
    pub stream: StreamId,
    /// Where it stands: `opening`, `offered`, `open`, `local_ended`, `remote_ended`, `reset_sent`.
    pub state: &'static str,
    /// How much went through it.
    pub flow: FlowView,
}

/// Calls that are open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallsView {
    /// Of this side, which wait for the peer.
    pub outgoing: u32,
    /// Of the peer, which wait for this side.
    pub incoming: u32,
}

impl Session {
    /// The credit of the connection.
    #[must_use]
    pub fn flow_view(&self) -> FlowView {
        FlowView {
            sent: self.send.position(),
            send_limit: self.send.limit(),
            received: self.receive.position(),
            consumed: self.receive.consumed(),
            receive_limit: self.receive.limit(),
        }
    }

    /// The open streams, in no order.
    pub fn stream_views(&self) -> impl Iterator<Item = StreamView> {
        self.streams.iter().map(|(stream, open)| StreamView {
            stream,
            state: state_name(open.state),
            flow: view_of(&open.flow),
        })
    }

    /// Frames sent and received.
    #[must_use]
    pub fn frames(&self) -> [u64; 2] {
        self.counters.frames()
    }

    /// The calls that are open.
    #[must_use]
    pub fn calls_view(&self) -> CallsView {
        CallsView {
            outgoing: self.outgoing.len(),
            incoming: u32::try_from(self.incoming.len()).unwrap_or(u32::MAX),
        }
    }
}

fn view_of(flow: &Flow) -> FlowView {
    FlowView {
        sent: flow.send.position(),
        send_limit: flow.send.limit(),
        received: flow.receive.position(),
        consumed: flow.receive.consumed(),
        receive_limit: flow.receive.limit(),
    }
}

const fn state_name(state: StreamState) -> &'static str {
    match state {
        StreamState::Opening | StreamState::OpeningEnded => "opening",
        StreamState::Offered | StreamState::OfferedEnded => "offered",
        StreamState::Open => "open",
        StreamState::LocalEnded => "local_ended",
        StreamState::RemoteEnded => "remote_ended",
        StreamState::ResetSent => "reset_sent",
        StreamState::Closed => "closed",
    }
}
