// SPDX-License-Identifier: MIT OR Apache-2.0
//! First-in first-out queues of flow ids. A flow is in a queue at most once (its private bits say
//! so), so that a queue as long as the flow table never overflows.

/// Bounded queue.
pub(crate) struct Queue<T> {
    slots: Box<[T]>,
    mask: usize,
    head: usize,
    tail: usize,
}

impl<T: Copy + Default> Queue<T> {
    /// Room for `flows` entries.
    pub(crate) fn new(flows: usize) -> Self {
        let slots = flows.max(2).next_power_of_two();
        Self { slots: vec![T::default(); slots].into_boxed_slice(), mask: slots - 1, head: 0, tail: 0 }
    }

    /// Entries in the queue.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    /// True if there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    /// Adds an entry. The caller keeps to the bound.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        debug_assert!(self.len() <= self.mask);
        if let Some(slot) = self.slots.get_mut(self.tail & self.mask) {
            *slot = value;
            self.tail = self.tail.wrapping_add(1);
        }
    }

    /// The oldest entry.
    #[inline]
    pub(crate) fn first(&self) -> Option<T> {
        self.nth(0)
    }

    /// The `n`th oldest entry.
    #[inline]
    pub(crate) fn nth(&self, n: usize) -> Option<T> {
        if n >= self.len() {
            return None;
        }
        self.slots.get(self.head.wrapping_add(n) & self.mask).copied()
    }

    /// Takes the oldest entry.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let value = self.first()?;
        self.head = self.head.wrapping_add(1);
        Some(value)
    }
}
