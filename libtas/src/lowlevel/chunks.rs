// SPDX-License-Identifier: MIT OR Apache-2.0
//! Free transmit chunks: a depot shared by all contexts, and a small cache in each.

use abi::pool::{SEGMENT_CHUNKS, SEGMENT_RECEIVE_CHUNKS};
use std::sync::{
    atomic::{AtomicUsize, Ordering},
    Mutex, MutexGuard, PoisonError,
};

/// Most chunks a cache holds: two batches of 16 replies with room for a large write.
const CACHE_MAX: usize = 64;
/// Chunks exchanged with the depot at a time.
const EXCHANGE: usize = 32;
/// Fewer free chunks than this in the depot: time to grow, while there are some left.
const LOW: usize = 64;

/// What no context holds.
#[derive(Default)]
pub(super) struct Depot {
    free: Mutex<Vec<u32>>,
    /// Length of `free`, to look at without the lock.
    count: AtomicUsize,
}

impl Depot {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the transmit chunks of pool segment `segment`.
    pub(super) fn add_segment(&self, segment: u32) {
        let first = segment * SEGMENT_CHUNKS;
        let mut free = self.lock();
        // Reversed, so that they are handed out in ascending order.
        free.extend((first + SEGMENT_RECEIVE_CHUNKS..first + SEGMENT_CHUNKS).rev());
        self.count.store(free.len(), Ordering::Relaxed);
    }

    /// Free chunks outside the caches.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn is_low(&self) -> bool {
        self.len() < LOW
    }

    fn take(&self, into: &mut Vec<u32>) {
        let mut free = self.lock();
        let from = free.len() - free.len().min(EXCHANGE);
        into.extend(free.drain(from..));
        self.count.store(free.len(), Ordering::Relaxed);
    }

    fn give(&self, chunks: impl Iterator<Item = u32>) {
        let mut free = self.lock();
        free.extend(chunks);
        self.count.store(free.len(), Ordering::Relaxed);
    }
}

/// A context's free chunks.
pub(super) struct Cache(Vec<u32>);

impl Cache {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(CACHE_MAX + EXCHANGE))
    }

    /// A free chunk, from the depot if need be.
    #[inline]
    pub(super) fn take(&mut self, depot: &Depot) -> Option<u32> {
        if let Some(chunk) = self.0.pop() {
            return Some(chunk);
        }
        depot.take(&mut self.0);
        self.0.pop()
    }

    /// Takes back a chunk.
    #[inline]
    pub(super) fn give(&mut self, chunk: u32, depot: &Depot) {
        if self.0.len() >= CACHE_MAX {
            depot.give(self.0.drain(..EXCHANGE));
        }
        self.0.push(chunk);
    }

    /// Gives everything to the depot.
    pub(super) fn flush(&mut self, depot: &Depot) {
        depot.give(self.0.drain(..));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn hands_out_each_transmit_chunk_once() {
        let depot = Depot::default();
        depot.add_segment(0);
        depot.add_segment(3);
        let (mut one, mut two) = (Cache::new(), Cache::new());
        let mut held = HashSet::new();
        while let Some(chunk) = one.take(&depot).or_else(|| two.take(&depot)) {
            assert!(chunk % SEGMENT_CHUNKS >= SEGMENT_RECEIVE_CHUNKS);
            assert!(held.insert(chunk));
        }
        assert_eq!(held.len(), 2 * (SEGMENT_CHUNKS - SEGMENT_RECEIVE_CHUNKS) as usize);
        for chunk in held {
            two.give(chunk, &depot);
        }
        two.flush(&depot);
        assert_eq!((one.len() + two.len(), depot.len()), (0, 512));
    }
}
