// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the cores of one process share besides the mapped tables: free lists, and hints
//! to which core a flow belongs. No lock is taken in the common case: each core has private
//! free lists and comes here to exchange them by the dozen.

use crate::memory::Tables;
use abi::{
    flow::{owner_application, slot_state, ColdFlow, HotFlow},
    pool::{CHUNK_SHIFT, MAP_ENTRIES, SEGMENT_CHUNKS, SEGMENT_RECEIVE_CHUNKS, SEGMENT_RECORDS},
};
use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicU32, AtomicU8, Ordering::Relaxed},
        Mutex, MutexGuard, PoisonError,
    },
};

/// Words of a buffer map record: receive entries, then transmit entries.
pub(crate) const RECORD_WORDS: usize = 2 * MAP_ENTRIES as usize;

/// What an application brought, as the slow path's first notices tell it. See [`Shared::adopt`].
#[derive(Clone)]
pub struct Adopted<'m> {
    /// Application id.
    pub application: u16,
    /// Segments of its pool, numbered from zero.
    pub pool_segments: u32,
    /// Segments of its buffer maps in order.
    pub maps: Vec<&'m [AtomicU32]>,
}

/// Receive chunks of one application that no core holds.
#[derive(Default)]
struct Depot {
    free: Vec<u32>,
    /// Receive chunks the application has: a free list that outgrows it was fed duplicates.
    chunks: usize,
}

/// State shared by the cores of one process.
pub struct Shared {
    depots: Mutex<HashMap<u16, Depot>>,
    recovery: Mutex<Vec<u32>>,
    /// Core + 1 of the flow that hashes here, or zero.
    hints: Box<[AtomicU8]>,
}

/// A core that panicked cannot leave these lists in a half-written state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For these tables. Gives up every recovery block of an earlier process: out-of-order data is
    /// thrown away (the peer sends it again). Make one per process, before any core.
    pub fn new(tables: &Tables<'_>) -> Self {
        for block in tables.recovery {
            block.count.store(0, Relaxed);
            block.flow.store(0, Relaxed);
        }
        let slots = tables.hot.len().next_power_of_two().saturating_mul(4);
        Self {
            depots: Mutex::default(),
            recovery: Mutex::new((0..tables.recovery.len() as u32).rev().collect()),
            hints: (0..slots).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// At attach, before any core polls: fills the applications' free lists with the receive chunks that
    /// no installed flow holds unread data in.
    pub fn adopt(&self, tables: &Tables<'_>, applications: &[Adopted<'_>]) {
        let mut used: HashMap<u16, (Vec<bool>, &Adopted<'_>)> = applications
            .iter()
            .map(|a| (a.application, (vec![false; (a.pool_segments * SEGMENT_CHUNKS) as usize], a)))
            .collect();
        for (cold, hot) in tables.cold.iter().zip(tables.hot) {
            let state = cold.state.load(Relaxed);
            let Some((chunks, adopted)) = used.get_mut(&owner_application(cold.owner.load(Relaxed))) else {
                continue;
            };
            match state {
                slot_state::FREE => {}
                slot_state::INSTALLED => mark_used(cold, hot, &adopted.maps, chunks),
                // Its REMOVE was not carried out: nothing is read any more, and the next flow with its map must
                // not find chunks there that others have by then.
                _ => receive_words(cold, &adopted.maps).iter().for_each(|word| word.store(0, Relaxed)),
            }
        }
        for (application, (chunks, adopted)) in used {
            let free = (0..adopted.pool_segments).rev().flat_map(segment_chunks);
            let free = free.filter(|chunk| chunks.get(*chunk as usize) == Some(&false)).collect();
            let depot = Depot { free, chunks: (adopted.pool_segments * SEGMENT_RECEIVE_CHUNKS) as usize };
            lock(&self.depots).insert(application, depot);
        }
    }

    /// A new segment of an application's pool, known to every core: its receive chunks become free.
    pub fn add_pool_segment(&self, application: u16, segment: u32) {
        let mut depots = lock(&self.depots);
        let depot = depots.entry(application).or_default();
        depot.chunks += SEGMENT_RECEIVE_CHUNKS as usize;
        depot.free.extend(segment_chunks(segment));
    }

    /// Forgets an application, after every core has.
    pub fn remove_application(&self, application: u16) {
        lock(&self.depots).remove(&application);
    }

    /// Free receive chunks of an application that no core holds privately.
    pub fn free_chunks(&self, application: u16) -> usize {
        lock(&self.depots).get(&application).map_or(0, |depot| depot.free.len())
    }

    /// Receive chunks that an application has, free or not.
    pub(crate) fn chunks(&self, application: u16) -> usize {
        lock(&self.depots).get(&application).map_or(0, |depot| depot.chunks)
    }

    /// Recovery blocks that no flow has.
    pub(crate) fn free_recovery(&self) -> usize {
        lock(&self.recovery).len()
    }

    /// Moves up to `count` free chunks of `application` to `into`.
    pub(crate) fn take_chunks(&self, application: u16, into: &mut Vec<u32>, count: usize) {
        if let Some(depot) = lock(&self.depots).get_mut(&application) {
            let from = depot.free.len().saturating_sub(count);
            into.extend(depot.free.drain(from..));
        }
    }

    /// Gives `chunks` back. More than the application has (it forged map entries) are forgotten.
    pub(crate) fn give_chunks(&self, application: u16, chunks: impl Iterator<Item = u32>) {
        if let Some(depot) = lock(&self.depots).get_mut(&application) {
            let room = depot.chunks.saturating_sub(depot.free.len());
            depot.free.extend(chunks.take(room));
        }
    }

    /// A free recovery block.
    pub(crate) fn take_recovery(&self) -> Option<u32> {
        lock(&self.recovery).pop()
    }

    /// Gives a recovery block back.
    pub(crate) fn give_recovery(&self, block: u32) {
        lock(&self.recovery).push(block);
    }

    /// The core that probably owns the flow with this hash.
    #[inline]
    pub(crate) fn hint(&self, hash: u64) -> Option<usize> {
        let hint = self.hints.get(hash as usize & (self.hints.len() - 1))?.load(Relaxed);
        (hint as usize).checked_sub(1)
    }

    /// Remembers the owner of the flow with this hash. A later flow with the same slot overwrites
    /// it; its frames then take the way over the slow path.
    pub(crate) fn set_hint(&self, hash: u64, core: u32) {
        if let Some(hint) = self.hints.get(hash as usize & (self.hints.len() - 1)) {
            hint.store(core as u8 + 1, Relaxed);
        }
    }
}

/// The receive chunks of a segment: its first half.
fn segment_chunks(segment: u32) -> impl DoubleEndedIterator<Item = u32> {
    let first = segment * SEGMENT_CHUNKS;
    (first..first + SEGMENT_RECEIVE_CHUNKS).rev()
}

/// The receive entries of a flow's buffer map; none if the map is not there.
fn receive_words<'m>(cold: &ColdFlow, maps: &[&'m [AtomicU32]]) -> &'m [AtomicU32] {
    let record = cold.buffers.load(Relaxed);
    let first = (record % SEGMENT_RECORDS) as usize * RECORD_WORDS;
    let segment = maps.get((record / SEGMENT_RECORDS) as usize).copied().unwrap_or(&[]);
    segment.get(first..first + MAP_ENTRIES as usize).unwrap_or(&[])
}

/// Marks the chunks that hold received data the application has not read yet, and empties every other
/// receive entry of the flow's map: what came out of order is thrown away, and its chunks are free for others.
fn mark_used(cold: &ColdFlow, hot: &HotFlow, maps: &[&[AtomicU32]], chunks: &mut [bool]) {
    let words = receive_words(cold, maps);
    if words.is_empty() {
        return;
    }
    let (read, next) = (hot.rcv_read.load(Relaxed), hot.rcv_nxt.load(Relaxed));
    let unread = next.wrapping_sub(read);
    if unread > u64::from(MAP_ENTRIES) << CHUNK_SHIFT {
        return;
    }
    // The chunks of `read..next`; none if that is empty.
    let end = next.wrapping_add((1 << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT;
    let used = if unread == 0 { 0 } else { end.wrapping_sub(read >> CHUNK_SHIFT) as usize };
    for step in 0..words.len() {
        let position = (read >> CHUNK_SHIFT).wrapping_add(step as u64);
        let word = &words[position as usize & (MAP_ENTRIES as usize - 1)];
        if step >= used {
            word.store(0, Relaxed);
            continue;
        }
        let chunk = (word.load(Relaxed) as usize).checked_sub(1);
        if let Some(used) = chunk.and_then(|chunk| chunks.get_mut(chunk)) {
            *used = true;
        }
    }
}
