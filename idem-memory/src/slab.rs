//! [`Slab`]: entries in numbered places that never move.
//!
//! Places are allocated in chunks of one size. So the slab grows without copying what it holds, and never has more than
//! one chunk's worth of memory in reserve. A place that becomes free is the next to be taken.
//!
//! INV-1: `first_free` and every `next` name a place that exists and is free.

use std::mem;

/// How many places a chunk has.
const CHUNK: usize = 64;

/// Values in numbered places.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// Each is allocated for `CHUNK` places when it begins. All but the last are full.
    chunks: Vec<Vec<Place<T>>>,
    /// How many places there are, occupied or free.
    places: u32,
    occupied: u32,
    first_free: Option<u32>,
}

#[derive(Debug)]
enum Place<T> {
    Occupied(T),
    Free { next: Option<u32> },
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), places: 0, occupied: 0, first_free: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// How many places there are; they have the numbers below this.
    pub(crate) fn places(&self) -> u32 {
        self.places
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        let (chunk, offset) = position(place);
        match self.chunks.get(chunk)?.get(offset)? {
            Place::Occupied(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let (chunk, offset) = position(place);
        match self.chunks.get_mut(chunk)?.get_mut(offset)? {
            Place::Occupied(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// Puts the value into a free place and says which.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.occupied += 1;
        let Some(place) = self.first_free else {
            return self.append(value);
        };
        // INV-1: the place exists.
        let (chunk, offset) = position(place);
        let free = mem::replace(&mut self.chunks[chunk][offset], Place::Occupied(value));
        self.first_free = match free {
            Place::Free { next } => next,
            Place::Occupied(_) => None,
        };
        place
    }

    /// Takes the value out of its place, which is free from then on.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let next = self.first_free;
        let (chunk, offset) = position(place);
        let removed = self.chunks.get_mut(chunk)?.get_mut(offset)?;
        match mem::replace(removed, Place::Free { next }) {
            Place::Occupied(value) => {
                self.first_free = Some(place);
                self.occupied -= 1;
                Some(value)
            }
            was_free @ Place::Free { .. } => {
                *removed = was_free;
                None
            }
        }
    }

    fn append(&mut self, value: T) -> u32 {
        let place = self.places;
        self.places += 1;
        let (chunk, _) = position(place);
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[chunk].push(Place::Occupied(value));
        place
    }
}

/// The chunk that holds a place, and where in it.
const fn position(place: u32) -> (usize, usize) {
    (place as usize / CHUNK, place as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fill_each_chunk_in_turn() {
        assert_eq!([0, 63, 64, 129].map(position), [(0, 0), (0, 63), (1, 0), (2, 1)]);
        let mut slab = Slab::new();
        for value in 0..1000 {
            assert_eq!(slab.insert(value), value);
        }
        assert!((0..1000).all(|place| slab.get(place) == Some(&place)));
        assert_eq!((slab.places(), slab.get(1000)), (1000, None));
        assert!(slab.chunks.iter().all(|chunk| chunk.capacity() == CHUNK));
    }

    #[test]
    fn free_places_are_taken_again_before_new_ones() {
        let mut slab = Slab::new();
        for value in 0..20 {
            slab.insert(value);
        }
        assert_eq!(
            (slab.remove(3), slab.remove(17), slab.remove(3), slab.remove(99)),
            (Some(3), Some(17), None, None)
        );
        assert_eq!((slab.get(3), slab.get(17)), (None, None));
        assert_eq!(slab.get_mut(17), None);
        assert_eq!([slab.insert(100), slab.insert(101), slab.insert(102)], [17, 3, 20]);
        assert_eq!(slab.get(17), Some(&100));
    }

    #[test]
    fn it_is_empty_once_all_is_removed() {
        let mut slab = Slab::new();
        let place = slab.insert("a");
        assert!(!slab.is_empty());
        slab.remove(place);
        assert!(slab.is_empty());
    }

    #[test]
    fn a_place_is_no_larger_than_what_it_holds() {
        use crate::entry::Entry;
        assert_eq!(size_of::<Place<Entry>>(), size_of::<Entry>());
    }
}
