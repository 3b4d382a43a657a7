// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data received out of order: a few intervals per flow, kept in a recovery block. The bytes are in their
//! chunks already; only `rcv_nxt` has to catch up.

use crate::{
    core::Core,
    flow::Flow,
    port::{Port, Steer},
    receive::Arrival,
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{hot_flags, NONE},
    recovery::{RecoveryBlock, INTERVALS},
};

/// Ascending, disjoint intervals that do not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Intervals {
    list: [(u64, u64); INTERVALS],
    /// Which change, counted in `changes`, was the last of each.
    ages: [u32; INTERVALS],
    count: usize,
    changes: u64,
}

impl Intervals {
    pub(crate) fn load(block: &RecoveryBlock) -> Self {
        let count = (block.count.get() as usize).min(INTERVALS);
        let mut intervals = Self { count, changes: block.latest.get(), ..Self::default() };
        for (to, from) in intervals.list.iter_mut().zip(&block.intervals).take(count) {
            *to = (from.start.get(), from.end.get());
        }
        for (to, from) in intervals.ages.iter_mut().zip(&block.ages).take(count) {
            *to = from.get();
        }
        intervals
    }

    pub(crate) fn store(&self, block: &RecoveryBlock) {
        for (from, to) in self.as_slice().iter().zip(&block.intervals) {
            to.start.set(from.0);
            to.end.set(from.1);
        }
        for (from, to) in self.ages.iter().zip(&block.ages).take(self.count) {
            to.set(*from);
        }
        block.latest.set(self.changes);
        block.count.set(self.count as u32);
    }

    /// The intervals in use.
    pub(crate) fn as_slice(&self) -> &[(u64, u64)] {
        self.list.get(..self.count).unwrap_or(&[])
    }

    /// Adds `start..end`, joined with what it overlaps or touches. False, and nothing changed, if there is
    /// no room for another interval.
    pub(crate) fn insert(&mut self, start: u64, end: u64) -> bool {
        let (mut start, mut end) = (start, end);
        let changes = self.changes.wrapping_add(1);
        let mut joined = Self { changes, ..Self::default() };
        let mut rest = Self::default();
        for (from, to, age) in self.entries() {
            if to < start {
                joined.push(from, to, age);
            } else if from > end {
                rest.push(from, to, age);
            } else {
                start = start.min(from);
                end = end.max(to);
            }
        }
        if joined.count + 1 + rest.count > INTERVALS {
            return false;
        }
        joined.push(start, end, changes as u32);
        for (from, to, age) in rest.entries() {
            joined.push(from, to, age);
        }
        *self = joined;
        true
    }

    /// The intervals with their ages.
    fn entries(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        self.as_slice().iter().zip(&self.ages).map(|((from, to), age)| (*from, *to, *age))
    }

    /// Adds one behind the others, if there is room.
    fn push(&mut self, from: u64, to: u64, age: u32) {
        if let (Some(place), Some(when)) = (self.list.get_mut(self.count), self.ages.get_mut(self.count)) {
            (*place, *when) = ((from, to), age);
            self.count += 1;
        }
    }

    /// Writes them as SACK blocks, the one that changed last first (RFC 2018 §4), as many as `out` has room for.
    /// Returns how many.
    fn write_newest_first(&self, out: &mut [u8]) -> usize {
        let mut left = *self;
        let mut blocks = 0;
        for bytes in out.chunks_exact_mut(8) {
            let age_of = |(_, (_, _, age)): &(usize, (u64, u64, u32))| {
                self.changes.wrapping_sub(u64::from(*age)) as u32
            };
            let newest = left.entries().enumerate().filter(|(_, (from, to, _))| from < to).min_by_key(age_of);
            let Some((index, (from, to, _))) = newest else {
                break;
            };
            left.list[index] = (0, 0);
            bytes[..4].copy_from_slice(&(from as u32).to_be_bytes());
            bytes[4..].copy_from_slice(&(to as u32).to_be_bytes());
            blocks += 1;
        }
        blocks
    }

    /// True if all of `start..end` is there already.
    fn contain(&self, start: u64, end: u64) -> bool {
        self.as_slice().iter().any(|(from, to)| *from <= start && end <= *to)
    }

    /// Data is complete up to `next`: removes what that reaches and returns how far it is complete now.
    pub(crate) fn absorb(&mut self, mut next: u64) -> u64 {
        let mut left = Self { changes: self.changes, ..Self::default() };
        for (from, to, age) in self.entries() {
            if from <= next {
                next = next.max(to);
            } else {
                left.push(from, to, age);
            }
        }
        *self = left;
        next
    }
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// The flow's recovery block, a new one if it has none.
    pub(crate) fn block_or_new(&mut self, flow: Flow<'m>) -> Option<&'m RecoveryBlock> {
        if flow.hot.recovery.get() == NONE {
            let index = self.shared.take_recovery()?;
            let block = self.tables.recovery.get(index as usize)?;
            [&block.count, &block.ranges_used, &block.phase].into_iter().for_each(|word| word.set(0));
            block.fin.set(0);
            block.latest.set(0);
            block.flow.set(flow.id + 1);
            flow.hot.recovery.set(index);
        }
        self.block(flow)
    }

    /// Gives the flow's recovery block back, if it has one.
    pub(crate) fn release_block(&mut self, flow: Flow<'m>) {
        let index = flow.hot.recovery.get();
        if index == NONE {
            return;
        }
        flow.hot.recovery.set(NONE);
        if let Some(block) = self.tables.recovery.get(index as usize) {
            block.count.set(0);
            block.flow.set(0);
            self.shared.give_recovery(index);
        }
    }

    /// Keeps data beyond a gap. What cannot be kept is dropped: the peer sends it again.
    #[cold]
    pub(crate) fn take_out_of_order(&mut self, flow: Flow<'m>, arrival: Arrival, packet: &P::Packet) {
        let Some(block) = self.block_or_new(flow) else {
            return self.status.count(Counter::OutOfOrderDropped);
        };
        let mut intervals = Intervals::load(block);
        let end = arrival.start + arrival.bytes as u64;
        if arrival.bytes > 0 && intervals.contain(arrival.start, end) {
            self.twice = (flow.id, arrival.start, end);
        }
        let fits = arrival.bytes == 0 || intervals.insert(arrival.start, end);
        if !fits || (arrival.bytes > 0 && !self.store(flow, arrival, packet)) {
            self.status.count(Counter::OutOfOrderDropped);
            return self.release_if_empty(flow, block);
        }
        intervals.store(block);
        if arrival.fin {
            block.fin.set(end);
        }
        self.status.count(Counter::OutOfOrder);
    }

    /// In-order data reached `next`: joins what was kept. Sets the arrival's FIN if the kept FIN is next.
    #[cold]
    pub(crate) fn absorb(&mut self, flow: Flow<'m>, next: u64, arrival: &mut Arrival) -> u64 {
        let Some(block) = self.block(flow) else {
            return next;
        };
        if block.count.get() == 0 && block.fin.get() == 0 {
            return next;
        }
        let mut intervals = Intervals::load(block);
        let next = if arrival.fin { next } else { intervals.absorb(next) };
        intervals.store(block);
        let fin = block.fin.get();
        if fin != 0 && fin <= next {
            arrival.fin = true;
        }
        // RFC 5681 §4.2: at once when a gap is filled, wholly or in part.
        arrival.urgent = true;
        if arrival.fin {
            block.count.set(0);
            block.fin.set(0);
        }
        self.release_if_empty(flow, block);
        next
    }

    /// Gives the block back if neither the receiving nor the sending side needs it.
    pub(crate) fn release_if_empty(&mut self, flow: Flow<'m>, block: &RecoveryBlock) {
        if block.count.get() == 0 && block.fin.get() == 0 && !flow.has(hot_flags::SCOREBOARD) {
            self.release_block(flow);
        }
    }

    /// Writes SACK blocks, the newest first (RFC 2018 §4), as many as fit. Returns how many.
    pub(crate) fn sack_blocks(&self, flow: Flow<'m>, out: &mut [u8]) -> usize {
        self.block(flow).map_or(0, |block| Intervals::load(block).write_newest_first(out))
    }
}

#[cfg(test)]
#[path = "tests/reassembly.rs"]
mod tests;
