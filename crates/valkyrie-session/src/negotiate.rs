//! Changing what HELLO and HELLO_ACK agreed on.

use std::time::Duration;

use prost::Message;
use valkyrie_frame::limits::{FRAME_PAYLOAD_BYTES_FLOOR, FRAME_PAYLOAD_BYTES_MAX};
use valkyrie_frame::{Frame, MessageType, StreamId, v2};

use crate::config::{Limits, Side};
use crate::error::{SendError, Violation};
use crate::event::Event;
use crate::handshake::{decode, unexpected};
use crate::passing::{Then, on_control};
use crate::receive::{Fault, Handled, misplaced, value};
use crate::rule::Rule;
use crate::session::Session;

/// What one side wants to be different; `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proposal {
    /// Features that both sides use, out of those that HELLO_ACK agreed on.
    pub features: Option<u64>,
    /// The keepalive interval of this side; zero never pings.
    pub keepalive: Option<Duration>,
    /// Longest frame that this side takes, 65,536 to 262,144 bytes.
    pub frame_max: Option<u32>,
    /// Longest message that this side takes; may only grow.
    pub message_max: Option<u32>,
    /// Streams that the peer may hold open at once; may only grow.
    pub streams_max: Option<u32>,
    /// Calls that the peer may have outstanding; may only grow.
    pub calls_max: Option<u32>,
}

const PROPOSES: u32 = 0;
const ACCEPTS: u32 = 1;
const REFUSES: u32 = 2;

/// Proposals of both sides. Rare, so a connection without any holds a null pointer.
#[derive(Debug, Default)]
pub(crate) struct Negotiation {
    /// Of this side's last proposal, and of the peer's.
    own: u32,
    peer: u32,
    /// This side's proposal without an answer.
    open: Option<v2::Negotiate>,
    /// Features that HELLO_ACK agreed on, and those of them that are agreed on now.
    hello: u64,
    agreed: u64,
}

impl Session {
    /// Proposes other terms. [`Renegotiated`](Event::Renegotiated) follows when the peer accepts,
    /// or [`ProposalRefused`](Event::ProposalRefused).
    ///
    /// # Errors
    /// Nothing was sent: another proposal of this side is open, or the peer would refuse this one.
    pub fn negotiate(&mut self, proposal: Proposal) -> Result<(), SendError> {
        self.check_open()?;
        let kind = MessageType::NEGOTIATE;
        let mut wire = proposal.to_wire();
        let limits = self.own;
        let negotiation = self.negotiation();
        if negotiation.open.is_some() {
            return Err(SendError::Full);
        }
        if let Some(problem) = problem(&wire, &limits, negotiation.hello) {
            return Err(SendError::Invalid { kind, problem });
        }
        negotiation.own = negotiation.own.wrapping_add(1);
        wire.number = negotiation.own;
        negotiation.open = Some(wire.clone());
        // What is to be used no more is not used from now on, so that the peer may rely on it as
        // soon as it agrees; what this side takes more of it takes from now on.
        self.settle();
        self.own = self.own.changed(wire.limits.as_ref(), Lower::Later);
        self.control(kind, |out| out.extend_from_slice(&wire.encode_to_vec()));
        Ok(())
    }

    pub(crate) fn on_negotiate<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        if frame.header.stream != StreamId::CONTROL {
            return Err(misplaced(frame, "it belongs on stream 0"));
        }
        self.budgets.proposals.take(self.now).map_err(|max| {
            let (what, max) = ("proposals and answers at once", u64::from(max));
            let rule = Rule::PROPOSALS;
            Fault::Connection(Violation::TooMany { what, max, rule })
        })?;
        let wire: v2::Negotiate = decode(frame).map_err(Fault::Connection)?;
        match wire.answer {
            PROPOSES => self.on_proposal(frame, &wire),
            ACCEPTS | REFUSES => self.on_answer(frame, &wire),
            _ => Err(value(frame, "answer is over 2", Rule::NEGOTIATE)),
        }
        .map_err(Fault::Connection)
    }

    fn on_proposal<'b>(
        &mut self,
        frame: &Frame<'b>,
        wire: &v2::Negotiate,
    ) -> Result<Option<Event<'b>>, Violation> {
        let (limits, side) = (self.peer, self.side);
        let negotiation = self.negotiation();
        if wire.number != negotiation.peer.wrapping_add(1) {
            return Err(unexpected(frame, "out of its turn", Rule::NEGOTIATE));
        }
        negotiation.peer = wire.number;
        // Of two proposals that cross, that of the initiator is looked at.
        let crossed = negotiation.open.is_some() && side == Side::Initiator;
        let problem = match crossed {
            true => Some("it crosses a proposal of the initiator"),
            false => problem(wire, &limits, negotiation.hello),
        };
        let answer = |answer, text: &str| v2::Negotiate {
            number: wire.number,
            answer,
            text: text.to_owned(),
            ..Default::default()
        };
        let kind = MessageType::NEGOTIATE;
        if let Some(problem) = problem {
            let refusal = answer(REFUSES, problem).encode_to_vec();
            self.control(kind, |out| out.extend_from_slice(&refusal));
            return Ok(None);
        }
        negotiation.agreed = wire.features.unwrap_or(negotiation.agreed);
        self.peer = limits.changed(wire.limits.as_ref(), Lower::Now);
        if let Some(ms) = wire.keepalive_ms {
            self.keepalive.set_peer(ms);
        }
        // Behind everything: the peer relies on the new terms for all that follows.
        let acceptance = answer(ACCEPTS, "").encode_to_vec();
        self.send_behind_all(on_control(kind), &acceptance, Then::GoOn);
        Ok(self.renegotiated())
    }

    fn on_answer<'b>(
        &mut self,
        frame: &Frame<'b>,
        wire: &v2::Negotiate,
    ) -> Result<Option<Event<'b>>, Violation> {
        let negotiation = self.negotiation();
        let open = negotiation.open.take();
        let Some(open) = open.filter(|open| open.number == wire.number) else {
            let when = "as an answer to no proposal";
            return Err(unexpected(frame, when, Rule::NEGOTIATE));
        };
        if wire.answer == REFUSES {
            self.settle();
            let text = wire.text.clone();
            return Ok(Some(Event::ProposalRefused { text }));
        }
        negotiation.agreed = open.features.unwrap_or(negotiation.agreed);
        self.own = self.own.changed(open.limits.as_ref(), Lower::Now);
        if let Some(ms) = open.keepalive_ms {
            let interval = Duration::from_millis(u64::from(ms));
            self.keepalive.set_own((ms > 0).then_some(interval));
        }
        Ok(self.renegotiated())
    }

    fn renegotiated<'b>(&mut self) -> Option<Event<'b>> {
        self.settle();
        let agreement = self.agreement.as_mut()?;
        agreement.limits = self.peer;
        Some(Event::Renegotiated(agreement.clone()))
    }

    /// Features in use are those agreed on, without those that this side wants to end.
    fn settle(&mut self) {
        let negotiation = self.negotiation();
        let open = negotiation.open.as_ref().and_then(|open| open.features);
        let features = negotiation.agreed & open.unwrap_or(u64::MAX);
        if let Some(agreement) = &mut self.agreement {
            agreement.features = features;
        }
    }

    fn negotiation(&mut self) -> &mut Negotiation {
        let features = self.agreement.as_ref().map_or(0, |known| known.features);
        self.negotiation.get_or_insert_with(|| {
            Box::new(Negotiation {
                hello: features,
                agreed: features,
                ..Negotiation::default()
            })
        })
    }
}

/// Why a proposal of the side that has `limits` cannot be accepted.
fn problem(wire: &v2::Negotiate, limits: &Limits, features: u64) -> Option<&'static str> {
    if wire.features.is_some_and(|wanted| wanted & !features != 0) {
        return Some("HELLO_ACK did not agree on a feature that is wanted");
    }
    if wire.keepalive_ms.is_some_and(|ms| ms > 0 && ms < 1_000) {
        return Some("keepalive_ms is under 1,000");
    }
    let wanted = wire.limits.as_ref()?;
    if wanted.connection_window != 0 || !wanted.class_window.is_empty() {
        return Some("windows are changed by STREAM_ACK");
    }
    let frames = FRAME_PAYLOAD_BYTES_FLOOR..=FRAME_PAYLOAD_BYTES_MAX;
    if wanted.frame_max != 0 && !frames.contains(&wanted.frame_max) {
        return Some("frame_max is not 65,536 to 262,144");
    }
    let shrinks = |wanted: u32, now: u32| wanted != 0 && wanted < now;
    if shrinks(wanted.message_max, limits.message_max())
        || shrinks(wanted.streams_max, limits.streams_max())
        || shrinks(wanted.calls_max, limits.calls_max())
    {
        return Some("message_max, streams_max and calls_max only grow");
    }
    None
}

/// When a lower limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lower {
    Now,
    Later,
}

impl Limits {
    /// With the fields of a proposal that are not 0.
    fn changed(mut self, wanted: Option<&v2::Limits>, lower: Lower) -> Self {
        let Some(wanted) = wanted else { return self };
        if wanted.frame_max > self.frame_max() || lower == Lower::Now && wanted.frame_max != 0 {
            self.set_frame_max(wanted.frame_max);
        }
        self.grow(wanted.message_max, wanted.streams_max, wanted.calls_max);
        self
    }
}

impl Proposal {
    fn to_wire(self) -> v2::Negotiate {
        let ms = |interval: Duration| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        let limits = v2::Limits {
            frame_max: self.frame_max.unwrap_or(0),
            message_max: self.message_max.unwrap_or(0),
            streams_max: self.streams_max.unwrap_or(0),
            calls_max: self.calls_max.unwrap_or(0),
            ..Default::default()
        };
        v2::Negotiate {
            features: self.features,
            keepalive_ms: self.keepalive.map(ms),
            limits: (limits != v2::Limits::default()).then_some(limits),
            ..Default::default()
        }
    }
}
