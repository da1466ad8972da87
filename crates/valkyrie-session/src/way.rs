//! What is known of the way to the peer and back.

use std::time::Duration;

use valkyrie_frame::{Ping, Time};

use crate::limits::RTT_SAMPLE_EVERY;
use crate::span::Span;

/// Round trips of one connection, for whoever sizes windows by them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// The shortest one. A connection lives on one path, and whatever was longer stood in a queue.
    shortest: Option<Span>,
    last: Span,
    /// How many there were.
    count: u32,
    sample: Sample,
    /// When the acceptor answered HELLO, until the initiator opens something.
    greeted: Option<Time>,
}

/// The PINGs that windows ask for; the heartbeat has its own.
#[derive(Debug, Clone, Copy, Default)]
enum Sample {
    #[default]
    None,
    UnderWay(Time),
    Taken(Time),
}

impl Way {
    /// A PING was answered after this long.
    pub(crate) fn note(&mut self, rtt: Duration) {
        let rtt = Span::of(rtt);
        self.shortest = Some(self.shortest.map_or(rtt, |shortest| shortest.min(rtt)));
        self.last = rtt;
        self.count = self.count.wrapping_add(1);
    }

    /// This side has answered HELLO.
    pub(crate) const fn greet(&mut self, now: Time) {
        self.greeted = Some(now);
    }

    /// The peer opens something. The first time that is after one round trip and whatever it
    /// thought meanwhile: a bound from above, but the only one from before its bytes stand in a
    /// queue, behind which all answers to PINGs come.
    pub(crate) fn opened(&mut self, now: Time) {
        // No time at all means a clock that stood still, and no link.
        if let Some(greeted) = self.greeted.take()
            && now > greeted
        {
            self.note(now.saturating_since(greeted));
        }
    }

    /// The PING to send, if it is time for one.
    pub(crate) fn ask(&mut self, now: Time) -> Option<Ping> {
        match self.sample {
            Sample::UnderWay(_) => return None,
            Sample::Taken(at) if now.saturating_since(at) < RTT_SAMPLE_EVERY => return None,
            Sample::None | Sample::Taken(_) => {}
        }
        self.sample = Sample::UnderWay(now);
        Some(Ping(now.as_nanos().to_be_bytes()))
    }

    /// Takes the answer to the PING that is under way.
    pub(crate) fn answered(&mut self, now: Time, pong: Ping) -> Answer {
        match self.sample {
            Sample::UnderWay(at) if pong.0 == at.as_nanos().to_be_bytes() => {
                self.sample = Sample::Taken(at);
                self.note(now.saturating_since(at));
                Answer::Taken
            }
            _ => Answer::Other,
        }
    }

    /// The time without any queue; `None` before the first sample.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.shortest.map(Span::duration)
    }

    /// The newest sample and its number.
    pub(crate) const fn last(&self) -> (Duration, u32) {
        (self.last.duration(), self.count)
    }
}

/// Whether a PONG was for a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_make_samples_longer_but_not_the_way() {
        let mut way = Way::default();
        let ms = Duration::from_millis;
        for sample in [30, 20, 200] {
            way.note(ms(sample));
        }
        assert_eq!((way.shortest(), way.last()), (Some(ms(20)), (ms(200), 3)));
    }

    #[test]
    fn the_first_opening_bounds_the_way_once() {
        let mut way = Way::default();
        let ms = Duration::from_millis;
        way.opened(Time::ZERO);
        way.greet(Time::ZERO);
        way.opened(Time::ZERO + ms(40));
        way.opened(Time::ZERO + ms(10));
        assert_eq!(way.last(), (ms(40), 1));
    }

    #[test]
    fn samples_are_asked_for_one_by_one_and_at_most_four_times_a_second() {
        let mut way = Way::default();
        let late = Time::ZERO + RTT_SAMPLE_EVERY * 3;
        let first = way.ask(Time::ZERO).unwrap();
        assert_eq!(way.ask(late), None, "the first is not answered");
        assert_eq!(way.answered(late, Ping([9; 8])), Answer::Other);
        assert_eq!(way.answered(late, first), Answer::Taken);
        assert_eq!(way.answered(late, first), Answer::Other);
        assert_eq!(way.shortest(), Some(RTT_SAMPLE_EVERY * 3));
        assert!(way.ask(late).is_some());
        assert_eq!(
            way.answered(late, Ping(late.as_nanos().to_be_bytes())),
            Answer::Taken
        );
        assert_eq!(way.ask(late + RTT_SAMPLE_EVERY / 2), None);
    }
}
