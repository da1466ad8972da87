//! Stream ids, and the classes they fall into.

use std::{fmt, ops::RangeInclusive};

/// Names a stream of one connection; 0 is the connection itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The connection itself.
    pub const CONTROL: Self = Self(0);

    /// The class of the id's range.
    #[inline]
    #[must_use]
    pub const fn class(self) -> StreamClass {
        match self.0 {
            0 => StreamClass::Control,
            1..=99 => StreamClass::System,
            100..=999 => StreamClass::Jobs,
            1000..=9999 => StreamClass::Data,
            10000.. => StreamClass::Logs,
        }
    }

    /// Whether this is one of the always-open channels 1, 100, 1000 and 10000, which carry CALL,
    /// REPLY, CANCEL and MESSAGE.
    #[inline]
    #[must_use]
    pub const fn is_channel(self) -> bool {
        matches!(self.0, 1 | 100 | 1000 | 10000)
    }

    /// The parity of the id, which names the side that may open it.
    #[inline]
    #[must_use]
    pub const fn parity(self) -> Parity {
        if self.0 & 1 == 1 {
            Parity::Odd
        } else {
            Parity::Even
        }
    }

    /// Whether the id can name a stream that is opened: neither control nor a channel.
    #[inline]
    #[must_use]
    pub const fn is_stream(self) -> bool {
        self.0 != 0 && !self.is_channel()
    }

    /// The next id of the same parity and class; `None` at the end of the class.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let next = self.0.checked_add(2)?;
        self.class().range().contains(&next).then_some(Self(next))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which side of the connection may open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// The initiator, the side that connected.
    Odd,
    /// The acceptor.
    Even,
}

/// What a stream is for; decides its place in the sending order and its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamClass {
    /// Stream 0: the connection.
    Control,
    /// 1-99.
    System,
    /// 100-999.
    Jobs,
    /// 1000-9999.
    Data,
    /// 10000 and above.
    Logs,
}

impl StreamClass {
    /// The classes that have streams, in the order of `Limits.class_window`.
    pub const WITH_STREAMS: [Self; 4] = [Self::System, Self::Jobs, Self::Data, Self::Logs];

    /// The name in logs and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::System => "system",
            Self::Jobs => "job",
            Self::Data => "data",
            Self::Logs => "log",
        }
    }

    /// Position in `Limits.class_window`; `None` for control.
    #[must_use]
    pub const fn index(self) -> Option<usize> {
        match self {
            Self::Control => None,
            Self::System => Some(0),
            Self::Jobs => Some(1),
            Self::Data => Some(2),
            Self::Logs => Some(3),
        }
    }

    /// The ids of the class.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u32> {
        match self {
            Self::Control => 0..=0,
            Self::System => 1..=99,
            Self::Jobs => 100..=999,
            Self::Data => 1000..=9999,
            Self::Logs => 10000..=u32::MAX,
        }
    }

    /// The always-open channel of the class; stream 0 for control.
    #[must_use]
    pub const fn channel(self) -> StreamId {
        StreamId(*self.range().start())
    }

    /// The first stream id that the side with this parity hands out; `None` for control.
    #[must_use]
    pub const fn first(self, parity: Parity) -> Option<StreamId> {
        let channel = self.channel();
        if channel.0 == 0 {
            return None;
        }
        let same = matches!(
            (channel.parity(), parity),
            (Parity::Odd, Parity::Odd) | (Parity::Even, Parity::Even)
        );
        Some(StreamId(channel.0 + if same { 2 } else { 1 }))
    }
}

impl fmt::Display for StreamClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ids_follow_the_specification() {
        let firsts = |parity| StreamClass::WITH_STREAMS.map(|class| class.first(parity).unwrap().0);
        assert_eq!(firsts(Parity::Odd), [3, 101, 1001, 10001]);
        assert_eq!(firsts(Parity::Even), [2, 102, 1002, 10002]);
        assert_eq!(StreamClass::Control.first(Parity::Odd), None);
    }

    #[test]
    fn ids_end_with_their_class() {
        assert_eq!(StreamId(97).next(), Some(StreamId(99)));
        assert_eq!(StreamId(99).next(), None);
        assert_eq!(StreamId(998).next(), None);
        assert_eq!(StreamId(u32::MAX).next(), None);
    }

    #[test]
    fn ranges_and_classes_agree() {
        for id in [0, 1, 99, 100, 999, 1000, 9999, 10000, u32::MAX] {
            assert!(StreamId(id).class().range().contains(&id), "{id}");
        }
    }
}
