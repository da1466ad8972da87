//! Encoded frames that wait to be written, one buffer per band, and the order they leave in.
//!
//! Control leaves strictly first. The other bands share by weight: each band has a *debt*, the
//! bytes it has sent divided by its weight, and the band with the least debt sends the next frame.
//! A band that was idle starts at the least debt of the others, so it neither saves up nor
//! falls behind; waiting lowers the debt (ageing), so the lightest band cannot starve.

use valkyrie_frame::limits::{FRAGMENT_BYTES, FRAGMENT_SHARED_BYTES, HEADER_BYTES};
use valkyrie_frame::{Flags, StreamClass, Time};

use crate::limits::{CLASS_ACTIVE, TRANSMIT_BYTES};

/// A place in the sending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    Control,
    Urgent,
    System,
    Jobs,
    Data,
    Logs,
}

impl Band {
    /// The bands that share by weight, most urgent first.
    const WEIGHTED: [Self; 5] = [
        Self::Urgent,
        Self::System,
        Self::Jobs,
        Self::Data,
        Self::Logs,
    ];

    /// The band of a frame.
    pub(crate) const fn of(class: StreamClass, flags: Flags) -> Self {
        match class {
            StreamClass::Control => Self::Control,
            _ if flags.contains(Flags::URGENT) => Self::Urgent,
            StreamClass::System => Self::System,
            StreamClass::Jobs => Self::Jobs,
            StreamClass::Data => Self::Data,
            StreamClass::Logs => Self::Logs,
        }
    }

    /// Debt per byte: 150 (the least common multiple) over the weights 30, 25, 25, 15 and 5.
    const fn debt_per_byte(self) -> u64 {
        match self {
            Self::Control => 0,
            Self::Urgent => 5,
            Self::System | Self::Jobs => 6,
            Self::Data => 10,
            Self::Logs => 30,
        }
    }
}

/// Debt forgiven per microsecond of waiting. One debt unit is at most a fifth of a byte, so this
/// is far under what any link sends: it decides only where weights alone would starve a band.
const AGEING_PER_US: u64 = 1;

/// Capacity that an empty buffer may keep.
const KEPT_BYTES: usize = 2 * TRANSMIT_BYTES;

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Bytes in front that were given out already.
    head: usize,
    debt: u64,
    /// Since when the first frame waits.
    waits_since: Option<Time>,
    sent_at: Option<Time>,
}

impl Queue {
    fn pending(&self) -> &[u8] {
        self.bytes.get(self.head..).unwrap_or_default()
    }

    const fn is_empty(&self) -> bool {
        self.head >= self.bytes.len()
    }

    /// Moves the first `count` bytes, which are whole frames, behind `out`.
    fn take(&mut self, count: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.pending().get(..count).unwrap_or_default());
        self.head += count;
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.head = 0;
        } else if self.head > KEPT_BYTES.max(self.bytes.len() / 2) {
            // A band that never runs dry would keep every byte it ever sent. Less is moved than
            // was sent since the last time.
            self.bytes.drain(..self.head);
            self.head = 0;
        }
    }

    /// Length of the whole frames in front that fit `room`, at least one.
    fn run(&self, room: usize) -> usize {
        let pending = self.pending();
        let mut end = frame_len(pending);
        while let Some(rest) = pending.get(end..).filter(|rest| !rest.is_empty()) {
            let next = end + frame_len(rest);
            if next > room {
                break;
            }
            end = next;
        }
        end
    }

    fn was_active(&self, now: Time) -> bool {
        !self.is_empty()
            || self
                .sent_at
                .is_some_and(|sent| now.saturating_since(sent) < CLASS_ACTIVE)
    }
}

/// Length of the frame that begins at `bytes`, which this side has encoded.
fn frame_len(bytes: &[u8]) -> usize {
    let length = bytes.get(12..).and_then(<[u8]>::first_chunk::<4>);
    let payload = length.map_or(0, |length| u32::from_be_bytes(*length) as usize);
    HEADER_BYTES + payload
}

/// All bands.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    control: Queue,
    urgent: Queue,
    system: Queue,
    jobs: Queue,
    data: Queue,
    logs: Queue,
    /// Least debt of the bands that had something to send.
    debt: u64,
}

impl Outbox {
    /// Where to encode the next frame of `band`.
    pub(crate) const fn buffer(&mut self, band: Band) -> &mut Vec<u8> {
        &mut self.queue_mut(band).bytes
    }

    /// Bytes of `band` that wait.
    pub(crate) const fn waiting(&self, band: Band) -> usize {
        let queue = self.queue(band);
        queue.bytes.len().saturating_sub(queue.head)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty()
            && Band::WEIGHTED
                .iter()
                .all(|band| self.queue(*band).is_empty())
    }

    /// Longest fragment for `band` now: shorter while another band is active, so that its frames
    /// wait less.
    pub(crate) fn fragment(&self, band: Band, now: Time) -> usize {
        let shared = Band::WEIGHTED
            .iter()
            .any(|other| *other != band && self.queue(*other).was_active(now));
        (if shared {
            FRAGMENT_SHARED_BYTES
        } else {
            FRAGMENT_BYTES
        }) as usize
    }

    /// Gives back the buffers of bands that have nothing to send.
    pub(crate) fn release(&mut self) {
        for band in [Band::Control].into_iter().chain(Band::WEIGHTED) {
            let queue = self.queue_mut(band);
            if queue.is_empty() {
                queue.bytes = Vec::new();
                queue.head = 0;
            }
        }
    }

    /// Drops everything but control: the connection is over.
    pub(crate) fn keep_control_only(&mut self) {
        for band in Band::WEIGHTED {
            *self.queue_mut(band) = Queue::default();
        }
    }

    /// Appends up to [`TRANSMIT_BYTES`] of whole frames to `out`; returns how many bytes.
    pub(crate) fn transmit(&mut self, now: Time, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        if out.is_empty() && self.swap(now, out) {
            return out.len();
        }
        if !self.control.is_empty() {
            self.control.take(self.control.run(TRANSMIT_BYTES), out);
        }
        while out.len() - before < TRANSMIT_BYTES {
            let Some(band) = self.next(now) else { break };
            let room = TRANSMIT_BYTES - (out.len() - before);
            let alone = self.is_alone(band);
            let queue = self.queue(band);
            // Without rivals the frames need not be looked at one by one.
            let count = if alone {
                queue.run(room)
            } else {
                frame_len(queue.pending())
            };
            self.queue_mut(band).take(count, out);
            self.charge(now, band, count);
        }
        out.len() - before
    }

    /// Gives the only buffer that holds anything away whole, for the empty one in `out`.
    fn swap(&mut self, now: Time, out: &mut Vec<u8>) -> bool {
        let all = [Band::Control].into_iter().chain(Band::WEIGHTED);
        let mut filled = all.filter(|band| !self.queue(*band).is_empty());
        let (Some(band), None) = (filled.next(), filled.next()) else {
            return false;
        };
        drop(filled);
        let queue = self.queue_mut(band);
        if queue.head != 0 || queue.bytes.len() > TRANSMIT_BYTES {
            return false;
        }
        std::mem::swap(&mut queue.bytes, out);
        self.charge(now, band, out.len());
        true
    }

    /// The band that sends next.
    fn next(&mut self, now: Time) -> Option<Band> {
        self.debt = self.debt.max(self.least_debt().unwrap_or(0));
        let floor = self.debt;
        let mut best: Option<(u64, Band)> = None;
        for band in Band::WEIGHTED {
            let queue = self.queue_mut(band);
            if queue.is_empty() {
                continue;
            }
            let since = *queue.waits_since.get_or_insert_with(|| {
                queue.debt = queue.debt.max(floor);
                now
            });
            let waited_us = now.saturating_since(since).as_nanos() as u64 / 1000;
            let debt = queue.debt.saturating_sub(waited_us * AGEING_PER_US);
            if best.is_none_or(|(other, _)| debt < other) {
                best = Some((debt, band));
            }
        }
        best.map(|(_, band)| band)
    }

    /// Least debt of the bands that were waiting before.
    fn least_debt(&self) -> Option<u64> {
        let waiting = Band::WEIGHTED.iter().map(|band| self.queue(*band));
        waiting
            .filter(|queue| queue.waits_since.is_some())
            .map(|queue| queue.debt)
            .min()
    }

    fn is_alone(&self, band: Band) -> bool {
        Band::WEIGHTED
            .iter()
            .all(|other| *other == band || self.queue(*other).is_empty())
    }

    /// `band` has sent `bytes`.
    fn charge(&mut self, now: Time, band: Band, bytes: usize) {
        let floor = self.debt;
        let queue = self.queue_mut(band);
        queue.sent_at = Some(now);
        if queue.waits_since.is_none() {
            queue.debt = queue.debt.max(floor);
        }
        queue.waits_since = (!queue.is_empty()).then_some(now);
        queue.debt = queue
            .debt
            .saturating_add(bytes as u64 * band.debt_per_byte());
        let debt = queue.debt;
        if self.least_debt().is_none() {
            // Nobody waits: what was sent without rivals is not held against anyone.
            self.debt = self.debt.max(debt);
        }
    }

    const fn queue(&self, band: Band) -> &Queue {
        match band {
            Band::Control => &self.control,
            Band::Urgent => &self.urgent,
            Band::System => &self.system,
            Band::Jobs => &self.jobs,
            Band::Data => &self.data,
            Band::Logs => &self.logs,
        }
    }

    const fn queue_mut(&mut self, band: Band) -> &mut Queue {
        match band {
            Band::Control => &mut self.control,
            Band::Urgent => &mut self.urgent,
            Band::System => &mut self.system,
            Band::Jobs => &mut self.jobs,
            Band::Data => &mut self.data,
            Band::Logs => &mut self.logs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use valkyrie_frame::{Header, MessageType, StreamId};

    use super::*;

    fn put(outbox: &mut Outbox, band: Band, stream: u32, body: usize) {
        let out = outbox.buffer(band);
        Header::new(MessageType::STREAM_DATA, StreamId(stream), body as u32).append(out);
        out.resize(out.len() + body, 0);
    }

    /// Streams and payload lengths in the order they leave.
    fn order(outbox: &mut Outbox, now: Time) -> Vec<(u32, usize)> {
        let mut out = Vec::new();
        let mut frames = Vec::new();
        while outbox.transmit(now, &mut out) > 0 {
            let mut rest = out.as_slice();
            while !rest.is_empty() {
                let stream = u32::from_be_bytes(rest[8..12].try_into().unwrap());
                let len = frame_len(rest);
                frames.push((stream, len - HEADER_BYTES));
                rest = &rest[len..];
            }
            out.clear();
        }
        frames
    }

    #[test]
    fn control_leaves_first_and_urgent_before_the_rest() {
        let mut outbox = Outbox::default();
        put(&mut outbox, Band::Logs, 10001, 10);
        put(&mut outbox, Band::Data, 1001, 10);
        put(&mut outbox, Band::Urgent, 5, 10);
        put(&mut outbox, Band::Control, 0, 10);
        let streams: Vec<_> = order(&mut outbox, Time::ZERO).iter().map(|f| f.0).collect();
        assert_eq!(streams, [0, 5, 1001, 10001]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn saturated_bands_share_by_their_weights() {
        let mut outbox = Outbox::default();
        for _ in 0..400 {
            put(&mut outbox, Band::System, 3, 1000);
            put(&mut outbox, Band::Jobs, 101, 1000);
            put(&mut outbox, Band::Data, 1001, 1000);
            put(&mut outbox, Band::Logs, 10001, 1000);
        }
        let first: Vec<_> = order(&mut outbox, Time::ZERO)
            .into_iter()
            .take(280)
            .collect();
        let share = |stream| first.iter().filter(|frame| frame.0 == stream).count();
        // 25 : 25 : 15 : 5 of 70 parts.
        assert_eq!(
            [share(3), share(101), share(1001), share(10001)],
            [100, 100, 60, 20]
        );
    }

    #[test]
    fn a_band_that_was_idle_neither_saved_up_nor_pays_for_it() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            put(&mut outbox, Band::Data, 1001, 1000);
        }
        let mut out = Vec::new();
        outbox.transmit(Time::ZERO, &mut out);
        for _ in 0..300 {
            put(&mut outbox, Band::Jobs, 101, 1000);
        }
        let next: Vec<_> = order(&mut outbox, Time::ZERO)
            .into_iter()
            .take(160)
            .collect();
        let jobs = next.iter().filter(|frame| frame.0 == 101).count();
        assert!((98..=102).contains(&jobs), "{jobs}");
    }

    #[test]
    fn a_band_that_never_runs_dry_keeps_only_what_waits() {
        let mut outbox = Outbox::default();
        put(&mut outbox, Band::Data, 1001, 200_000);
        for _ in 0..500 {
            put(&mut outbox, Band::Data, 1001, 20_000);
            put(&mut outbox, Band::Data, 1001, 20_000);
            outbox.transmit(Time::ZERO, &mut Vec::new());
            put(&mut outbox, Band::Data, 1001, 30_000);
            assert!(outbox.waiting(Band::Data) > 0);
        }
        let waiting = outbox.waiting(Band::Data);
        assert!(outbox.data.bytes.len() <= 2 * waiting + 2 * KEPT_BYTES);
    }

    #[test]
    fn waiting_makes_a_band_older_until_it_is_served() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            put(&mut outbox, Band::Logs, 10001, 60_000);
        }
        for _ in 0..400 {
            put(&mut outbox, Band::Jobs, 101, 1000);
        }
        let mut out = Vec::new();
        outbox.transmit(Time::ZERO, &mut out);
        let mut soon = Vec::new();
        outbox.transmit(Time::ZERO, &mut soon);
        let logs = soon.windows(4).any(|bytes| bytes == 10001u32.to_be_bytes());
        assert!(!logs, "the first log frame has to be paid for");
        // Both have waited; the jobs have not once the first of them is sent.
        let later = Time::ZERO + Duration::from_secs(10);
        let streams: Vec<_> = order(&mut outbox, later)
            .iter()
            .take(2)
            .map(|f| f.0)
            .collect();
        assert_eq!(streams, [101, 10001]);
    }

    #[test]
    fn one_active_band_gives_its_buffer_away_and_two_shorten_fragments() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.fragment(Band::Data, Time::ZERO), 32 * 1024);
        put(&mut outbox, Band::Data, 1001, 100);
        let address = outbox.buffer(Band::Data).as_ptr();
        assert_eq!(outbox.fragment(Band::Data, Time::ZERO), 32 * 1024);
        assert_eq!(outbox.fragment(Band::Logs, Time::ZERO), 16 * 1024);
        let mut out = Vec::new();
        assert_eq!(outbox.transmit(Time::ZERO, &mut out), 124);
        assert_eq!(out.as_ptr(), address);
        let soon = Time::ZERO + Duration::from_millis(9);
        assert_eq!(outbox.fragment(Band::Logs, soon), 16 * 1024);
        let later = Time::ZERO + Duration::from_millis(11);
        assert_eq!(outbox.fragment(Band::Logs, later), 32 * 1024);
    }
}
