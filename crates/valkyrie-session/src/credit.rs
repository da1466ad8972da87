//! Credit in absolute positions: how far each direction may go.

use valkyrie_frame::{StreamAck, Time};

use crate::flow::{FlowWindow, Policy, Rule};
use crate::tune::{Reading, Tuner};
use crate::way::Way;

/// What the peer lets us send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendCredit {
    position: u64,
    limit: u64,
    /// How far the peer said it is.
    consumed: u64,
}

impl SendCredit {
    /// Nothing sent, `window` bytes allowed.
    pub(crate) const fn new(window: u64) -> Self {
        Self {
            position: 0,
            limit: window,
            consumed: 0,
        }
    }

    /// Where the next byte goes.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// The position that must not be passed.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that may be sent now.
    pub(crate) const fn available(&self) -> u64 {
        self.limit.saturating_sub(self.position)
    }

    /// Takes credit for `bytes`, which the caller knows to be available.
    pub(crate) fn spend(&mut self, bytes: u64) {
        assert!(
            bytes <= self.available(),
            "credit is checked before it is spent"
        );
        self.position += bytes;
    }

    /// The peer raised the limit; it only grows, an older acknowledgement changes nothing.
    pub(crate) fn raise(&mut self, limit: u64) -> Raised {
        if limit <= self.limit {
            return Raised::No;
        }
        self.limit = limit;
        Raised::Yes
    }

    /// The peer has consumed everything before `consumed`; whether that is further than before.
    pub(crate) const fn consume(&mut self, consumed: u64) -> Raised {
        if consumed <= self.consumed {
            return Raised::No;
        }
        self.consumed = consumed;
        Raised::Yes
    }

    /// The peer says where to begin.
    pub(crate) const fn begin(&mut self, ack: StreamAck) {
        self.position = ack.consumed;
        self.consumed = ack.consumed;
        self.limit = ack.limit;
    }
}

/// Whether a position or a limit grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raised {
    Yes,
    No,
}

/// Whether a window is sized by the traffic, so that round trips are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sized {
    Yes,
    No,
}

impl Sized {
    /// Whether one of the two is.
    pub(crate) const fn or(self, other: Self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::No => other,
        }
    }
}

/// What we let the peer send.
#[derive(Debug)]
pub(crate) struct ReceiveCredit {
    position: u64,
    consumed: u64,
    limit: u64,
    window: u32,
    /// Made when credit goes back for the first time, so that a quiet stream costs little.
    tuner: Option<Box<Tuner>>,
}

impl ReceiveCredit {
    /// Nothing received, `window` bytes allowed.
    pub(crate) const fn new(window: u32) -> Self {
        Self {
            position: 0,
            consumed: 0,
            limit: window as u64,
            window,
            tuner: None,
        }
    }

    /// Where the peer's next byte belongs.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// How much of it was taken.
    pub(crate) const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The position that the peer must not pass.
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes` that came in.
    ///
    /// # Errors
    /// How many of them passed the limit; nothing changes then.
    pub(crate) const fn receive(&mut self, bytes: u64) -> Result<(), u64> {
        let position = self.position.saturating_add(bytes);
        if position > self.limit {
            return Err(position - self.limit);
        }
        self.position = position;
        Ok(())
    }

    /// Bytes that the peer may still send.
    #[inline]
    pub(crate) const fn room(&self) -> u64 {
        self.limit.saturating_sub(self.position)
    }

    /// Takes `bytes` that came in, and are looked at already; the caller knows that there is room.
    #[inline]
    pub(crate) const fn take(&mut self, bytes: u64) {
        self.position += bytes;
        self.consumed += bytes;
    }

    /// `bytes` more were taken; never more than were received.
    pub(crate) fn consume(&mut self, bytes: u64) {
        self.consumed_to(self.consumed.saturating_add(bytes));
    }

    /// Everything before `offset` was taken; never more than was received, and never less than
    /// before. Whether that is more than before.
    pub(crate) fn consumed_to(&mut self, offset: u64) -> Raised {
        let before = self.consumed;
        self.consumed = before.max(offset.min(self.position));
        if self.consumed > before {
            Raised::Yes
        } else {
            Raised::No
        }
    }

    /// Says where the peer begins.
    pub(crate) const fn begin(&mut self, offset: u64) {
        self.position = offset;
        self.consumed = offset;
        self.limit = offset.saturating_add(self.window as u64);
    }

    /// Whether a quarter of the window was taken and not given back: an acknowledgement per frame
    /// would double the number of frames, a later one would let the sender run dry.
    pub(crate) const fn is_due(&self) -> bool {
        let window = self.window as u64;
        let unreturned = self
            .consumed
            .saturating_add(window)
            .saturating_sub(self.limit);
        unreturned >= window.div_ceil(4)
    }

    /// Sizes the window by what came since the last time; to be called before [`grant`](Self::grant).
    pub(crate) fn tune(&mut self, now: Time, policy: &Policy, way: &Way) -> Sized {
        let reading = Reading {
            now,
            window: self.window,
            consumed: self.consumed,
            unread: self.position - self.consumed,
        };
        match &mut self.tuner {
            Some(tuner) => self.window = tuner.judge(policy, way, &reading),
            None => self.tuner = Tuner::new(policy, &reading).map(Box::new),
        }
        match self.tuner {
            Some(_) => Sized::Yes,
            None => Sized::No,
        }
    }

    /// Lets the window hold what a stream may send and half as much again, or the stream's larger
    /// window would do nothing. Whether it had to grow.
    pub(crate) fn widen(&mut self, policy: &Policy, stream: u32) -> Raised {
        let wanted = stream.saturating_add(stream / 2).min(policy.max);
        if policy.rule == Rule::Fixed || wanted <= self.window {
            return Raised::No;
        }
        self.window = wanted;
        Raised::Yes
    }

    /// Whether an acknowledgement would raise the limit: none does while a window that shrank waits
    /// until less is under way.
    pub(crate) const fn raises(&self) -> bool {
        self.consumed.saturating_add(self.window as u64) > self.limit
    }

    /// The acknowledgement that gives back everything taken.
    pub(crate) fn grant(&mut self) -> StreamAck {
        let limit = self.consumed.saturating_add(u64::from(self.window));
        // After the window shrank the limit stands still until this much less is under way.
        self.limit = self.limit.max(limit);
        StreamAck {
            consumed: self.consumed,
            limit: self.limit,
        }
    }

    /// Bytes that the peer may be ahead.
    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    /// The window as it stands.
    pub(crate) fn view(&self, policy: &Policy) -> FlowWindow {
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let available = self.limit - self.position;
        let used = u64::from(self.window).saturating_sub(available);
        FlowWindow::new(policy, self.window, bytes(used), bytes(available))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_when_a_quarter_of_the_window_was_taken() {
        let mut receive = ReceiveCredit::new(1000);
        receive.receive(600).unwrap();
        receive.consume(249);
        assert!(!receive.is_due());
        receive.consume(1);
        assert!(receive.is_due());
        assert_eq!(
            receive.grant(),
            StreamAck {
                consumed: 250,
                limit: 1250
            }
        );
        assert!(!receive.is_due());
    }

    #[test]
    fn a_sender_past_its_limit_is_told_by_how_much() {
        let mut receive = ReceiveCredit::new(100);
        assert_eq!(receive.receive(101), Err(1));
        assert_eq!(receive.receive(100), Ok(()));
        assert_eq!(receive.receive(1), Err(1));
        assert_eq!(receive.receive(u64::MAX), Err(u64::MAX - 100));
    }

    #[test]
    fn more_is_never_given_back_than_was_received() {
        let mut receive = ReceiveCredit::new(100);
        receive.receive(10).unwrap();
        receive.consume(5000);
        assert_eq!(
            receive.grant(),
            StreamAck {
                consumed: 10,
                limit: 110
            }
        );
    }

    #[test]
    fn an_older_acknowledgement_takes_no_credit_away() {
        let mut send = SendCredit::new(100);
        assert_eq!(send.raise(200), Raised::Yes);
        assert_eq!(send.raise(150), Raised::No);
        send.spend(200);
        assert_eq!(send.available(), 0);
    }
}
