// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects named by [`Token`]: index and generation.

use super::table::{Token, GENERATION_MASK};

/// A growing array whose places are reused; a token of an earlier tenant finds nothing.
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Stores an object; its token.
    pub(crate) fn insert(&mut self, object: T) -> Token {
        let token = self.reserve();
        self.fill(token, object);
        token
    }

    /// A token for an object that comes with [`Slab::fill`], or never with [`Slab::cancel`]. Until
    /// then it finds nothing.
    pub(crate) fn reserve(&mut self) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let generation = self.places.get(index as usize).map_or(0, |place| place.0);
        Token { index, generation }
    }

    /// Stores the object of a reserved token.
    pub(crate) fn fill(&mut self, token: Token, object: T) {
        if let Some((generation, place)) = self.places.get_mut(token.index as usize) {
            debug_assert!(*generation == token.generation && place.is_none());
            *place = Some(object);
        }
    }

    /// Gives a reserved token up.
    pub(crate) fn cancel(&mut self, token: Token) {
        self.free.push(token.index);
    }

    /// The object, unless it is gone.
    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        match self.places.get(token.index as usize)? {
            (generation, Some(object)) if *generation == token.generation => Some(object),
            _ => None,
        }
    }

    /// The object, unless it is gone.
    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.places.get_mut(token.index as usize)? {
            (generation, Some(object)) if *generation == token.generation => Some(object),
            _ => None,
        }
    }

    /// Takes the object out; its token finds nothing from now on.
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let (generation, place) = self.places.get_mut(token.index as usize)?;
        *generation = generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(token.index);
        place.take()
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_does_not_find_the_next_tenant() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.reserve();
        assert_eq!((second.index, slab.get(second)), (first.index, None));
        slab.fill(second, 'b');
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
    }
}
