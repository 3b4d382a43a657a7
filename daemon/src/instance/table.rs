// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bounded table of objects by small identifiers.

/// Objects with identifiers `first..limit`. An identifier that was freed is reused as late as
/// possible, so that a stale one is noticed rather than met by a newcomer.
pub(super) struct Table<T> {
    slots: Vec<Option<T>>,
    first: usize,
    next: usize,
    used: usize,
}

impl<T> Table<T> {
    pub(super) fn new(first: u32, limit: u32) -> Self {
        let slots = (0..limit).map(|_| None).collect();
        Self { slots, first: first as usize, next: first as usize, used: 0 }
    }

    /// Stores `object`; its identifier, or the object back if the table is full.
    pub(super) fn insert(&mut self, object: T) -> Result<u32, T> {
        let free = (self.next..self.slots.len())
            .chain(self.first..self.next)
            .find(|&index| self.slots.get(index).is_some_and(Option::is_none));
        let Some(index) = free else {
            return Err(object);
        };
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(object);
        }
        self.used += 1;
        self.next = if index + 1 < self.slots.len() { index + 1 } else { self.first };
        Ok(index as u32)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let object = self.slots.get_mut(id as usize)?.take();
        if object.is_some() {
            self.used -= 1;
        }
        object
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(id, slot)| Some((id as u32, slot.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn identifiers_are_bounded_and_reused_late() {
        let mut table = Table::new(1, 4);
        assert_eq!((table.insert('a'), table.insert('b')), (Ok(1), Ok(2)));
        assert_eq!(table.remove(1), Some('a'));
        assert_eq!(table.insert('c'), Ok(3));
        assert_eq!(table.insert('d'), Ok(1));
        assert_eq!(table.insert('e'), Err('e'));
        assert_eq!(table.len(), 3);
        assert_eq!(table.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(table.get(0).is_none() && table.get(99).is_none() && table.remove(99).is_none());
    }
}
