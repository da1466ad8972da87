//! The life of one stream.
//!
//! ```text
//!              we open                                peer opens
//!                 |                                       |
//!     send end    v        accept              accept     v     receive end
//!   +--------- Opening --------+         +------------ Offered ----------+
//!   v             |            v         v                |              v
//! OpeningEnded    |          +-- Open ----+               |        OfferedEnded
//!   |             |  send end|            |receive end    |              |
//!   | accept      +--------->|            |<--------------+       accept |
//!   +---------------> LocalEnded      RemoteEnded <----------------------+
//!                            |            |
//!                 receive end+-> Closed <-+send end
//!
//! any but Closed: send reset    -> ResetSent (Closed when the peer's end had been received)
//! any but Closed: receive reset -> Closed (answered by a reset unless our end had been sent)
//! ResetSent:      receive end or reset -> Closed, everything else is dropped
//! ```

/// Where a stream stands. `Closed` frees the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StreamState {
    /// We opened it and the peer has not accepted.
    Opening,
    /// As `Opening`, and we have ended our direction.
    OpeningEnded,
    /// The peer opened it and we have not accepted.
    Offered,
    /// As `Offered`, and the peer has ended its direction.
    OfferedEnded,
    /// Both directions run.
    Open,
    /// Ours has ended.
    LocalEnded,
    /// The peer's has ended.
    RemoteEnded,
    /// We reset it and wait for the peer's end, so that late frames find their stream.
    ResetSent,
    /// Both ends were received; the id may be used again.
    Closed,
}

/// What moves a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// The side that did not open it accepts, or sends anything.
    Accept,
    /// We end our direction.
    SendEnd,
    /// The peer ends its direction.
    ReceiveEnd,
    /// We end both.
    SendReset,
    /// The peer ends both.
    ReceiveReset,
}

impl StreamState {
    /// The state after `change`; `None` where the change is not legal.
    pub(crate) const fn after(self, change: Change) -> Option<Self> {
        use StreamState as S;
        Some(match (self, change) {
            (S::Opening | S::Offered | S::Open, Change::Accept) => S::Open,
            (S::OpeningEnded | S::LocalEnded, Change::Accept) => S::LocalEnded,
            (S::OfferedEnded | S::RemoteEnded, Change::Accept) => S::RemoteEnded,
            (S::Opening, Change::SendEnd) => S::OpeningEnded,
            (S::Offered | S::Open, Change::SendEnd) => S::LocalEnded,
            (S::OfferedEnded | S::RemoteEnded, Change::SendEnd) => S::Closed,
            (S::Offered, Change::ReceiveEnd) => S::OfferedEnded,
            (S::Opening | S::Open, Change::ReceiveEnd) => S::RemoteEnded,
            (S::OpeningEnded | S::LocalEnded | S::ResetSent, Change::ReceiveEnd) => S::Closed,
            (S::OfferedEnded | S::RemoteEnded, Change::SendReset) => S::Closed,
            (
                S::Opening | S::OpeningEnded | S::Offered | S::Open | S::LocalEnded,
                Change::SendReset,
            ) => S::ResetSent,
            (S::Closed, Change::ReceiveReset) => return None,
            (_, Change::ReceiveReset) => S::Closed,
            (S::ResetSent, Change::Accept) => S::ResetSent,
            (S::ResetSent | S::Closed | S::OpeningEnded | S::LocalEnded, _) => return None,
            (S::OfferedEnded | S::RemoteEnded, Change::ReceiveEnd) => return None,
        })
    }

    /// Whether we may still send.
    pub(crate) const fn can_send(self) -> bool {
        self.after(Change::SendEnd).is_some()
    }

    /// Whether the peer may still send.
    pub(crate) const fn can_receive(self) -> bool {
        self.after(Change::ReceiveEnd).is_some()
    }

    /// Whether the application wants what the peer sends.
    pub(crate) const fn can_receive_data(self) -> bool {
        self.can_receive() && !matches!(self, Self::ResetSent)
    }

    /// Whether an acknowledgement of ours can still reach the stream at the peer: it forgets the
    /// stream when both ends are there, and ours is not sent yet or the peer's is still to come.
    pub(crate) const fn can_receive_credit(self) -> bool {
        !matches!(self, Self::ResetSent | Self::Closed)
    }

    /// Whether we opened it and the peer has said nothing yet.
    pub(crate) const fn is_opening(self) -> bool {
        matches!(self, Self::Opening | Self::OpeningEnded)
    }

    /// Whether the peer opened it and we have said nothing yet.
    pub(crate) const fn is_offered(self) -> bool {
        matches!(self, Self::Offered | Self::OfferedEnded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change as C;
    use StreamState as S;

    const STATES: [S; 9] = [
        S::Opening,
        S::OpeningEnded,
        S::Offered,
        S::OfferedEnded,
        S::Open,
        S::LocalEnded,
        S::RemoteEnded,
        S::ResetSent,
        S::Closed,
    ];

    /// Every (state, change) pair, in the order Accept, SendEnd, ReceiveEnd, SendReset,
    /// ReceiveReset.
    #[test]
    fn every_pair_of_state_and_change_is_decided() {
        let closed = Some(S::Closed);
        let reset = Some(S::ResetSent);
        let table = [
            [
                Some(S::Open),
                Some(S::OpeningEnded),
                Some(S::RemoteEnded),
                reset,
                closed,
            ],
            [Some(S::LocalEnded), None, closed, reset, closed],
            [
                Some(S::Open),
                Some(S::LocalEnded),
                Some(S::OfferedEnded),
                reset,
                closed,
            ],
            [Some(S::RemoteEnded), closed, None, closed, closed],
            [
                Some(S::Open),
                Some(S::LocalEnded),
                Some(S::RemoteEnded),
                reset,
                closed,
            ],
            [Some(S::LocalEnded), None, closed, reset, closed],
            [Some(S::RemoteEnded), closed, None, closed, closed],
            [reset, None, closed, None, closed],
            [None, None, None, None, None],
        ];
        let changes = [
            C::Accept,
            C::SendEnd,
            C::ReceiveEnd,
            C::SendReset,
            C::ReceiveReset,
        ];
        for (state, row) in STATES.into_iter().zip(table) {
            for (change, expected) in changes.into_iter().zip(row) {
                assert_eq!(state.after(change), expected, "{state:?} + {change:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_can_neither_send_nor_receive_is_closed() {
        for state in STATES {
            assert_eq!(
                !state.can_send() && !state.can_receive(),
                state == S::Closed,
                "{state:?}"
            );
        }
    }
}
