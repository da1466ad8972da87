//! The open streams of a connection, and the channels beside them.

use valkyrie_frame::{Parity, Priority, StreamClass, StreamId, TraceByte};

use crate::config::Limits;
use crate::counters::StreamCount;
use crate::credit::{ReceiveCredit, SendCredit};
use crate::error::Violation;
use crate::event::End;
use crate::flow::{FlowWindow, Policy};
use crate::limits::EMPTY_FRAMES_MAX;
use crate::on_demand::{OnDemand, fill, resting};
use crate::rule::Rule;
use crate::state::{Change, StreamState};
use crate::table::Table;

/// Credit of a stream or channel in both directions.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) send: SendCredit,
    pub(crate) receive: ReceiveCredit,
    /// Whether an acknowledgement is on the list of those to send.
    pub(crate) listed: Listed,
}

/// Whether a stream is on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    No,
    Yes,
}

/// What the positions of one direction count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Payload bytes of data and job messages.
    Bytes,
    /// Offsets of a log; begins where the receiver says.
    Log,
    /// Offsets of a file whose start the receiver has not answered.
    FileOffered,
    /// Offsets of a file.
    File,
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) state: StreamState,
    pub(crate) flow: Flow,
    pub(crate) sending: Counting,
    pub(crate) receiving: Counting,
    /// Of every frame of this side on it.
    pub(crate) priority: Priority,
    /// Whether the caller waits for `Writable`.
    pub(crate) blocked: Listed,
    /// Trace byte of this side's messages.
    pub(crate) trace: TraceByte,
    /// Whether the peer has reported an error about it.
    pub(crate) failed: Listed,
    /// Frames without a byte in a row.
    pub(crate) empty_frames: u8,
    /// Size of the file that this side sends.
    pub(crate) file_sent: u64,
    /// The file that the peer sends.
    pub(crate) offer: Option<Box<Offer>>,
    /// Place in the order in which this side's openings of its class were sent; 0 for a stream of
    /// the peer, and for one whose opening waits.
    ordinal: u64,
}

/// What the START of a file promised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) size: u64,
    pub(crate) digest: [u8; 32],
}

impl Stream {
    /// Whether this side opened a log here: the first acknowledgement says where it goes on.
    pub(crate) fn is_log_to_begin(&self) -> bool {
        let opening = self.state.is_opening() && self.sending == Counting::Log;
        opening && self.flow.send.position() == 0
    }

    /// Whether this side has not heard yet where its log or file has to begin.
    pub(crate) fn is_waiting_to_begin(&self) -> bool {
        self.is_log_to_begin() || self.sending == Counting::FileOffered
    }

    /// Counts a frame of data that may be empty; too many in a row are a flood. The last one of a
    /// direction may well be.
    pub(crate) fn count_empty(&mut self, credit: u64, end: End) -> Result<(), Violation> {
        self.empty_frames = match (credit, end) {
            (0, End::No) => self.empty_frames.saturating_add(1),
            _ => 0,
        };
        if self.empty_frames > EMPTY_FRAMES_MAX {
            return Err(Violation::TooMany {
                what: "empty frames in a row",
                max: u64::from(EMPTY_FRAMES_MAX),
                rule: Rule::EMPTY_FRAMES,
            });
        }
        Ok(())
    }
}

/// What happened in each class since it was taken.
#[derive(Debug, Default)]
struct Counts([StreamCount; 4]);

resting!(
    Counts,
    counts,
    counts
        .0
        .iter()
        .all(|count| *count == StreamCount::default())
);

/// A channel, whose credit is only written down when it is used.
#[derive(Debug)]
struct Channel {
    /// The windows it begins with, in bytes.
    send: u32,
    receive: u32,
    flow: Option<Box<Flow>>,
}

impl Channel {
    fn flow_mut(&mut self) -> &mut Flow {
        match &mut self.flow {
            Some(flow) => flow,
            empty @ None => fill(empty, || Box::new(Flow::with(self.send, self.receive))),
        }
    }
}

/// All streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    channels: [Channel; 4],
    parity: Parity,
    /// Nothing before the first one.
    all: Option<Box<All>>,
    counts: OnDemand<Counts>,
}

/// Those that there are, and were.
#[derive(Debug, Default)]
struct All {
    open: Table,
    /// Id handed out last, by class.
    last: [Option<StreamId>; 4],
    own: u32,
    peers: u32,
    unaccepted: usize,
    /// Openings sent by this side, and taken from the peer, by class.
    opened: [u64; 4],
    offered: [u64; 4],
}

impl Flow {
    fn new(class: StreamClass, own: &Limits, peer: &Limits) -> Self {
        Self::with(peer.window(class), own.window(class))
    }

    fn with(send: u32, receive: u32) -> Self {
        Self {
            send: SendCredit::new(u64::from(send)),
            receive: ReceiveCredit::new(receive),
            listed: Listed::No,
        }
    }
}

impl Stream {
    /// Whether the opening of a stream of this side still waits for credit.
    pub(crate) const fn is_unheard(&self) -> bool {
        self.ordinal == 0
    }
}

impl Streams {
    pub(crate) fn new(parity: Parity, own: &Limits, peer: &Limits) -> Self {
        Self {
            channels: StreamClass::WITH_STREAMS.map(|class| Channel {
                send: peer.window(class),
                receive: own.window(class),
                flow: None,
            }),
            parity,
            all: None,
            counts: OnDemand::default(),
        }
    }

    /// Credit of a stream or channel that may still be used.
    #[inline]
    pub(crate) fn flow_mut(&mut self, id: StreamId) -> Option<&mut Flow> {
        if id.is_channel() {
            let channel = self.channels.get_mut(id.class().index()?)?;
            return Some(channel.flow_mut());
        }
        self.get_mut(id).map(|stream| &mut stream.flow)
    }

    /// Its receive window, to look at.
    pub(crate) fn window(&self, id: StreamId, policy: &Policy) -> Option<FlowWindow> {
        if !id.is_channel() {
            return Some(self.get(id)?.flow.receive.view(policy));
        }
        let channel = self.channels.get(id.class().index()?)?;
        Some(match &channel.flow {
            Some(flow) => flow.receive.view(policy),
            None => ReceiveCredit::new(channel.receive).view(policy),
        })
    }

    #[inline]
    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.all.as_ref()?.open.get(id)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.all.as_mut()?.open.get_mut(id)
    }

    /// Streams that are not closed.
    pub(crate) fn len(&self) -> usize {
        self.all.as_ref().map_or(0, |all| all.open.len())
    }

    /// Their classes, one entry per stream.
    pub(crate) fn classes(&self) -> impl Iterator<Item = StreamClass> {
        self.ids().map(StreamId::class)
    }

    /// All that are open, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.ids().filter_map(|id| Some((id, self.get(id)?)))
    }

    fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.all.iter().flat_map(|all| all.open.ids())
    }

    /// Streams that this side opened.
    pub(crate) fn own(&self) -> u32 {
        self.all.as_ref().map_or(0, |all| all.own)
    }

    /// Streams that the peer opened.
    pub(crate) fn peers(&self) -> u32 {
        self.all.as_ref().map_or(0, |all| all.peers)
    }

    /// Streams that the peer opened and this side has not answered.
    pub(crate) fn unaccepted(&self) -> usize {
        self.all.as_ref().map_or(0, |all| all.unaccepted)
    }

    /// Whether this side may open the id.
    pub(crate) fn is_own(&self, id: StreamId) -> bool {
        id.parity() == self.parity
    }

    /// A free id for this side. Ids go round the whole range before one comes again, so a frame
    /// that is late by accident does not meet a young stream.
    pub(crate) fn free_id(&self, class: StreamClass) -> Option<StreamId> {
        let first = class.first(self.parity)?;
        let Some(all) = &self.all else {
            return Some(first);
        };
        let last = all.last.get(class.index()?).copied().flatten();
        let mut id = last.and_then(StreamId::next).unwrap_or(first);
        // One try more than streams are open finds a free id if there is one.
        for _ in 0..=all.open.len() {
            if all.open.get(id).is_none() {
                return Some(id);
            }
            id = id.next().unwrap_or(first);
        }
        None
    }

    /// Adds a stream; `state` says who opened it.
    pub(crate) fn insert(
        &mut self,
        id: StreamId,
        state: StreamState,
        own: &Limits,
        peer: &Limits,
    ) -> &mut Stream {
        self.count(id.class(), |count| count.opened += 1);
        let all = self.all.get_or_insert_default();
        let class = id.class().index();
        if state.is_offered() {
            all.peers += 1;
            all.unaccepted += 1;
            if let Some(count) = class.and_then(|class| all.offered.get_mut(class)) {
                *count += 1;
            }
        } else {
            all.own += 1;
            if let Some(last) = class.and_then(|class| all.last.get_mut(class)) {
                *last = Some(id);
            }
        }
        let counting = match id.class() {
            StreamClass::Logs => Counting::Log,
            _ => Counting::Bytes,
        };
        let stream = Stream {
            state,
            flow: Flow::new(id.class(), own, peer),
            sending: counting,
            receiving: counting,
            priority: Priority::NORMAL,
            blocked: Listed::No,
            failed: Listed::No,
            trace: TraceByte::NONE,
            empty_frames: 0,
            file_sent: 0,
            offer: None,
            ordinal: 0,
        };
        all.open.insert(id, stream)
    }

    /// Gives back memory that holds nothing.
    pub(crate) fn release(&mut self) {
        if let Some(all) = &mut self.all {
            all.open.release();
        }
        self.counts.rest();
    }

    /// The opening of a stream of this side leaves now: gives it its place. A JOB_REQUEST may wait
    /// for credit behind which later ones do not.
    pub(crate) fn number(&mut self, id: StreamId) {
        let Some(all) = &mut self.all else { return };
        let count = id.class().index().and_then(|at| all.opened.get_mut(at));
        if let (Some(count), Some(stream)) = (count, all.open.get_mut(id))
            && stream.ordinal == 0
        {
            *count += 1;
            stream.ordinal = *count;
        }
    }

    /// Openings of the peer taken so far, by class.
    pub(crate) fn offered(&self) -> [u64; 4] {
        self.all.as_ref().map_or([0; 4], |all| all.offered)
    }

    /// Streams of this side whose opening came after the first `served` of their class.
    pub(crate) fn unserved(&self, served: [u64; 4]) -> Vec<StreamId> {
        let is_late = |id: &StreamId| {
            let last = id.class().index().and_then(|at| served.get(at));
            let ordinal = self.get(*id).map_or(0, |stream| stream.ordinal);
            ordinal != 0 && last.is_some_and(|last| ordinal > *last)
        };
        self.ids().filter(is_late).collect()
    }

    /// Adds to the numbers of a class.
    pub(crate) fn count(&mut self, class: StreamClass, add: impl FnOnce(&mut StreamCount)) {
        if let Some(count) = class.index().and_then(|index| self.counts.0.get_mut(index)) {
            add(count);
        }
    }

    /// Takes the numbers of each class that moved.
    pub(crate) fn take_counts(&mut self, mut each: impl FnMut(StreamClass, StreamCount)) {
        let Some(Counts(counts)) = self.counts.present() else {
            return;
        };
        for (class, count) in StreamClass::WITH_STREAMS.into_iter().zip(counts) {
            if *count != StreamCount::default() {
                each(class, std::mem::take(count));
            }
        }
    }

    /// Moves a stream on, and forgets it when it is closed. `None`: the change is not legal.
    pub(crate) fn change(&mut self, id: StreamId, change: Change) -> Option<StreamState> {
        let is_own = self.is_own(id);
        let all = self.all.as_mut()?;
        let stream = all.open.get_mut(id)?;
        let state = stream.state.after(change)?;
        if stream.state.is_offered() && !state.is_offered() {
            all.unaccepted -= 1;
        }
        stream.state = state;
        if state == StreamState::Closed {
            all.open.remove(id);
            if is_own {
                all.own -= 1;
            } else {
                all.peers -= 1;
            }
            self.count(id.class(), |count| count.closed += 1);
        }
        Some(state)
    }
}
