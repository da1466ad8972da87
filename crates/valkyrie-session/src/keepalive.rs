//! Noticing that the peer is gone.

use std::time::Duration;

use valkyrie_frame::{Ping, Time};

use crate::limits::{KEEPALIVE_MIN, PATIENCE_MAX, PATIENCE_TIMEOUTS};
use crate::round_trip::RoundTrip;
use crate::span::Span;

/// Watches for silence. Any frame counts as life.
#[derive(Debug)]
pub(crate) struct Keepalive {
    /// What this side wants; `None` never asks.
    own: Option<Span>,
    /// What the peer named.
    peer: Option<Span>,
    heard: Time,
    probe: Probe,
    round_trip: Option<Trip>,
}

/// A [`RoundTrip`] as it is kept: latest, smoothed, deviation.
type Trip = [Span; 3];

/// Whether a PING is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    Sent {
        /// The first one that nothing has followed.
        since: Time,
        /// The one whose answer is waited for.
        last: Time,
    },
}

/// What the silence asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing yet.
    Fine,
    /// Send this PING.
    Ask(Ping),
    /// The peer is dead after this much silence.
    Dead(Duration),
}

impl Keepalive {
    pub(crate) const fn new(own: Option<Duration>) -> Self {
        Self {
            own: Span::of_some(own),
            peer: None,
            heard: Time::ZERO,
            probe: Probe::None,
            round_trip: None,
        }
    }

    /// The peer named its interval; 0 is none.
    pub(crate) fn set_peer(&mut self, ms: u32) {
        let interval = Duration::from_millis(u64::from(ms)).max(KEEPALIVE_MIN);
        self.peer = (ms > 0).then_some(Span::of(interval));
    }

    /// This side wants another interval.
    pub(crate) const fn set_own(&mut self, interval: Option<Duration>) {
        self.own = Span::of_some(interval);
    }

    /// The silence after which this side asks. A peer that wants to hear more often is given what
    /// it wants, and in turn it has to be heard that often.
    pub(crate) fn interval(&self) -> Option<Duration> {
        let own = self.own?;
        Some(self.peer.map_or(own, |peer| peer.min(own)).duration())
    }

    /// A frame came.
    pub(crate) const fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    /// Round trips so far.
    pub(crate) fn round_trip(&self) -> Option<RoundTrip> {
        let [latest, smoothed, deviation] = self.round_trip?.map(Span::duration);
        Some(RoundTrip {
            latest,
            smoothed,
            deviation,
        })
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let interval = self.interval()?;
        Some(match self.unanswered() {
            Some(since) => since + self.patience(interval),
            None => self.heard + interval,
        })
    }

    /// Looks at the silence.
    pub(crate) fn check(&mut self, now: Time) -> Silence {
        let Some(interval) = self.interval() else {
            return Silence::Fine;
        };
        let silence = now.saturating_since(self.heard);
        // The peer must have been asked, however long the silence: this process may have been
        // stopped, and what the peer sent meanwhile lies in the socket.
        match self.unanswered() {
            Some(since) if now >= since + self.patience(interval) => Silence::Dead(silence),
            None if silence >= interval => Silence::Ask(self.ask(now)),
            Some(_) | None => Silence::Fine,
        }
    }

    /// How long an answer may take: an interval, longer where the way is slow.
    fn patience(&self, interval: Duration) -> Duration {
        let slow = RoundTrip::timeout_of(self.round_trip().as_ref()) * PATIENCE_TIMEOUTS;
        slow.clamp(interval, PATIENCE_MAX.max(interval * 2))
    }

    /// Since when a PING waits while nothing at all comes.
    fn unanswered(&self) -> Option<Time> {
        match self.probe {
            Probe::Sent { since, .. } if since >= self.heard => Some(since),
            Probe::None | Probe::Sent { .. } => None,
        }
    }

    /// A PING to send now.
    pub(crate) fn ask(&mut self, now: Time) -> Ping {
        let since = self.unanswered().unwrap_or(now);
        self.probe = Probe::Sent { since, last: now };
        Ping(now.as_nanos().to_be_bytes())
    }

    /// A PONG came; the round trip if it answers the last PING.
    pub(crate) fn answered(&mut self, now: Time, pong: Ping) -> Option<Duration> {
        let Probe::Sent { last, .. } = self.probe else {
            return None;
        };
        if pong.0 != last.as_nanos().to_be_bytes() {
            return None;
        }
        self.probe = Probe::None;
        let sample = now.saturating_since(last);
        let trip = match self.round_trip() {
            Some(known) => known.with(sample),
            None => RoundTrip::first(sample),
        };
        let kept = [trip.latest, trip.smoothed, trip.deviation];
        self.round_trip = Some(kept.map(Span::of));
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// At `seconds` after the start of the clock.
    fn at(seconds: u64) -> Time {
        Time::ZERO + SECOND * u32::try_from(seconds).unwrap()
    }

    fn heard_at(interval: u64, start: Time) -> Keepalive {
        let mut keepalive = Keepalive::new(Some(SECOND * u32::try_from(interval).unwrap()));
        keepalive.hear(start);
        keepalive
    }

    #[test]
    fn silence_is_asked_about_once_and_then_counts_as_death() {
        let mut keepalive = heard_at(10, at(100));
        assert_eq!(keepalive.deadline(), Some(at(110)));
        assert_eq!(keepalive.check(at(109)), Silence::Fine);
        assert!(matches!(keepalive.check(at(110)), Silence::Ask(_)));
        assert_eq!(keepalive.check(at(111)), Silence::Fine);
        assert_eq!(keepalive.deadline(), Some(at(120)));
        assert_eq!(keepalive.check(at(120)), Silence::Dead(SECOND * 20));
    }

    #[test]
    fn a_process_that_was_stopped_asks_before_it_gives_up() {
        let mut keepalive = heard_at(10, at(100));
        assert!(matches!(keepalive.check(at(5000)), Silence::Ask(_)));
        assert_eq!(keepalive.deadline(), Some(at(5010)));
    }

    #[test]
    fn a_slow_way_is_given_more_time_and_never_more_than_a_minute() {
        for (ms, patience) in [(1, 7), (5_000, 60), (1_000, 21)] {
            let mut keepalive = heard_at(1, at(100));
            if ms > 1 {
                let ping = keepalive.ask(at(100));
                let answer = at(100) + Duration::from_millis(ms);
                assert!(keepalive.answered(answer, ping).is_some());
                keepalive.hear(answer);
            }
            let asked = keepalive.deadline().unwrap();
            assert!(matches!(keepalive.check(asked), Silence::Ask(_)));
            let dead = keepalive.deadline().unwrap();
            let given = dead.saturating_since(asked);
            assert_eq!(given, SECOND * patience, "{ms} ms");
        }
    }

    #[test]
    fn any_frame_is_a_sign_of_life() {
        let mut keepalive = heard_at(1, Time::ZERO);
        keepalive.check(at(1));
        keepalive.hear(at(2));
        assert_eq!(keepalive.check(at(2)), Silence::Fine);
        assert!(matches!(keepalive.check(at(3)), Silence::Ask(_)));
    }

    #[test]
    fn pinging_again_does_not_put_death_off() {
        let mut keepalive = heard_at(10, at(100));
        for second in 110..120 {
            keepalive.ask(at(second));
        }
        assert_eq!(keepalive.check(at(120)), Silence::Dead(SECOND * 20));
    }

    #[test]
    fn the_shorter_interval_of_both_sides_holds() {
        let mut keepalive = heard_at(10, Time::ZERO);
        for (ms, interval) in [(0, 10), (5_000, 5), (60_000, 10), (1, 1)] {
            keepalive.set_peer(ms);
            assert_eq!(keepalive.interval(), Some(SECOND * interval), "{ms} ms");
        }
        let mut never = Keepalive::new(None);
        never.set_peer(5_000);
        assert_eq!((never.interval(), never.deadline()), (None, None));
    }

    #[test]
    fn only_the_answer_to_the_last_ping_measures_the_way() {
        let mut keepalive = Keepalive::new(None);
        let ping = keepalive.ask(Time::from_nanos(500));
        let wrong = Ping([1; 8]);
        assert_eq!(keepalive.answered(Time::from_nanos(700), wrong), None);
        let rtt = Some(Duration::from_nanos(200));
        assert_eq!(keepalive.answered(Time::from_nanos(700), ping), rtt);
        assert_eq!(keepalive.answered(Time::from_nanos(900), ping), None);
        assert_eq!(keepalive.round_trip().map(|trip| trip.latest), rtt);
    }
}
