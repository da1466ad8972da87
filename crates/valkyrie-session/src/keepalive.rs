//! Noticing that the peer is gone.

use std::time::Duration;

use valkyrie_frame::{Ping, Time};

use crate::limits::KEEPALIVE_MISSES_MAX;

/// Watches for silence. Any frame counts as life.
#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Option<Duration>,
    heard: Time,
    probe: Probe,
    rtt: Option<Duration>,
}

/// Whether a PING is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    Sent(Time),
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
    pub(crate) const fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            heard: Time::ZERO,
            probe: Probe::None,
            rtt: None,
        }
    }

    /// A frame came.
    pub(crate) const fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    /// Time of the last PING's way there and back.
    pub(crate) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let interval = self.interval?;
        Some(match self.probe {
            Probe::Sent(at) if at >= self.heard => self.heard + interval * KEEPALIVE_MISSES_MAX,
            Probe::None | Probe::Sent(_) => self.heard + interval,
        })
    }

    /// Looks at the silence.
    pub(crate) fn check(&mut self, now: Time) -> Silence {
        let (Some(interval), silence) = (self.interval, now.saturating_since(self.heard)) else {
            return Silence::Fine;
        };
        let asked = matches!(self.probe, Probe::Sent(at) if at >= self.heard);
        if silence >= interval * KEEPALIVE_MISSES_MAX {
            Silence::Dead(silence)
        } else if silence >= interval && !asked {
            Silence::Ask(self.ask(now))
        } else {
            Silence::Fine
        }
    }

    /// A PING to send now.
    pub(crate) const fn ask(&mut self, now: Time) -> Ping {
        self.probe = Probe::Sent(now);
        Ping(now.as_nanos().to_be_bytes())
    }

    /// A PONG came; the round trip if it answers the last PING.
    pub(crate) fn answered(&mut self, now: Time, pong: Ping) -> Option<Duration> {
        let Probe::Sent(at) = self.probe else {
            return None;
        };
        if pong.0 != at.as_nanos().to_be_bytes() {
            return None;
        }
        self.probe = Probe::None;
        self.rtt = Some(now.saturating_since(at));
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_leads_to_one_ping_and_then_to_death() {
        let mut keepalive = Keepalive::new(Some(SECOND));
        let start = Time::ZERO + SECOND;
        keepalive.hear(start);
        assert_eq!(keepalive.deadline(), Some(start + SECOND));
        assert!(matches!(keepalive.check(start + SECOND), Silence::Ask(_)));
        assert_eq!(keepalive.check(start + SECOND), Silence::Fine);
        assert_eq!(keepalive.deadline(), Some(start + SECOND * 3));
        assert_eq!(
            keepalive.check(start + SECOND * 3),
            Silence::Dead(SECOND * 3)
        );
    }

    #[test]
    fn any_frame_is_a_sign_of_life() {
        let mut keepalive = Keepalive::new(Some(SECOND));
        keepalive.check(Time::ZERO + SECOND);
        keepalive.hear(Time::ZERO + SECOND * 2);
        assert_eq!(keepalive.check(Time::ZERO + SECOND * 2), Silence::Fine);
        assert!(matches!(
            keepalive.check(Time::ZERO + SECOND * 3),
            Silence::Ask(_)
        ));
    }

    #[test]
    fn only_the_answer_to_the_last_ping_measures_the_way() {
        let mut keepalive = Keepalive::new(None);
        let ping = keepalive.ask(Time::from_nanos(500));
        assert_eq!(
            keepalive.answered(Time::from_nanos(700), Ping([1; 8])),
            None
        );
        let rtt = Some(Duration::from_nanos(200));
        assert_eq!(keepalive.answered(Time::from_nanos(700), ping), rtt);
        assert_eq!(keepalive.answered(Time::from_nanos(900), ping), None);
        assert_eq!(keepalive.deadline(), None);
    }
}
