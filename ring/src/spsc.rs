// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The ring.

use crate::sync::{AtomicU64, Ordering};

/// Words in front of the entries: one cache line written by the producer, one by the consumer.
pub const HEADER_WORDS: usize = 16;
/// Header word with the producer's position.
const PRODUCER_WORD: usize = 0;
/// Header word with the consumer's position.
const CONSUMER_WORD: usize = 8;
/// The phase bit of an entry's first word.
const PHASE: u64 = 1 << 63;

/// What both ends keep in private memory.
struct End<'m, const W: usize> {
    header: &'m [AtomicU64],
    entries: &'m [AtomicU64],
    mask: u64,
    /// Brings the lap's lowest bit to where the phase bit is.
    lap_shift: u32,
    position: u64,
}

impl<'m, const W: usize> End<'m, W> {
    fn attach(words: &'m [AtomicU64], entries: u32, header_word: usize) -> Option<Self> {
        if !entries.is_power_of_two() || W == 0 {
            return None;
        }
        let needed = (entries as usize).checked_mul(W)?;
        if words.len() < HEADER_WORDS {
            return None;
        }
        let (header, rest) = words.split_at(HEADER_WORDS);
        let entries_words = rest.get(..needed)?;
        let position = header.get(header_word)?.load(Ordering::Acquire);
        Some(Self {
            header,
            entries: entries_words,
            mask: u64::from(entries).wrapping_sub(1),
            lap_shift: 63u32.wrapping_sub(entries.trailing_zeros()),
            position,
        })
    }

    /// Phase bit of an entry written at `position`: set on the first lap, as fresh memory is zero.
    #[inline]
    fn phase(&self, position: u64) -> u64 {
        !position.wrapping_shl(self.lap_shift) & PHASE
    }

    #[inline]
    fn slot(&self, position: u64) -> &'m [AtomicU64; W] {
        let first = ((position & self.mask) as usize).wrapping_mul(W);
        // SAFETY: `first + W <= entries.len()`, as `entries.len() == (mask + 1) * W` (attach); an array of
        // W words has the layout of W words in a row.
        unsafe { &*self.entries.as_ptr().add(first).cast::<[AtomicU64; W]>() }
    }

    /// True if the slot holds an entry written at `position` (as opposed to a lap before).
    #[inline]
    fn holds(&self, position: u64) -> bool {
        match self.slot(position).first() {
            Some(word) => word.load(Ordering::Acquire) & PHASE == self.phase(position),
            None => false,
        }
    }

    #[inline]
    fn header_load(&self, word: usize) -> u64 {
        self.header.get(word).map_or(0, |w| w.load(Ordering::Acquire))
    }

    #[inline]
    fn header_store(&self, word: usize, value: u64) {
        if let Some(w) = self.header.get(word) {
            w.store(value, Ordering::Release);
        }
    }
}

/// The writing end.
pub struct Producer<'m, const W: usize> {
    end: End<'m, W>,
    /// The consumer's position as last read; entries up to `consumed + capacity` may be written.
    consumed: u64,
}

impl<'m, const W: usize> Producer<'m, W> {
    /// Takes the producing end of the ring in `words` (header, then `entries * W` words, zeroed when
    /// new). Resumes where an earlier producer stopped. `None` if `entries` is not a power of two
    /// or `words` is too short.
    pub fn attach(words: &'m [AtomicU64], entries: u32) -> Option<Self> {
        let mut end = End::attach(words, entries, PRODUCER_WORD)?;
        // An earlier producer may have died between writing entries and publishing its position.
        let mut scanned = 0u32;
        while scanned < entries && end.holds(end.position) {
            end.position = end.position.wrapping_add(1);
            scanned = scanned.wrapping_add(1);
        }
        let consumed = end.header_load(CONSUMER_WORD);
        Some(Self { end, consumed })
    }

    /// Writes an entry. False if the ring is full. Bit 63 of the first word is the ring's.
    #[inline]
    pub fn push(&mut self, entry: [u64; W]) -> bool {
        if self.free() == 0 {
            return false;
        }
        let slot = self.end.slot(self.end.position);
        let mut words = slot.iter().zip(entry.iter());
        let head = words.next();
        for (word, value) in words {
            word.store(*value, Ordering::Relaxed);
        }
        if let Some((word, value)) = head {
            let phase = self.end.phase(self.end.position);
            word.store((value & !PHASE) | phase, Ordering::Release);
        }
        self.end.position = self.end.position.wrapping_add(1);
        if self.end.position & self.end.mask == 0 {
            // `attach` finds unpublished entries by their phase, which tells laps apart only
            // while the published position is in the current one.
            self.publish();
        }
        true
    }

    /// Entries that can be written now. Reads the consumer's position only when the cached one
    /// says "full"; a nonsensical one counts as full.
    #[inline]
    pub fn free(&mut self) -> u64 {
        let free = self.cached_free();
        if free != 0 {
            return free;
        }
        self.consumed = self.end.header_load(CONSUMER_WORD);
        self.cached_free()
    }

    #[inline]
    fn cached_free(&self) -> u64 {
        let capacity = self.end.mask.wrapping_add(1);
        let used = self.end.position.wrapping_sub(self.consumed);
        if used <= capacity {
            capacity.wrapping_sub(used)
        } else {
            0
        }
    }

    /// Publishes the position, for recovery and observers. Once per batch.
    #[inline]
    pub fn publish(&mut self) {
        self.end.header_store(PRODUCER_WORD, self.end.position);
    }

    /// Position of the next entry; its slot is `position & (entries - 1)`.
    #[inline]
    pub fn position(&self) -> u64 {
        self.end.position
    }
}

/// The reading end.
pub struct Consumer<'m, const W: usize> {
    end: End<'m, W>,
}

impl<'m, const W: usize> Consumer<'m, W> {
    /// Takes the consuming end; see [`Producer::attach`]. Entries popped but not committed by an
    /// earlier consumer are seen again.
    pub fn attach(words: &'m [AtomicU64], entries: u32) -> Option<Self> {
        Some(Self { end: End::attach(words, entries, CONSUMER_WORD)? })
    }

    /// The next entry with bit 63 of its first word cleared, or `None` if there is none yet.
    #[inline]
    pub fn pop(&mut self) -> Option<[u64; W]> {
        let slot = self.end.slot(self.end.position);
        let head = slot.first()?.load(Ordering::Acquire);
        if head & PHASE != self.end.phase(self.end.position) {
            return None;
        }
        let mut entry = [0u64; W];
        // Not `skip(1)`, which keeps the compiler from unrolling the loop.
        let mut words = entry.iter_mut().zip(slot.iter());
        let first = words.next();
        for (value, word) in words {
            *value = word.load(Ordering::Relaxed);
        }
        if let Some((value, _)) = first {
            *value = head & !PHASE;
        }
        self.end.position = self.end.position.wrapping_add(1);
        Some(entry)
    }

    /// True if [`Self::pop`] would return an entry.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.end.holds(self.end.position)
    }

    /// Gives the popped entries' slots back to the producer. Once per batch.
    #[inline]
    pub fn commit(&mut self) {
        self.end.header_store(CONSUMER_WORD, self.end.position);
    }

    /// Position of the entry that the next pop returns.
    #[inline]
    pub fn position(&self) -> u64 {
        self.end.position
    }
}
