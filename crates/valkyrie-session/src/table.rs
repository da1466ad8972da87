//! Finds an open stream by its id.

use std::cell::Cell;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use valkyrie_frame::StreamId;

use crate::streams::Stream;

/// Slots that are kept while no stream is open, for the next ones.
const KEPT_SLOTS: usize = 64;

/// The open streams. The hash is seeded, so a peer cannot choose ids that collide; the stream that
/// was used last, which most frames are about, is found without it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    index: HashMap<StreamId, u32, RandomState>,
    /// Id and slot that were found last; [`StreamId::CONTROL`], which is never here, for none.
    recent: Cell<(StreamId, u32)>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.index.keys().copied()
    }

    #[inline]
    fn slot(&self, id: StreamId) -> Option<usize> {
        let (recent, slot) = self.recent.get();
        if recent == id && id != StreamId::CONTROL {
            return Some(slot as usize);
        }
        let slot = *self.index.get(&id)?;
        self.recent.set((id, slot));
        Some(slot as usize)
    }

    #[inline]
    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(self.slot(id)?)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let slot = self.slot(id)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Adds a stream whose id is not open.
    pub(crate) fn insert(&mut self, id: StreamId, stream: Stream) -> &mut Stream {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("streams are fewer than their ids")
        });
        self.index.insert(id, slot);
        self.recent.set((id, slot));
        let space = self
            .slots
            .get_mut(slot as usize)
            .expect("slots are never removed");
        space.insert(stream)
    }

    pub(crate) fn remove(&mut self, id: StreamId) {
        let Some(slot) = self.index.remove(&id) else {
            return;
        };
        self.recent.set((StreamId::CONTROL, 0));
        if let Some(space) = self.slots.get_mut(slot as usize) {
            *space = None;
        }
        self.free.push(slot);
        if self.index.is_empty() && self.slots.len() > KEPT_SLOTS {
            *self = Self::default();
        }
    }

    /// Gives back memory that holds nothing.
    pub(crate) fn release(&mut self) {
        if self.index.is_empty() {
            *self = Self::default();
        }
    }
}
