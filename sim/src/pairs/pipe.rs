//! One direction of a link, as a reliable transport shows it.

use std::{collections::VecDeque, time::Duration};

use valkyrie_frame::Time;

use crate::rng::Rng;

/// Bytes that are lost and sent again together.
const SEGMENT_BYTES: usize = 1448;

/// What a direction is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Road {
    /// From one end to the other.
    pub(crate) delay: Duration,
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Bytes that the sender may be ahead of what was sent.
    pub(crate) buffer: u64,
    /// Segments of a million that are lost once. The transport sends them again, so loss is delay:
    /// what follows waits for what is missing.
    pub(crate) loss_ppm: u64,
}

/// Bytes on their way to one end, in order.
#[derive(Debug)]
pub(crate) struct Pipe {
    road: Road,
    arrivals: VecDeque<(Time, Vec<u8>)>,
    /// When the last byte put in has left the sender.
    busy_until: Time,
    /// No byte comes out before this.
    held_until: Time,
    end: PipeEnd,
}

/// Whether more can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipeEnd {
    Open,
    /// What is under way comes out, then the end.
    Closed,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    /// The other side is gone.
    Hangup,
    /// Not before this.
    Later(Time),
    Nothing,
}

impl Pipe {
    pub(crate) fn new(road: Road) -> Self {
        Self {
            road,
            arrivals: VecDeque::new(),
            busy_until: Time::ZERO,
            held_until: Time::ZERO,
            end: PipeEnd::Open,
        }
    }

    /// Bytes that can be put in now: none before a third of the buffer is free, as with a socket, or
    /// all would go in drops.
    pub(crate) fn room(&self, now: Time) -> usize {
        let ahead = self.busy_until.saturating_since(now).as_nanos();
        let bytes = u64::try_from(ahead * u128::from(self.road.rate) / 1_000_000_000);
        let room = self.road.buffer.saturating_sub(bytes.unwrap_or(u64::MAX));
        if room < self.road.buffer / 3 {
            return 0;
        }
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// When half of the buffer is free again.
    pub(crate) fn roomy_at(&self, now: Time) -> Time {
        let half = self.transmission(self.road.buffer / 2);
        let at = self.busy_until.saturating_since(Time::ZERO + half);
        (Time::ZERO + at).max(now + Duration::from_micros(1))
    }

    /// Puts bytes in; when they come out.
    pub(crate) fn send(&mut self, now: Time, bytes: Vec<u8>, rng: &mut Rng) -> Time {
        if self.end == PipeEnd::Closed {
            return now;
        }
        let takes = self.transmission(bytes.len() as u64);
        self.busy_until = self.busy_until.max(now) + takes;
        let mut at = self.busy_until + self.road.delay;
        if self.road.loss_ppm > 0 {
            let segments = bytes.len().div_ceil(SEGMENT_BYTES);
            let lost = (0..segments).any(|_| rng.below(1_000_000) < self.road.loss_ppm);
            if lost {
                // The receiver asks for it: one way back and one way here, and a little.
                at = at + self.road.delay * 2 + Duration::from_millis(1);
            }
        }
        let before = self.arrivals.back().map_or(Time::ZERO, |last| last.0);
        let at = at.max(before).max(self.held_until);
        self.arrivals.push_back((at, bytes));
        at
    }

    /// What has come out by now: of the first bytes no more than `most`.
    pub(crate) fn take(&mut self, now: Time, most: usize) -> Arrival {
        let Some((at, bytes)) = self.arrivals.front_mut() else {
            return match self.end {
                PipeEnd::Closed => Arrival::Hangup,
                PipeEnd::Open => Arrival::Nothing,
            };
        };
        let at = (*at).max(self.held_until);
        if at > now {
            return Arrival::Later(at);
        }
        if bytes.len() > most.max(1) {
            let rest = bytes.split_off(most.max(1));
            return Arrival::Bytes(std::mem::replace(bytes, rest));
        }
        let first = self.arrivals.pop_front();
        Arrival::Bytes(first.map_or_else(Vec::new, |(_, bytes)| bytes))
    }

    /// When something comes out next.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.arrivals
            .front()
            .map(|(at, _)| (*at).max(self.held_until))
    }

    /// Nothing comes out for this long.
    pub(crate) fn stall(&mut self, now: Time, time: Duration) {
        self.held_until = self.held_until.max(now + time);
    }

    /// Nothing more goes in.
    pub(crate) fn close(&mut self) {
        self.end = PipeEnd::Closed;
    }

    /// Nothing more goes in, and what is under way is gone.
    pub(crate) fn cut(&mut self) {
        self.arrivals.clear();
        self.held_until = Time::ZERO;
        self.close();
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    fn transmission(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.road.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn road(loss_ppm: u64) -> Road {
        Road {
            delay: 10 * MS,
            rate: 1_000_000,
            buffer: 10_000,
            loss_ppm,
        }
    }

    #[test]
    fn bytes_take_the_time_of_the_link_and_keep_their_order() {
        let mut pipe = Pipe::new(road(0));
        let (mut rng, start) = (Rng::new(1), Time::ZERO);
        assert_eq!(pipe.room(start), 10_000);
        assert_eq!(pipe.send(start, vec![1; 5000], &mut rng), start + 15 * MS);
        assert_eq!(pipe.send(start, vec![2; 5000], &mut rng), start + 20 * MS);
        assert_eq!(pipe.room(start), 0);
        assert_eq!(pipe.roomy_at(start), start + 5 * MS);
        assert_eq!(pipe.take(start, 9), Arrival::Later(start + 15 * MS));
        assert_eq!(
            pipe.take(start + 15 * MS, 4999),
            Arrival::Bytes(vec![1; 4999])
        );
        assert_eq!(pipe.take(start + 15 * MS, 4999), Arrival::Bytes(vec![1; 1]));
        pipe.stall(start + 15 * MS, 100 * MS);
        pipe.close();
        assert_eq!(
            pipe.take(start + 20 * MS, 9999),
            Arrival::Later(start + 115 * MS)
        );
        assert_eq!(
            pipe.take(start + 115 * MS, 9999),
            Arrival::Bytes(vec![2; 5000])
        );
        assert_eq!(pipe.take(start + 115 * MS, 9999), Arrival::Hangup);
    }

    #[test]
    fn what_follows_a_lost_segment_waits_for_it() {
        let mut pipe = Pipe::new(road(1_000_000));
        let at = pipe.send(Time::ZERO, vec![1; 1000], &mut Rng::new(1));
        assert_eq!(at, Time::ZERO + 32 * MS);
        pipe.road.loss_ppm = 0;
        assert_eq!(pipe.send(Time::ZERO, vec![2; 1000], &mut Rng::new(1)), at);
    }
}
