//! Encoded frames that wait to be written, and the order they leave in.
//!
//! Control leaves strictly first. The other bands share by weight: each band has a *debt*, the
//! bytes it has sent divided by its weight, and the band with the least debt sends the next frame.
//! A band that was idle starts at the least debt of the others, so it neither saves up nor
//! falls behind; waiting lowers the debt (ageing), so the lightest band cannot starve.
//!
//! Inside a band the frames of higher [`Level`] leave first; one of a lower level leaves after it
//! was passed over often enough.

mod rope;

use std::io::IoSlice;

use bytes::Bytes;
use valkyrie_frame::limits::FRAGMENT_SHARED_BYTES;
use valkyrie_frame::{Flags, Header, MessageType, Priority, StreamClass, Time};

use crate::limits::{CLASS_ACTIVE, PASSED_OVER_MAX, TRANSMIT_BYTES};
use crate::on_demand::resting;
use rope::Rope;

/// A share of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    Control,
    Urgent,
    System,
    Jobs,
    Data,
    Logs,
}

/// What a priority means inside its band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Low,
    Normal,
    High,
    Critical,
}

/// A row of frames that keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) band: Band,
    level: Level,
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
    #[inline]
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

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Place {
    /// Stream 0, and credit.
    pub(crate) const CONTROL: Self = Self {
        band: Band::Control,
        level: Level::Normal,
    };

    /// Where a frame goes. Credit goes with control: it must not wait behind what it makes room
    /// for.
    #[inline]
    pub(crate) fn of_header(header: &Header) -> Self {
        match header.kind {
            MessageType::STREAM_ACK => Self::CONTROL,
            _ => Self::of(header.stream.class(), header.flags, header.priority),
        }
    }

    #[inline]
    const fn of(class: StreamClass, flags: Flags, priority: Priority) -> Self {
        let level = match priority.0 {
            0..64 => Level::Low,
            64..160 => Level::Normal,
            160..240 => Level::High,
            240.. => Level::Critical,
        };
        let band = Band::of(class, flags);
        match band {
            Band::Control => Self::CONTROL,
            _ => Self { band, level },
        }
    }
}

/// A buffer for staged frames that is not given back with the others.
const STAGED_BYTES_KEPT: usize = 512;

/// Debt forgiven per microsecond of waiting. One debt unit is at most a fifth of a byte, so this
/// is far under what any link sends: it decides only where weights alone would starve a band.
const AGEING_PER_US: u64 = 1;

/// What a band has had of the connection.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    debt: u64,
    /// Since when its first frame waits.
    waits_since: Option<Time>,
    sent_at: Option<Time>,
}

/// The frames of one place.
#[derive(Debug)]
struct Queue {
    place: Place,
    frames: Rope,
    /// Frames of a higher level of the band that left since one of this queue did.
    passed_over: u8,
}

/// Frames whose turn it is and that leave from their queue, behind those in `staged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Direct {
    queue: usize,
    /// Bytes of them that were not given out.
    left: usize,
}

/// All frames that wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// One for each place that was used since the buffers were released.
    queues: Vec<Queue>,
    /// The queue that was used last.
    recent: usize,
    shares: [Share; Band::WEIGHTED.len()],
    /// Least debt of the bands that had something to send.
    debt: u64,
    /// Frames whose turn it is, in the order they leave: control, and those of several bands.
    staged: Rope,
    direct: Option<Direct>,
    /// An empty buffer for the next queue that needs one.
    spare: Vec<u8>,
}

resting!(Outbox, outbox, outbox.is_empty());

impl Outbox {
    /// Encodes a frame behind those of its place.
    #[inline]
    pub(crate) fn append(&mut self, place: Place, write: impl FnOnce(&mut Vec<u8>)) {
        self.queue(place).frames.append(write);
    }

    /// Encodes a frame whose payload, or the end of it, is `payload`.
    pub(crate) fn append_shared(
        &mut self,
        place: Place,
        write: impl FnOnce(&mut Vec<u8>),
        payload: Bytes,
    ) {
        let frames = &mut self.queue(place).frames;
        frames.append(write);
        frames.append_shared(payload);
    }

    #[inline]
    fn queue(&mut self, place: Place) -> &mut Queue {
        if self
            .queues
            .get(self.recent)
            .is_none_or(|queue| queue.place != place)
        {
            self.recent = self.find(place);
        }
        let queue = self
            .queues
            .get_mut(self.recent)
            .expect("`recent` was just found");
        if queue.frames.is_bare() {
            queue.frames.start_with(std::mem::take(&mut self.spare));
        }
        queue
    }

    /// Takes an empty buffer to encode into, if it has none.
    pub(crate) fn lend(&mut self, take: impl FnOnce() -> Vec<u8>) {
        if self.spare.capacity() == 0 {
            self.spare = take();
        }
    }

    /// Gives the buffers that hold nothing back.
    pub(crate) fn reclaim(&mut self, mut each: impl FnMut(Vec<u8>)) {
        for queue in &mut self.queues {
            each(queue.frames.take_buffer());
        }
        // That of a few acknowledgements stays: it would only be made again.
        if self.staged.capacity() > STAGED_BYTES_KEPT {
            each(self.staged.take_buffer());
        }
        each(std::mem::take(&mut self.spare));
    }

    fn find(&mut self, place: Place) -> usize {
        let known = self.queues.iter().position(|queue| queue.place == place);
        known.unwrap_or_else(|| {
            self.queues.push(Queue {
                place,
                frames: Rope::default(),
                passed_over: 0,
            });
            self.queues.len() - 1
        })
    }

    /// Bytes of `band` whose turn has not come.
    pub(crate) fn waiting(&self, band: Band) -> usize {
        let of_band = self.queues.iter().filter(|queue| queue.place.band == band);
        of_band.map(|queue| queue.frames.len()).sum()
    }

    /// Bytes that wait, of all bands.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let queued: usize = self.queues.iter().map(|queue| queue.frames.len()).sum();
        queued + self.staged.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Longest fragment for `band` now: shorter while another band is active, so that its frames
    /// wait less; `alone` otherwise.
    pub(crate) fn fragment(&self, band: Band, now: Time, alone: usize) -> usize {
        let filled = self.filled();
        let active = |other: Band, share: &Share| {
            let lately = |sent| now.saturating_since(sent) < CLASS_ACTIVE;
            other != band && (filled & other.bit() != 0 || share.sent_at.is_some_and(lately))
        };
        let mut bands = Band::WEIGHTED.into_iter().zip(&self.shares);
        if bands.any(|(other, share)| active(other, share)) {
            FRAGMENT_SHARED_BYTES as usize
        } else {
            alone
        }
    }

    /// Drops everything but control and what is half sent: the connection is over.
    pub(crate) fn keep_control_only(&mut self) {
        if let Some(Direct { queue, left }) = self.direct.take()
            && let Some(queue) = self.queues.get_mut(queue)
        {
            queue.frames.copy(left, &mut self.staged);
        }
        self.queues.retain(|queue| queue.place == Place::CONTROL);
    }

    /// Decides what leaves next, about [`TRANSMIT_BYTES`]; returns how many bytes of it wait, 0
    /// when there is nothing.
    pub(crate) fn prepare(&mut self, now: Time) -> usize {
        let left = self.left();
        if left > 0 {
            return left;
        }
        self.stage_control();
        let room = TRANSMIT_BYTES.saturating_sub(self.staged.len());
        let queues = self.queues.iter().enumerate();
        let mut filled = queues.filter(|(_, queue)| !queue.frames.is_empty());
        match (filled.next(), filled.next()) {
            _ if room == 0 => {}
            (None, _) => {}
            (Some((index, queue)), None) => {
                let (band, left) = (queue.place.band, queue.frames.run(room));
                let rest = queue.frames.len() - left;
                self.direct = Some(Direct { queue: index, left });
                self.charge(now, band, left, rest);
            }
            _ => self.stage(now),
        }
        self.left()
    }

    /// Bytes whose turn it is and that were not given out.
    fn left(&self) -> usize {
        self.staged.len() + self.direct.map_or(0, |direct| direct.left)
    }

    /// Names what [`prepare`](Self::prepare) decided on; returns how many slices are used.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let used = self.staged.slices(usize::MAX, slices);
        let Some(Direct { queue, left }) = self.direct else {
            return used;
        };
        let queue = self.queues.get(queue);
        let (Some(queue), Some(rest)) = (queue, slices.get_mut(used..)) else {
            return used;
        };
        used + queue.frames.slices(left, rest)
    }

    /// The first `count` bytes of the slices were written.
    pub(crate) fn advance(&mut self, count: usize) {
        let staged = count.min(self.staged.len());
        if staged > 0 {
            self.staged.advance(staged);
        }
        let count = count - staged;
        if count == 0 {
            return;
        }
        let direct = self
            .direct
            .as_mut()
            .expect("no more is written than was named");
        direct.left -= count;
        let (queue, left) = (direct.queue, direct.left);
        let queue = self.queues.get_mut(queue);
        let queue = queue.expect("queues stay while they hold something");
        queue.frames.advance(count);
        if left == 0 {
            self.direct = None;
        }
    }

    /// Moves control frames to `staged`.
    fn stage_control(&mut self) {
        let Self { queues, staged, .. } = self;
        let control = queues
            .iter_mut()
            .find(|queue| queue.place == Place::CONTROL);
        if let Some(control) = control {
            while !control.frames.is_empty() && staged.len() < TRANSMIT_BYTES {
                control.frames.move_first(staged);
            }
        }
    }

    /// Moves frames of several places to `staged`, each when its turn comes.
    fn stage(&mut self, now: Time) {
        let mut staged = std::mem::take(&mut self.staged);
        while staged.len() < TRANSMIT_BYTES {
            let Some(band) = self.next(now) else { break };
            let Some(queue) = self.highest(band) else {
                break;
            };
            let count = queue.frames.move_first(&mut staged);
            let rest = self.waiting(band);
            self.charge(now, band, count, rest);
        }
        self.staged = staged;
    }

    /// Bits of the bands that have something.
    fn filled(&self) -> u8 {
        let filled = self.queues.iter().filter(|queue| !queue.frames.is_empty());
        filled.fold(0, |bits, queue| bits | queue.place.band.bit())
    }

    /// The queue of a band that sends next.
    fn highest(&mut self, band: Band) -> Option<&mut Queue> {
        let mut best: Option<(bool, Level, usize)> = None;
        for (index, queue) in self.queues.iter().enumerate() {
            if queue.place.band == band && !queue.frames.is_empty() {
                let due = queue.passed_over >= PASSED_OVER_MAX;
                let turn = (due, queue.place.level, index);
                if best.is_none_or(|(due, level, _)| (turn.0, turn.1) > (due, level)) {
                    best = Some(turn);
                }
            }
        }
        let (_, level, best) = best?;
        for queue in &mut self.queues {
            if queue.place.band == band && queue.place.level < level && !queue.frames.is_empty() {
                queue.passed_over = queue.passed_over.saturating_add(1);
            }
        }
        let queue = self.queues.get_mut(best)?;
        queue.passed_over = 0;
        Some(queue)
    }

    /// The band that sends next.
    fn next(&mut self, now: Time) -> Option<Band> {
        self.debt = self.debt.max(self.least_debt().unwrap_or(0));
        let (floor, filled) = (self.debt, self.filled());
        let mut best: Option<(u64, Band)> = None;
        for (band, share) in Band::WEIGHTED.into_iter().zip(&mut self.shares) {
            if filled & band.bit() == 0 {
                continue;
            }
            let since = *share.waits_since.get_or_insert_with(|| {
                share.debt = share.debt.max(floor);
                now
            });
            let waited_us = now.saturating_since(since).as_nanos() as u64 / 1000;
            let debt = share.debt.saturating_sub(waited_us * AGEING_PER_US);
            if best.is_none_or(|(other, _)| debt < other) {
                best = Some((debt, band));
            }
        }
        best.map(|(_, band)| band)
    }

    /// Least debt of the bands that were waiting before.
    fn least_debt(&self) -> Option<u64> {
        let waiting = self
            .shares
            .iter()
            .filter(|share| share.waits_since.is_some());
        waiting.map(|share| share.debt).min()
    }

    /// `band` has sent `bytes`, and has `rest` more.
    fn charge(&mut self, now: Time, band: Band, bytes: usize, rest: usize) {
        let floor = self.debt;
        let mut shares = Band::WEIGHTED.into_iter().zip(&mut self.shares);
        let Some((_, share)) = shares.find(|(other, _)| *other == band) else {
            return;
        };
        share.sent_at = Some(now);
        if share.waits_since.is_none() {
            share.debt = share.debt.max(floor);
        }
        share.waits_since = (rest > 0).then_some(now);
        share.debt = share
            .debt
            .saturating_add(bytes as u64 * band.debt_per_byte());
        let debt = share.debt;
        if self.least_debt().is_none() {
            // Nobody waits: what was sent without rivals is not held against anyone.
            self.debt = self.debt.max(debt);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use valkyrie_frame::StreamId;
    use valkyrie_frame::limits::HEADER_BYTES;

    use super::*;

    fn put(outbox: &mut Outbox, band: Band, stream: u32, body: usize) {
        put_at(outbox, band, Level::Normal, stream, body);
    }

    fn put_at(outbox: &mut Outbox, band: Band, level: Level, stream: u32, body: usize) {
        outbox.append(Place { band, level }, |out| {
            Header::new(MessageType::STREAM_DATA, StreamId(stream), body as u32).append(out);
            out.resize(out.len() + body, 0);
        });
    }

    /// What leaves with one write.
    fn transmit(outbox: &mut Outbox, now: Time, out: &mut Vec<u8>) -> usize {
        let count = outbox.prepare(now);
        let mut slices = [IoSlice::new(&[]); 4];
        let used = outbox.slices(&mut slices);
        slices[..used]
            .iter()
            .for_each(|slice| out.extend_from_slice(slice));
        outbox.advance(count);
        count
    }

    fn frame_len(bytes: &[u8]) -> usize {
        HEADER_BYTES + u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize
    }

    /// Streams and payload lengths in the order they leave.
    fn order(outbox: &mut Outbox, now: Time) -> Vec<(u32, usize)> {
        let mut out = Vec::new();
        let mut frames = Vec::new();
        while transmit(outbox, now, &mut out) > 0 {
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
        transmit(&mut outbox, Time::ZERO, &mut out);
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
    fn waiting_makes_a_band_older_until_it_is_served() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            put(&mut outbox, Band::Logs, 10001, 60_000);
        }
        for _ in 0..400 {
            put(&mut outbox, Band::Jobs, 101, 1000);
        }
        let mut out = Vec::new();
        transmit(&mut outbox, Time::ZERO, &mut out);
        let mut soon = Vec::new();
        transmit(&mut outbox, Time::ZERO, &mut soon);
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
    fn higher_levels_leave_first_and_lower_ones_are_not_forgotten() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            put_at(&mut outbox, Band::Data, Level::Low, 1001, 10);
            put_at(&mut outbox, Band::Data, Level::Critical, 1003, 10);
        }
        put_at(&mut outbox, Band::Data, Level::High, 1005, 10);
        let streams: Vec<_> = order(&mut outbox, Time::ZERO).iter().map(|f| f.0).collect();
        let place = |stream| streams.iter().position(|s| *s == stream).unwrap();
        let each = usize::from(PASSED_OVER_MAX);
        assert_eq!((place(1003), place(1005)), (0, each));
        assert!((each..=each + 2).contains(&place(1001)));
        let low_before_last_critical = streams[..101].iter().filter(|s| **s == 1001).count();
        assert!(
            (4..=7).contains(&low_before_last_critical),
            "{low_before_last_critical}"
        );
    }

    #[test]
    fn one_filled_band_is_not_copied_and_two_shorten_fragments() {
        const ALONE: usize = 32 * 1024;
        let mut outbox = Outbox::default();
        assert_eq!(outbox.fragment(Band::Data, Time::ZERO, ALONE), ALONE);
        put(&mut outbox, Band::Data, 1001, 100);
        assert_eq!(outbox.fragment(Band::Data, Time::ZERO, ALONE), ALONE);
        assert_eq!(outbox.fragment(Band::Logs, Time::ZERO, ALONE), 16 * 1024);
        assert_eq!(outbox.prepare(Time::ZERO), 124);
        outbox.advance(124);
        let soon = Time::ZERO + Duration::from_millis(9);
        assert_eq!(outbox.fragment(Band::Logs, soon, ALONE), 16 * 1024);
        let later = Time::ZERO + Duration::from_millis(11);
        assert_eq!(outbox.fragment(Band::Logs, later, ALONE), ALONE);
    }

    #[test]
    fn the_end_of_a_connection_finishes_the_frame_that_is_half_written() {
        let mut outbox = Outbox::default();
        put(&mut outbox, Band::Data, 1001, 100);
        assert_eq!(outbox.prepare(Time::ZERO), 124);
        outbox.advance(60);
        put(&mut outbox, Band::Data, 1001, 100);
        put(&mut outbox, Band::Jobs, 101, 100);
        outbox.keep_control_only();
        put(&mut outbox, Band::Control, 0, 10);
        let mut out = Vec::new();
        assert_eq!(transmit(&mut outbox, Time::ZERO, &mut out), 64);
        assert_eq!(order(&mut outbox, Time::ZERO), [(0, 10)]);
    }
}
