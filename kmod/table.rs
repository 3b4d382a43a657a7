// SPDX-License-Identifier: GPL-2.0-only
//! A bounded table of objects by small identifiers.

use kernel::{error::code::*, prelude::*};

/// Objects with identifiers `first..limit`. An identifier that was freed is reused as late as
/// possible, so that a stale one is noticed rather than met by a newcomer.
pub(crate) struct Table<T> {
    slots: KVVec<Option<T>>,
    first: usize,
    next: usize,
}

impl<T> Table<T> {
    pub(crate) fn new(first: u32, limit: u32) -> Result<Self> {
        let mut slots = KVVec::with_capacity(limit as usize, GFP_KERNEL)?;
        for _ in 0..limit {
            slots.push(None, GFP_KERNEL)?;
        }
        let first = first as usize;
        Ok(Self { slots, first, next: first })
    }

    /// The identifier that [`Self::insert`] would give, if there is one.
    pub(crate) fn vacant(&self) -> Option<u32> {
        let from = |start: usize| (start..self.slots.len()).find(|&index| self.slots[index].is_none());
        from(self.next).or_else(|| from(self.first)).map(|index| index as u32)
    }

    /// Stores `object`. EMFILE if the table is full; the object is dropped then.
    pub(crate) fn insert(&mut self, object: T) -> Result<u32> {
        let id = self.vacant().ok_or(EMFILE)?;
        self.set(id, object)?;
        Ok(id)
    }

    /// Stores `object` under an identifier that the caller manages; what was there comes back.
    pub(crate) fn set(&mut self, id: u32, object: T) -> Result<Option<T>> {
        let old = self.slots.get_mut(id as usize).ok_or(EMFILE)?.replace(object);
        self.next = id as usize + 1;
        Ok(old)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        self.slots.get_mut(id as usize)?.take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(id, slot)| Some((id as u32, slot.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(id, slot)| Some((id as u32, slot.as_mut()?)))
    }

    /// Identifiers the table can have.
    pub(crate) fn limit(&self) -> u32 {
        self.slots.len() as u32
    }
}
