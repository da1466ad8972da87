//! Jobs in their order, with the number of those in front of each.

use std::collections::VecDeque;

use super::share::Place;

/// Places in one piece. A place is found by halving inside a piece and counted by adding up the
/// pieces before it: 200 additions for 100,000 jobs.
const PIECE_MAX: usize = 512;

/// A sorted list of places that knows how many are in front of one.
#[derive(Debug, Default)]
pub(super) struct JobQueue {
    /// Sorted, none of them empty.
    pieces: VecDeque<VecDeque<Place>>,
    len: usize,
}

impl JobQueue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn first(&self) -> Option<Place> {
        self.pieces.front()?.front().copied()
    }

    /// Adds a place; says whether it was not there.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        let number = self.piece_of(place);
        let Some(piece) = self.pieces.get_mut(number) else {
            self.push_back(place);
            self.len += 1;
            return true;
        };
        let Err(at) = piece.binary_search(&place) else {
            return false;
        };
        piece.insert(at, place);
        if piece.len() > PIECE_MAX {
            let rest = piece.split_off(PIECE_MAX / 2);
            self.pieces.insert(number + 1, rest);
        }
        self.len += 1;
        true
    }

    /// Takes a place out; says whether it was there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let number = self.piece_of(place);
        let Some(piece) = self.pieces.get_mut(number) else {
            return false;
        };
        let Ok(at) = piece.binary_search(&place) else {
            return false;
        };
        piece.remove(at);
        self.len -= 1;
        self.tidy(number);
        true
    }

    /// How many are in front of a place, which need not be there.
    pub(super) fn rank(&self, place: Place) -> usize {
        let number = self.piece_of(place);
        let before: usize = self.pieces.iter().take(number).map(VecDeque::len).sum();
        let inside = self.pieces.get(number);
        before + inside.map_or(0, |piece| piece.partition_point(|other| *other < place))
    }

    /// The places after one, in order.
    pub(super) fn after(&self, place: Place) -> impl Iterator<Item = Place> {
        let number = self.piece_of(place);
        let inside = self.pieces.get(number);
        let skip = inside.map_or(0, |piece| piece.partition_point(|other| *other <= place));
        let pieces = self.pieces.iter().skip(number);
        pieces.flatten().skip(skip).copied()
    }

    /// The first piece that ends at a place or behind it.
    fn piece_of(&self, place: Place) -> usize {
        let before = |piece: &VecDeque<Place>| piece.back().is_some_and(|last| *last < place);
        self.pieces.partition_point(before)
    }

    /// Adds a place behind all others.
    fn push_back(&mut self, place: Place) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < PIECE_MAX => last.push_back(place),
            _ => self.pieces.push_back(VecDeque::from([place])),
        }
    }

    /// Drops a piece that is empty, and joins one that is small with the one behind it.
    fn tidy(&mut self, number: usize) {
        let len = |number: usize| self.pieces.get(number).map_or(PIECE_MAX, VecDeque::len);
        let small = len(number);
        if small > 0 && small + len(number + 1) > PIECE_MAX / 2 {
            return;
        }
        let Some(piece) = self.pieces.remove(number) else {
            return;
        };
        if let Some(next) = self.pieces.get_mut(number) {
            for place in piece.into_iter().rev() {
                next.push_front(place);
            }
        } else if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::{JobQueue, PIECE_MAX, Place};
    use crate::JobId;

    fn place(number: u16) -> Place {
        Place(u64::from(number), JobId(u64::from(number)))
    }

    #[test]
    fn a_long_queue_counts_and_empties_in_order() {
        let mut queue = JobQueue::default();
        for number in (0..10_000).rev() {
            assert!(queue.insert(place(number)));
        }
        assert_eq!(queue.rank(place(7_777)), 7_777);
        assert_eq!(queue.after(place(9_997)).count(), 2);
        assert!(queue.pieces.iter().all(|piece| piece.len() <= PIECE_MAX));
        for number in 0..10_000 {
            assert_eq!(queue.first(), Some(place(number)));
            assert!(queue.remove(place(number)));
        }
        assert!(queue.is_empty() && queue.pieces.is_empty());
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_sorted_set(moves in vec((any::<bool>(), 0..1_500_u16), 0..6_000)) {
            let (mut queue, mut set) = (JobQueue::default(), BTreeSet::new());
            for (add, number) in moves {
                let place = place(number);
                if add {
                    prop_assert_eq!(queue.insert(place), set.insert(place));
                } else {
                    prop_assert_eq!(queue.remove(place), set.remove(&place));
                }
                prop_assert_eq!(queue.len(), set.len());
                prop_assert_eq!(queue.first(), set.first().copied());
            }
            for number in (0..1_500).step_by(97) {
                let place = place(number);
                prop_assert_eq!(queue.rank(place), set.range(..place).count());
                let after: Vec<_> = queue.after(place).collect();
                let wanted: Vec<_> = set.range(place..).copied().filter(|other| *other != place).collect();
                prop_assert_eq!(after, wanted);
            }
        }
    }
}
