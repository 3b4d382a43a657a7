// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which descriptor numbers are ours: read without a lock by every interposed call.
//!
//! An entry is one word that names an object of the engine ([`Entry`]). It is a name, not a
//! pointer: whoever acts on it looks the object up under the engine's lock and compares the
//! generation, so that a descriptor closed by another thread in between is EBADF and never a
//! stranger's socket. The table grows by pages as numbers come up, whatever RLIMIT_NOFILE says.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

/// Descriptors of a page.
const PAGE_ENTRIES: usize = 1024;
/// Pages: together Linux's default for fs.nr_open, 1,048,576 descriptors. Numbers above it are
/// never ours.
const PAGES: usize = 1024;

type Page = [AtomicU64; PAGE_ENTRIES];

/// What a descriptor number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A stream socket.
    Stream(Token),
    /// An epoll instance.
    Epoll(Token),
    /// A socket of the parent process, inherited through fork.
    Foreign,
}

/// Name of an object of the engine: index and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// Index in its slab.
    pub index: u32,
    /// Distinguishes successive objects in one place; at most [`GENERATION_MASK`].
    pub generation: u32,
}

/// Generations take 29 bits: the rest of the word is the index and the kind.
pub const GENERATION_MASK: u32 = (1 << 29) - 1;

impl Token {
    /// As one word, for the `opaque` values of the low-level API.
    pub const fn word(self) -> u64 {
        self.index as u64 | (self.generation as u64) << 32
    }
    /// From [`Token::word`].
    pub const fn from_word(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 & GENERATION_MASK }
    }
}

const KIND_SHIFT: u32 = 61;
const STREAM: u64 = 1;
const EPOLL: u64 = 2;
const FOREIGN: u64 = 3;

impl Entry {
    const fn encode(self) -> u64 {
        match self {
            Self::Stream(token) => token.word() | STREAM << KIND_SHIFT,
            Self::Epoll(token) => token.word() | EPOLL << KIND_SHIFT,
            Self::Foreign => FOREIGN << KIND_SHIFT,
        }
    }
    const fn decode(word: u64) -> Option<Self> {
        match word >> KIND_SHIFT {
            STREAM => Some(Self::Stream(Token::from_word(word))),
            EPOLL => Some(Self::Epoll(Token::from_word(word))),
            FOREIGN => Some(Self::Foreign),
            _ => None,
        }
    }
}

/// The table of the process; a second one exists in tests only.
pub struct Table {
    pages: [AtomicPtr<Page>; PAGES],
}

impl Table {
    /// An empty table.
    pub const fn new() -> Self {
        Self { pages: [const { AtomicPtr::new(ptr::null_mut()) }; PAGES] }
    }

    /// What `fd` is, if it is ours.
    #[inline]
    pub fn get(&self, fd: i32) -> Option<Entry> {
        Entry::decode(self.slot(fd)?.load(Ordering::Acquire))
    }

    /// Replaces the entry of `fd` and returns the former one. False in the second place when the
    /// number is beyond the table.
    pub fn set(&self, fd: i32, entry: Option<Entry>) -> (Option<Entry>, bool) {
        let word = entry.map_or(0, Entry::encode);
        let slot = if entry.is_some() { self.slot_or_grow(fd) } else { self.slot(fd) };
        match slot {
            Some(slot) => (Entry::decode(slot.swap(word, Ordering::AcqRel)), true),
            None => (None, entry.is_none()),
        }
    }

    /// Calls `action` for every descriptor of ours in `first..=last`.
    pub fn for_each(&self, first: i32, last: i32, mut action: impl FnMut(i32, Entry)) {
        let last = (last.max(0) as usize).min(PAGES * PAGE_ENTRIES - 1);
        let mut number = first.max(0) as usize;
        while number <= last {
            let Some(page) = self.page(number / PAGE_ENTRIES) else {
                number = (number / PAGE_ENTRIES + 1) * PAGE_ENTRIES;
                continue;
            };
            if let Some(entry) = Entry::decode(page[number % PAGE_ENTRIES].load(Ordering::Acquire)) {
                action(number as i32, entry);
            }
            number += 1;
        }
    }

    fn page(&self, number: usize) -> Option<&Page> {
        let page = self.pages.get(number)?.load(Ordering::Acquire);
        // SAFETY: a page, once published, is never freed.
        unsafe { page.as_ref() }
    }

    #[inline]
    fn slot(&self, fd: i32) -> Option<&AtomicU64> {
        let number = usize::try_from(fd).ok()?;
        self.page(number / PAGE_ENTRIES)?.get(number % PAGE_ENTRIES)
    }

    fn slot_or_grow(&self, fd: i32) -> Option<&AtomicU64> {
        let number = usize::try_from(fd).ok()?;
        let place = self.pages.get(number / PAGE_ENTRIES)?;
        if place.load(Ordering::Acquire).is_null() {
            let fresh = Box::into_raw(Box::new([const { AtomicU64::new(0) }; PAGE_ENTRIES]));
            if place.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread was first; ours was never published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        self.slot(fd)
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// The process's table.
pub static TABLE: Table = Table::new();

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn entries_round_trip() {
        let token = Token { index: u32::MAX, generation: GENERATION_MASK };
        for entry in [Entry::Stream(token), Entry::Epoll(token), Entry::Foreign] {
            assert_eq!(Entry::decode(entry.encode()), Some(entry));
        }
        assert_eq!(Entry::decode(0), None);
        assert_eq!(Token::from_word(token.word()), token);
    }

    #[test]
    fn numbers_outside_the_table_are_not_ours() {
        let table = Table::new();
        let entry = Entry::Stream(Token { index: 1, generation: 1 });
        for fd in [-1, i32::MIN, i32::MAX, (PAGES * PAGE_ENTRIES) as i32] {
            assert_eq!(table.get(fd), None);
            assert_eq!(table.set(fd, Some(entry)), (None, false));
        }
        assert_eq!(table.set(5, Some(entry)), (None, true));
        assert_eq!(table.get(5), Some(entry));
        assert_eq!(table.set(5, None), (Some(entry), true));
        assert_eq!(table.get(5), None);
    }

    #[test]
    fn ranges_skip_absent_pages() {
        let table = Table::new();
        let entry = |index| Entry::Stream(Token { index, generation: 0 });
        for fd in [3, 1023, 1024, 70_000] {
            table.set(fd, Some(entry(fd as u32)));
        }
        let mut seen = Vec::new();
        table.for_each(4, i32::MAX, |fd, found| {
            assert_eq!(found, entry(fd as u32));
            seen.push(fd);
        });
        assert_eq!(seen, [1023, 1024, 70_000]);
    }

    #[test]
    fn threads_grow_one_page_together() {
        let table = Arc::new(Table::new());
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let table = table.clone();
                std::thread::spawn(move || table.set(index, Some(Entry::Foreign)))
            })
            .collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), (None, true)));
        assert!((0..8).all(|fd| table.get(fd) == Some(Entry::Foreign)));
    }
}
