// SPDX-License-Identifier: MIT OR Apache-2.0
//! Payload memory of one application as one core sees it: where a stream position's byte lives, and the
//! receive chunks this core holds. Map entries are the application's to scribble on: each is checked
//! against the pool every time it is read, and a wrong one harms its application only.

use crate::{
    shared::{Shared, RECORD_WORDS},
    word::Word,
};
use abi::pool::{
    CHUNK_BYTES, CHUNK_SHIFT, MAP_ENTRIES, MAP_SEGMENTS_MAX, POOL_SEGMENTS_MAX, SEGMENT_BYTES,
    SEGMENT_CHUNKS, SEGMENT_RECEIVE_CHUNKS, SEGMENT_RECORDS,
};
use ring::SharedBytes;
use std::sync::atomic::AtomicU32;

/// Chunks fetched from the shared list at a time.
const REFILL: usize = 16;
/// Chunks a core keeps before it gives half back: a small pool must serve every core.
const KEEP: usize = 64;

/// One application.
pub(crate) struct Application<'m> {
    id: u16,
    pool: Vec<Option<SharedBytes<'m>>>,
    maps: Vec<Option<&'m [AtomicU32]>>,
    free: Vec<u32>,
    /// When POOL_EMPTY was last reported, µs; zero: never.
    pub(crate) pool_empty_at_us: u64,
}

/// A flow's record in the buffer maps.
pub(crate) type Record<'m> = &'m [AtomicU32; RECORD_WORDS];

/// Index of the map entry for the byte at `position`.
#[inline(always)]
fn entry(position: u64) -> usize {
    (position >> CHUNK_SHIFT) as usize & (MAP_ENTRIES as usize - 1)
}

/// Pieces of `len` bytes at `position` that do not cross a chunk's edge.
#[inline(always)]
fn first_piece(position: u64, len: usize) -> usize {
    len.min((CHUNK_BYTES - (position as u32 & (CHUNK_BYTES - 1))) as usize)
}

impl<'m> Application<'m> {
    /// Without memory yet.
    pub(crate) fn new(id: u16) -> Self {
        Self {
            id,
            pool: Vec::new(),
            maps: Vec::new(),
            free: Vec::with_capacity(KEEP + REFILL),
            pool_empty_at_us: 0,
        }
    }

    /// Free receive chunks that this core holds.
    pub(crate) fn free_chunks(&self) -> usize {
        self.free.len()
    }

    /// Adds a segment of the pool. False if the number or the size is wrong.
    pub(crate) fn add_pool(&mut self, segment: u32, bytes: SharedBytes<'m>) -> bool {
        if segment >= POOL_SEGMENTS_MAX || bytes.len() < SEGMENT_BYTES as usize {
            return false;
        }
        put(&mut self.pool, segment, bytes)
    }

    /// Adds a segment of the maps. False if the number or the size is wrong.
    pub(crate) fn add_maps(&mut self, segment: u32, words: &'m [AtomicU32]) -> bool {
        if segment >= MAP_SEGMENTS_MAX || words.len() < SEGMENT_BYTES as usize / 4 {
            return false;
        }
        put(&mut self.maps, segment, words)
    }

    /// The map record with this number.
    #[inline]
    pub(crate) fn record(&self, number: u32) -> Option<Record<'m>> {
        let segment = (*self.maps.get((number / SEGMENT_RECORDS) as usize)?)?;
        let first = (number % SEGMENT_RECORDS) as usize * RECORD_WORDS;
        segment.get(first..)?.first_chunk::<RECORD_WORDS>()
    }

    /// The chunk with this number and the segment-relative offset of its first byte.
    #[inline]
    fn chunk(&self, number: u32) -> Option<(&SharedBytes<'m>, usize)> {
        let segment = self.pool.get((number / SEGMENT_CHUNKS) as usize)?.as_ref()?;
        Some((segment, ((number % SEGMENT_CHUNKS) << CHUNK_SHIFT) as usize))
    }

    /// Copies bytes to send, from `position` on. False if a map entry is empty or wrong.
    #[inline(always)]
    pub(crate) fn read(&self, record: Record<'m>, mut position: u64, mut into: &mut [u8]) -> bool {
        while !into.is_empty() {
            let word = record[MAP_ENTRIES as usize + entry(position)].get();
            let Some((bytes, base)) = self.chunk(word.wrapping_sub(1)) else {
                return false;
            };
            let (piece, rest) = into.split_at_mut(first_piece(position, into.len()));
            if !bytes.read(base + (position as u32 & (CHUNK_BYTES - 1)) as usize, piece) {
                return false;
            }
            position += piece.len() as u64;
            into = rest;
        }
        true
    }

    /// Copies received bytes to `position`, taking chunks where the map has none. False if the pool
    /// is empty or an entry is wrong; what was copied so far does no harm.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        shared: &Shared,
        record: Record<'m>,
        mut position: u64,
        mut from: &[u8],
    ) -> bool {
        while !from.is_empty() {
            let slot = &record[entry(position)];
            let mut word = slot.get();
            if word == 0 {
                let Some(chunk) = self.allocate(shared) else {
                    return false;
                };
                word = chunk + 1;
                slot.set(word);
            }
            let Some((bytes, base)) = self.chunk(word.wrapping_sub(1)) else {
                return false;
            };
            let (piece, rest) = from.split_at(first_piece(position, from.len()));
            if !bytes.write(base + (position as u32 & (CHUNK_BYTES - 1)) as usize, piece) {
                return false;
            }
            position += piece.len() as u64;
            from = rest;
        }
        true
    }

    #[inline]
    fn allocate(&mut self, shared: &Shared) -> Option<u32> {
        if let Some(chunk) = self.free.pop() {
            return Some(chunk);
        }
        shared.take_chunks(self.id, &mut self.free, REFILL);
        self.free.pop()
    }

    /// Frees the receive chunk behind one map entry and empties the entry.
    #[inline]
    fn free_entry(&mut self, shared: &Shared, slot: &AtomicU32) {
        let word = slot.get();
        if word == 0 {
            return;
        }
        slot.set(0);
        let chunk = word - 1;
        // Only receive chunks of the pool are ours to hand out again.
        if chunk % SEGMENT_CHUNKS >= SEGMENT_RECEIVE_CHUNKS || self.chunk(chunk).is_none() {
            return;
        }
        if self.free.len() >= KEEP {
            shared.give_chunks(self.id, self.free.drain(..KEEP / 2));
        }
        self.free.push(chunk);
    }

    /// The application has read from `from` to `to`: frees the chunks it is done with, and the last,
    /// partly used one too if `idle` (nothing is left in it).
    #[inline]
    pub(crate) fn free_read(&mut self, shared: &Shared, record: Record<'m>, from: u64, to: u64, idle: bool) {
        let mut chunk = from >> CHUNK_SHIFT;
        let end = to >> CHUNK_SHIFT;
        while chunk < end {
            self.free_entry(shared, &record[chunk as usize & (MAP_ENTRIES as usize - 1)]);
            chunk += 1;
        }
        if idle {
            self.free_entry(shared, &record[entry(to)]);
        }
    }

    /// Frees every receive chunk of a flow that is going.
    pub(crate) fn free_all(&mut self, shared: &Shared, record: Record<'m>) {
        for slot in record.iter().take(MAP_ENTRIES as usize) {
            self.free_entry(shared, slot);
        }
    }
}

/// Puts a segment in its place.
fn put<T: Clone>(segments: &mut Vec<Option<T>>, number: u32, segment: T) -> bool {
    let number = number as usize;
    if segments.len() <= number {
        segments.resize(number + 1, None);
    }
    match segments.get_mut(number) {
        Some(slot) => {
            *slot = Some(segment);
            true
        }
        None => false,
    }
}
