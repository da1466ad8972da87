//! Calls of both directions, found by correlation.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use valkyrie_frame::{Correlation, StreamClass, Time};

use crate::on_demand::resting;

/// Calls of this side that wait for an answer: a slab whose slot is in the correlation, so a late
/// answer to an earlier user of the slot is noticed.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    slots: Vec<Slot>,
    free: Vec<u16>,
    open: u32,
    /// No call's deadline is before this; it may be earlier than the earliest.
    deadline: Option<Time>,
}

#[derive(Debug)]
struct Slot {
    /// Of the present user, or of the next one while the slot is free.
    correlation: Correlation,
    user: Option<User>,
}

#[derive(Debug, Clone, Copy)]
struct User {
    class: StreamClass,
    deadline: Option<Time>,
}

// Slots stay, with the numbers of their next users.
resting!(Outgoing, outgoing, outgoing.slots.is_empty());

impl Outgoing {
    /// A new correlation; `None` when `max` are open.
    pub(crate) fn open(
        &mut self,
        class: StreamClass,
        deadline: Option<Time>,
        max: u32,
    ) -> Option<Correlation> {
        if self.open >= max {
            return None;
        }
        let user = Some(User { class, deadline });
        let correlation = match self.free.pop() {
            Some(number) => {
                let slot = self.slots.get_mut(usize::from(number))?;
                slot.user = user;
                slot.correlation
            }
            None => {
                let number = u16::try_from(self.slots.len()).ok()?;
                let correlation = Correlation::first(number)?;
                self.slots.push(Slot { correlation, user });
                correlation
            }
        };
        self.open += 1;
        if let Some(deadline) = deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
        }
        Some(correlation)
    }

    /// Frees a call; the class of its channel, `None` if it is not open.
    pub(crate) fn close(&mut self, call: Correlation) -> Option<StreamClass> {
        let slot = self.slots.get_mut(usize::from(call.slot()))?;
        if slot.correlation != call {
            return None;
        }
        let user = slot.user.take()?;
        slot.correlation = call.next();
        self.free.push(call.slot());
        self.open -= 1;
        Some(user.class)
    }

    /// Whether the call waits for an answer on the channel of `class`.
    pub(crate) fn is_open_on(&self, call: Correlation, class: StreamClass) -> bool {
        let slot = self.slots.get(usize::from(call.slot()));
        let user = slot.filter(|slot| slot.correlation == call);
        user.and_then(|slot| slot.user)
            .is_some_and(|user| user.class == class)
    }

    /// How many are open.
    pub(crate) const fn len(&self) -> u32 {
        self.open
    }

    /// When to look for calls whose time is over.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// The calls whose time is over.
    ///
    /// Looks at every slot, at most 4,096, but only when the earliest deadline has come: keeping
    /// them sorted would cost every call, and almost none runs into its deadline.
    pub(crate) fn expired(&mut self, now: Time) -> Vec<Correlation> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let open = self
            .slots
            .iter()
            .filter_map(|slot| Some((slot.correlation, slot.user?.deadline?)));
        let (over, left): (Vec<_>, Vec<_>) = open.partition(|(_, deadline)| *deadline <= now);
        self.deadline = left.iter().map(|(_, deadline)| *deadline).min();
        over.into_iter().map(|(call, _)| call).collect()
    }
}

/// Calls of the peer that this side has not answered.
///
/// Found by the whole correlation: the peer may use a slot again as soon as it has canceled a call,
/// which still counts here.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    open: HashMap<Correlation, Served, RandomState>,
}

#[derive(Debug, Clone, Copy)]
struct Served {
    class: StreamClass,
    wanted: Wanted,
}

/// Whether the peer still waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    No,
}

/// Why a call is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The correlation has a user.
    Reused,
    /// Too many are open.
    TooMany,
}

resting!(Incoming, incoming, incoming.open.is_empty());

impl Incoming {
    /// Takes a call.
    pub(crate) fn open(
        &mut self,
        call: Correlation,
        class: StreamClass,
        max: u32,
    ) -> Result<(), Refused> {
        if self.open.contains_key(&call) {
            return Err(Refused::Reused);
        }
        if self.open.len() >= max as usize {
            return Err(Refused::TooMany);
        }
        let wanted = Wanted::Yes;
        self.open.insert(call, Served { class, wanted });
        Ok(())
    }

    /// The peer no longer waits; whether the call was open on the channel of `class`.
    pub(crate) fn cancel(&mut self, call: Correlation, class: StreamClass) -> bool {
        match self.open.get_mut(&call) {
            Some(served) if served.wanted == Wanted::Yes && served.class == class => {
                served.wanted = Wanted::No;
                true
            }
            _ => false,
        }
    }

    /// Looks a call up: the class of its channel, and whether the answer is wanted.
    pub(crate) fn get(&self, call: Correlation) -> Option<(StreamClass, Wanted)> {
        self.open
            .get(&call)
            .map(|served| (served.class, served.wanted))
    }

    /// Frees a call after its answer.
    pub(crate) fn close(&mut self, call: Correlation) {
        self.open.remove(&call);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

/// What is left of a deadline, in whole milliseconds on the wire.
pub(crate) fn deadline_ms(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_does_not_reach_the_next_user_of_the_slot() {
        let mut calls = Outgoing::default();
        let first = calls.open(StreamClass::System, None, 10).unwrap();
        assert_eq!(calls.close(first), Some(StreamClass::System));
        let second = calls.open(StreamClass::Jobs, None, 10).unwrap();
        assert_eq!(first.slot(), second.slot());
        assert_eq!(calls.close(first), None);
        assert!(calls.is_open_on(second, StreamClass::Jobs));
        assert!(!calls.is_open_on(second, StreamClass::Data));
        assert_eq!(calls.len(), 1);
    }

    #[test]
    fn deadlines_come_up_once_and_in_any_order() {
        let mut calls = Outgoing::default();
        let at = |seconds| Some(Time::ZERO + Duration::from_secs(seconds));
        let late = calls.open(StreamClass::Data, at(9), 10).unwrap();
        let soon = calls.open(StreamClass::Data, at(3), 10).unwrap();
        calls.open(StreamClass::Data, None, 10).unwrap();
        assert_eq!(calls.deadline(), at(3));
        assert_eq!(calls.expired(at(2).unwrap()), []);
        assert_eq!(calls.expired(at(3).unwrap()), [soon]);
        calls.close(soon);
        assert_eq!(calls.deadline(), at(9));
        assert_eq!(calls.expired(at(10).unwrap()), [late]);
        calls.close(late);
        assert_eq!(calls.expired(at(11).unwrap()), []);
        assert_eq!(calls.deadline(), None);
    }

    #[test]
    fn a_canceled_call_counts_until_it_is_answered() {
        let mut calls = Incoming::default();
        let call = Correlation::first(7).unwrap();
        calls.open(call, StreamClass::System, 1).unwrap();
        assert!(!calls.cancel(call, StreamClass::Jobs));
        assert!(calls.cancel(call, StreamClass::System));
        assert!(!calls.cancel(call, StreamClass::System));
        let other = Correlation::first(8).unwrap();
        assert_eq!(
            calls.open(other, StreamClass::System, 1),
            Err(Refused::TooMany)
        );
        assert_eq!(
            calls.open(call, StreamClass::System, 2),
            Err(Refused::Reused)
        );
        assert_eq!(calls.get(call), Some((StreamClass::System, Wanted::No)));
        calls.close(call);
        calls.open(other, StreamClass::System, 1).unwrap();
        assert_eq!(calls.len(), 1);
    }
}
