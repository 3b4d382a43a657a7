// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A hierarchical timing wheel over a table of nodes: insert and cancel in constant time, and every
//! node moves at most once per level. Ticks of 64 µs, 7 levels of 64 slots: 9 years.

use crate::table::Table;
use abi::flow::NONE;

/// log2 of the microseconds of a tick.
const TICK_SHIFT: u32 = 6;
/// log2 of the slots of a level.
const SLOT_SHIFT: u32 = 6;
const SLOTS: u32 = 1 << SLOT_SHIFT;
const SLOT_MASK: u64 = SLOTS as u64 - 1;
const LEVELS: usize = 7;
const LEVEL_LAST: u32 = LEVELS as u32 - 1;
/// Longest timer, in ticks; longer ones are shortened to it.
const HORIZON_TICKS: u64 = (1 << (SLOT_SHIFT * LEVELS as u32)) - 1;
/// List heads of the wheel.
pub(crate) const WHEEL_SLOTS: usize = LEVELS * SLOTS as usize;
const UNLINKED: u32 = u32::MAX;

/// A timer's place in the wheel.
#[derive(Debug, Clone, Copy)]
pub struct TimerNode {
    expires: u64,
    next: u32,
    prev: u32,
    /// List head it is linked at, or `UNLINKED`.
    slot: u32,
}

impl Default for TimerNode {
    fn default() -> Self {
        Self { expires: 0, next: NONE, prev: NONE, slot: UNLINKED }
    }
}

/// What one step of the wheel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Popped {
    /// This node expired and is no longer linked.
    Expired(u32),
    /// A node moved to a finer level; call again.
    Moved,
    /// Nothing is due.
    Nothing,
}

/// The wheel.
pub(crate) struct Wheel<'m> {
    nodes: Table<'m, TimerNode>,
    heads: Table<'m, u32>,
    occupied: [u64; LEVELS],
    tick: u64,
}

/// Where in the wheel a tick belongs, seen from now.
fn level_of(tick: u64, expires: u64) -> u32 {
    let differing = (tick ^ expires) | SLOT_MASK;
    let top = 63u32.saturating_sub(differing.leading_zeros());
    // top / 6 for 6..=63 without a division.
    (top.wrapping_mul(43)) >> 8
}

fn slot_of(expires: u64, level: u32) -> u32 {
    let shifted = expires.checked_shr(level.wrapping_mul(SLOT_SHIFT)).unwrap_or(0);
    (shifted & SLOT_MASK) as u32
}

impl<'m> Wheel<'m> {
    pub(crate) fn new(nodes: &'m mut [TimerNode], heads: &'m mut [u32], now_us: u64) -> Option<Self> {
        heads.fill(NONE);
        Some(Self {
            nodes: Table::new(nodes)?,
            heads: Table::new(heads)?,
            occupied: [0; LEVELS],
            tick: now_us >> TICK_SHIFT,
        })
    }

    /// Sets `node` to expire at `at_us` (rounded up to a tick), replacing an earlier setting.
    pub(crate) fn set(&mut self, node: u32, at_us: u64) {
        self.cancel(node);
        if !self.nodes.has(node) {
            return;
        }
        let ticks = at_us.saturating_add((1 << TICK_SHIFT) - 1) >> TICK_SHIFT;
        let expires = ticks.clamp(self.tick, self.tick.saturating_add(HORIZON_TICKS / 2));
        self.nodes.at_mut(node).expires = expires;
        self.link(node, expires);
    }

    fn link(&mut self, node: u32, expires: u64) {
        let level = level_of(self.tick, expires).min(LEVEL_LAST);
        let slot_in_level = slot_of(expires, level);
        let slot = level.wrapping_mul(SLOTS).wrapping_add(slot_in_level);
        let head = *self.heads.at(slot);
        if self.nodes.has(head) {
            self.nodes.at_mut(head).prev = node;
        }
        let entry = self.nodes.at_mut(node);
        entry.slot = slot;
        entry.next = head;
        entry.prev = NONE;
        *self.heads.at_mut(slot) = node;
        if let Some(bits) = self.occupied.get_mut(level as usize) {
            *bits |= 1u64.wrapping_shl(slot_in_level);
        }
    }

    /// Takes `node` out, if it is set.
    pub(crate) fn cancel(&mut self, node: u32) {
        let TimerNode { next, prev, slot, .. } = *self.nodes.at(node);
        if slot == UNLINKED {
            return;
        }
        if self.nodes.has(prev) {
            self.nodes.at_mut(prev).next = next;
        } else {
            *self.heads.at_mut(slot) = next;
            if next == NONE {
                if let Some(bits) = self.occupied.get_mut((slot >> SLOT_SHIFT) as usize) {
                    *bits &= !1u64.wrapping_shl(slot & SLOT_MASK as u32);
                }
            }
        }
        if self.nodes.has(next) {
            self.nodes.at_mut(next).prev = prev;
        }
        let entry = self.nodes.at_mut(node);
        entry.slot = UNLINKED;
        entry.next = NONE;
        entry.prev = NONE;
    }

    /// The first occupied slot: its level, and the tick at which it is due. While a coarse slot is
    /// being spread over finer ones it comes before them.
    fn first(&self) -> Option<(u32, u64)> {
        let mut best: Option<(u32, u64)> = None;
        let mut level = 0u32;
        for bits in self.occupied {
            if bits != 0 {
                let current = slot_of(self.tick, level);
                let distance = bits.rotate_right(current).trailing_zeros();
                let slot = current.wrapping_add(distance) as u64 & SLOT_MASK;
                let shift = level.wrapping_mul(SLOT_SHIFT);
                let above = shift.wrapping_add(SLOT_SHIFT);
                let base = self.tick.checked_shr(above).unwrap_or(0).checked_shl(above).unwrap_or(0);
                let mut due = base.wrapping_add(slot.checked_shl(shift).unwrap_or(0));
                if slot < current as u64 {
                    // Only the coarsest level wraps round.
                    due = due.wrapping_add(1u64.checked_shl(above).unwrap_or(0));
                }
                if best.is_none_or(|(_, first)| due < first) {
                    best = Some((level, due));
                }
            }
            level = level.wrapping_add(1);
        }
        best.map(|(level, due)| (level, due.max(self.tick)))
    }

    /// One step towards `now_us`.
    pub(crate) fn pop(&mut self, now_us: u64) -> Popped {
        let target = now_us >> TICK_SHIFT;
        let Some((level, due)) = self.first() else {
            self.tick = self.tick.max(target);
            return Popped::Nothing;
        };
        if due > target {
            self.tick = self.tick.max(target);
            return Popped::Nothing;
        }
        self.tick = due;
        let slot = level.wrapping_mul(SLOTS).wrapping_add(slot_of(due, level));
        let node = *self.heads.at(slot);
        let expires = self.nodes.at(node).expires;
        self.cancel(node);
        if expires <= due {
            Popped::Expired(node)
        } else {
            self.link(node, expires);
            Popped::Moved
        }
    }

    /// Nodes below `end` that are set.
    pub(crate) fn count_below(&self, end: u32) -> u32 {
        let mut count = 0u32;
        for node in 0..end.min(self.nodes.len()) {
            count = count.saturating_add(u32::from(self.nodes.at(node).slot != UNLINKED));
        }
        count
    }

    /// When the wheel wants to be called next, microseconds. Never later than the first expiry.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        self.first().map(|(_, due)| due.saturating_mul(1 << TICK_SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Random, SipKey};
    use std::{collections::BTreeMap, vec, vec::Vec};

    #[test]
    fn level_division_is_exact() {
        for top in 0..64u32 {
            assert_eq!((top * 43) >> 8, top / 6);
        }
    }

    /// Random sets, cancels and advances against a sorted map.
    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..20u64 {
            std::println!("seed {seed}");
            let mut random = Random::new(SipKey(seed, 1));
            let mut nodes = vec![TimerNode::default(); 65];
            let mut heads = vec![0; WHEEL_SLOTS + 1];
            let mut now = random.next() >> 20;
            let mut wheel = Wheel::new(&mut nodes, &mut heads, now).unwrap();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for _ in 0..3000 {
                let node = random.below(64);
                match random.below(4) {
                    0 | 1 => {
                        let span = random.below(40);
                        let at = now + (random.next() >> (24 + span));
                        wheel.set(node, at);
                        model.insert(node, at);
                    }
                    2 => {
                        wheel.cancel(node);
                        model.remove(&node);
                    }
                    _ => {
                        let span = random.below(40);
                        now += random.next() >> (24 + span);
                        let mut fired = Vec::new();
                        loop {
                            match wheel.pop(now) {
                                Popped::Expired(node) => fired.push(node),
                                Popped::Moved => {}
                                Popped::Nothing => break,
                            }
                        }
                        fired.sort_unstable();
                        let due = |at: u64| at.div_ceil(64) * 64 <= now;
                        let expected: Vec<u32> =
                            model.iter().filter(|(_, &at)| due(at)).map(|(&node, _)| node).collect();
                        assert_eq!(fired, expected);
                        model.retain(|_, at| !due(*at));
                    }
                }
                match (wheel.deadline_us(), model.values().min()) {
                    (Some(deadline), Some(&first)) => {
                        assert!(deadline <= first.div_ceil(64) * 64);
                    }
                    (None, None) => {}
                    other => panic!("deadline {other:?}"),
                }
            }
        }
    }
}
