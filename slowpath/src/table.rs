// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A bounded table of plain values that never panics.

/// Elements up to this size are emptied before a stray write; larger ones would need the room on
/// the kernel's stack.
const RESET_BYTES: usize = 512;

/// A slice indexed by 32-bit ids. The last element is a spare: an id out of range reads it and
/// writes to it, so that a wrong id harms nothing. Ids from outside are checked with
/// [`Table::has`] all the same.
pub(crate) struct Table<'m, T> {
    items: &'m mut [T],
    spare: &'m mut T,
}

impl<'m, T: Copy + Default> Table<'m, T> {
    /// A table over all elements but the last; `None` if there is no element.
    pub(crate) fn new(items: &'m mut [T]) -> Option<Self> {
        let (spare, items) = items.split_last_mut()?;
        Some(Self { items, spare })
    }
    /// Number of elements; at most `u32::MAX - 1`, so that `NONE` is never an id.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        let len = self.items.len();
        if len >= u32::MAX as usize {
            u32::MAX - 1
        } else {
            len as u32
        }
    }
    /// Whether `id` is in range.
    #[inline]
    pub(crate) fn has(&self, id: u32) -> bool {
        (id as usize) < self.items.len()
    }
    /// The element, or the spare one.
    #[inline]
    pub(crate) fn at(&self, id: u32) -> &T {
        self.items.get(id as usize).unwrap_or(self.spare)
    }
    /// The element, or the spare one after it was emptied.
    #[inline]
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut T {
        match self.items.get_mut(id as usize) {
            Some(item) => item,
            None => {
                if core::mem::size_of::<T>() <= RESET_BYTES {
                    *self.spare = T::default();
                }
                self.spare
            }
        }
    }
    /// Sets every element.
    pub(crate) fn fill(&mut self, value: T) {
        self.items.fill(value);
    }
}
