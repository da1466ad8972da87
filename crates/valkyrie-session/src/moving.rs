//! Moving a session to another transport.
//!
//! ```text
//! offerer                                         taker
//!  Idle --UPGRADE offer--> Offered       Idle --offer--> Invited
//!  Offered --HELLO with the token, on the new transport--> Joined
//!                          Invited --HELLO_ACK, on the new transport--> Leaving (mark is sent)
//!  Joined --mark--> Leaving (mark is sent)
//!  Leaving --own mark is out, and the peer's is there--> Idle
//! ```
//!
//! The mark, UPGRADE with ACK, is a side's last frame on the old transport. Nothing is sent twice
//! or skipped: the bytes of a direction go on where its mark ended.

use std::time::Duration;

use prost::Message;
use subtle::ConstantTimeEq;
use valkyrie_frame::{ErrorCode, Flags, Frame, MessageType, StreamId, Time, features, v2};

use crate::config::Side;
use crate::error::{SendError, Violation};
use crate::event::Event;
use crate::handshake::{decode, unexpected};
use crate::limits::{ENDPOINT_BYTES_MAX, OFFER_MAX};
use crate::passing::{Then, on_control};
use crate::receive::{Fault, Handled, misplaced, value};
use crate::rule::Rule;
use crate::session::{Phase, Session};
use crate::way::Way;

/// How far a move has come.
#[derive(Debug)]
pub(crate) enum Move {
    /// This side offered a transport.
    Offered { token: [u8; 32], until: Time },
    /// The peer has connected to it.
    Joined,
    /// The peer offered a transport.
    Invited,
    /// This side sends no more on the old transport once its mark is out.
    Leaving(Leaving),
}

/// The two directions of a move.
#[derive(Debug)]
pub(crate) struct Leaving {
    send: Direction,
    receive: Direction,
}

/// Where one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Still on the old transport.
    Old,
    /// Its mark has passed; the owner has not changed the transport yet.
    Between,
    /// On the new transport.
    New,
}

impl Session {
    /// Offers the peer to go on over another transport: it connects to `endpoint` and shows
    /// `token` there, 32 random bytes that nobody else may know. Until then, and for good when it
    /// comes to nothing, everything stays on the present one.
    ///
    /// # Errors
    /// Nothing was sent: the feature was not agreed, the session closes or moves already, or the
    /// endpoint is over 1,024 bytes.
    pub fn offer_upgrade(
        &mut self,
        endpoint: &str,
        token: [u8; 32],
        valid: Duration,
    ) -> Result<(), SendError> {
        self.check_new()?;
        let kind = MessageType::UPGRADE;
        if !self.has_feature(features::UPGRADE) {
            return Err(SendError::NotAgreed { kind });
        }
        if endpoint.is_empty() || endpoint.len() > ENDPOINT_BYTES_MAX {
            let problem = "the endpoint is empty or over 1,024 bytes";
            return Err(SendError::Invalid { kind, problem });
        }
        if self.is_moving() {
            return Err(SendError::Full);
        }
        let valid = valid.min(OFFER_MAX);
        let until = self.now + valid;
        self.moving = Some(Box::new(Move::Offered { token, until }));
        let offer = v2::Upgrade {
            endpoint: endpoint.to_owned(),
            token: token.to_vec(),
            valid_ms: u32::try_from(valid.as_millis()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        self.control(kind, |out| out.extend_from_slice(&offer.encode_to_vec()));
        Ok(())
    }

    /// Whether `token` is that of this side's open offer. Uses the offer up when it is; the
    /// comparison takes the same time whatever the bytes.
    pub fn redeem(&mut self, token: &[u8; 32]) -> bool {
        let redeemed = matches!(
            self.moving.as_deref(),
            Some(Move::Offered { token: known, until })
                if bool::from(known.ct_eq(token)) && self.now < *until
        );
        if redeemed {
            self.moving = Some(Box::new(Move::Joined));
        }
        redeemed
    }

    /// Says that the peer's offer came to nothing.
    pub fn decline_upgrade(&mut self, code: ErrorCode, text: &str) {
        if !matches!(self.moving.as_deref(), Some(Move::Invited)) {
            return;
        }
        self.moving = None;
        let text = text.get(..text.floor_char_boundary(ENDPOINT_BYTES_MAX));
        let answer = v2::Upgrade {
            code: u32::from(code.0),
            text: text.unwrap_or_default().to_owned(),
            ..Default::default()
        };
        let body = answer.encode_to_vec();
        self.control(MessageType::UPGRADE, |out| out.extend_from_slice(&body));
    }

    /// The peer's offer was taken and its HELLO_ACK is there: everything that was sent so far
    /// leaves on the old transport, everything later on the new one. [`transmit`](Self::transmit)
    /// gives nothing after the mark until [`sends_on_new`](Self::sends_on_new). Whether that is
    /// so: the move may have ended meanwhile.
    pub fn leave(&mut self) -> bool {
        if !matches!(self.moving.as_deref(), Some(Move::Invited)) || self.phase != Phase::Ready {
            return false;
        }
        self.start_leaving(Direction::Old);
        true
    }

    /// This side's new transport could not be used after all. A move that has begun cannot be
    /// taken back: whoever lost the new transport then has lost the connection.
    pub fn forget_move(&mut self) {
        if !matches!(self.moving.as_deref(), Some(Move::Leaving(_))) {
            self.moving = None;
        }
    }

    /// Whether this side's mark was given out, and [`sends_on_new`](Self::sends_on_new) is due as
    /// soon as it is written.
    #[must_use]
    pub fn has_left(&self) -> bool {
        matches!(self.moving.as_deref(), Some(Move::Leaving(leaving)) if leaving.send == Direction::Between)
    }

    /// From now on what [`transmit`](Self::transmit) gives goes to the new transport.
    pub fn sends_on_new(&mut self) {
        if let Some(Move::Leaving(leaving)) = self.moving.as_deref_mut() {
            leaving.send = Direction::New;
        }
        self.end_move();
    }

    /// From now on what [`read`](Self::read) gets comes from the new transport; to be called on
    /// [`PeerLeft`](Event::PeerLeft).
    pub fn reads_on_new(&mut self) {
        if let Some(Move::Leaving(leaving)) = self.moving.as_deref_mut() {
            leaving.receive = Direction::New;
        }
        self.end_move();
    }

    /// Whether an offer is open or a move under way.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        match self.moving.as_deref() {
            Some(Move::Offered { until, .. }) => self.now < *until,
            Some(_) => true,
            None => false,
        }
    }

    pub(crate) fn on_upgrade<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        if frame.header.stream != StreamId::CONTROL {
            return Err(misplaced(frame, "it belongs on stream 0"));
        }
        if !self.has_feature(features::UPGRADE) {
            return self.skip();
        }
        if frame.header.flags.contains(Flags::ACK) {
            return self.on_mark(frame).map_err(Fault::Connection);
        }
        self.budgets.proposals.take(self.now).map_err(|max| {
            let (what, max) = ("proposals and answers at once", u64::from(max));
            let rule = Rule::PROPOSALS;
            Fault::Connection(Violation::TooMany { what, max, rule })
        })?;
        let wire: v2::Upgrade = decode(frame).map_err(Fault::Connection)?;
        match wire.endpoint.is_empty() {
            true => Ok(self.on_declined(wire)),
            false => self.on_offer(frame, wire).map_err(Fault::Connection),
        }
    }

    fn on_offer<'b>(
        &mut self,
        frame: &Frame<'b>,
        wire: v2::Upgrade,
    ) -> Result<Option<Event<'b>>, Violation> {
        let problem = "the endpoint is over 1,024 bytes, or the token is not 32";
        let token = <[u8; 32]>::try_from(wire.token.as_slice());
        let Some(token) = token
            .ok()
            .filter(|_| wire.endpoint.len() <= ENDPOINT_BYTES_MAX)
        else {
            return Err(value(frame, problem, Rule::OFFER));
        };
        match self.moving.as_deref() {
            // Of two offers that cross, that of the acceptor holds.
            Some(Move::Offered { .. }) if self.side == Side::Acceptor => return Ok(None),
            None | Some(Move::Offered { .. } | Move::Invited) => {}
            Some(Move::Joined | Move::Leaving(_)) => {
                return Err(unexpected(frame, "while the session moves", Rule::OFFER));
            }
        }
        self.moving = Some(Box::new(Move::Invited));
        let valid = Duration::from_millis(u64::from(wire.valid_ms)).min(OFFER_MAX);
        Ok(Some(Event::UpgradeOffered {
            endpoint: wire.endpoint,
            token,
            valid,
        }))
    }

    fn on_declined<'b>(&mut self, wire: v2::Upgrade) -> Option<Event<'b>> {
        if !matches!(
            self.moving.as_deref(),
            Some(Move::Offered { .. } | Move::Joined)
        ) {
            // The offer ended by itself meanwhile.
            return None;
        }
        self.moving = None;
        Some(Event::UpgradeDeclined {
            code: ErrorCode(u16::try_from(wire.code).unwrap_or(ErrorCode::INTERNAL.0)),
            text: wire.text,
        })
    }

    /// The peer's last frame on the old transport.
    fn on_mark<'b>(&mut self, frame: &Frame<'b>) -> Result<Option<Event<'b>>, Violation> {
        match self.moving.as_deref_mut() {
            Some(Move::Joined) => self.start_leaving(Direction::Between),
            Some(Move::Leaving(leaving)) if leaving.receive == Direction::Old => {
                leaving.receive = Direction::Between;
            }
            _ => {
                let when = "from a side that has no other transport";
                return Err(unexpected(frame, when, Rule::MARK));
            }
        }
        Ok(Some(Event::PeerLeft))
    }

    fn start_leaving(&mut self, receive: Direction) {
        let send = Direction::Old;
        self.moving = Some(Box::new(Move::Leaving(Leaving { send, receive })));
        let header = on_control(MessageType::UPGRADE).with_flags(Flags::ACK);
        self.send_behind_all(header, &[], Then::Stop);
    }

    /// This side's mark was given out.
    pub(crate) fn mark_is_out(&mut self) {
        if let Some(Move::Leaving(leaving)) = self.moving.as_deref_mut() {
            leaving.send = Direction::Between;
        }
    }

    /// Whether bytes on the old transport come behind the peer's mark.
    pub(crate) fn is_behind_mark(&self) -> bool {
        matches!(self.moving.as_deref(), Some(Move::Leaving(leaving)) if leaving.receive == Direction::Between)
    }

    fn end_move(&mut self) {
        if let Some(Move::Leaving(leaving)) = self.moving.as_deref()
            && (leaving.send, leaving.receive) == (Direction::New, Direction::New)
        {
            self.moving = None;
            // What was measured was another way.
            self.way = Way::default();
            self.events.push_back(Event::Moved);
        }
    }
}
