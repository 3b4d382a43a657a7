// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A bounded table of plain values that never panics.

/// A slice indexed by 32-bit ids. An id out of range reads as the empty value and writes to a spare
/// element, so that a wrong id harms nothing; ids from outside are still checked with [`Table::has`].
pub(crate) struct Table<'m, T> {
    items: &'m mut [T],
    spare: T,
}

impl<'m, T: Copy + Default> Table<'m, T> {
    pub(crate) fn new(items: &'m mut [T]) -> Self {
        Self { items, spare: T::default() }
    }
    /// Number of elements; at most `u32::MAX - 1`, so that `NONE` is never an id.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        let len = self.items.len();
        if len >= u32::MAX as usize { u32::MAX - 1 } else { len as u32 }
    }
    /// Whether `id` is in range.
    #[inline]
    pub(crate) fn has(&self, id: u32) -> bool {
        (id as usize) < self.items.len()
    }
    /// The element, or the spare one.
    #[inline]
    pub(crate) fn at(&self, id: u32) -> &T {
        self.items.get(id as usize).unwrap_or(&self.spare)
    }
    /// The element, or the spare one after it was emptied.
    #[inline]
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut T {
        match self.items.get_mut(id as usize) {
            Some(item) => item,
            None => {
                self.spare = T::default();
                &mut self.spare
            }
        }
    }
    /// Empties every element.
    pub(crate) fn clear(&mut self) {
        for item in self.items.iter_mut() {
            *item = T::default();
        }
    }
}
