// SPDX-License-Identifier: MIT OR Apache-2.0
//! The timing wheel: flows that may send, but not yet. After Carousel (SIGCOMM 2017): slots of a
//! few microseconds, lists threaded through the flows' private state, and a bitmap to find the next.

use crate::private::Private;

/// Microseconds per slot as a shift: 4 µs, three full segments at 10 Gbit/s.
const SLOT_SHIFT: u32 = 2;
/// Slots; the horizon is 4 ms. A flow that must wait longer is put at the horizon and looked at again then.
const SLOTS: usize = 1024;
const WORDS: usize = SLOTS / 64;
/// End of a list.
const END: u32 = u32::MAX;
/// Pacing credit a late flow may use up at once, nanoseconds: one of the original's control intervals.
pub(crate) const CREDIT_NS: u64 = 50_000;

/// The wheel of one core.
pub(crate) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    occupied: [u64; WORDS],
    /// Next slot to expire, in slots since time zero.
    next: u64,
    len: usize,
}

impl Wheel {
    /// Empty, starting at `now_us`.
    pub(crate) fn new(now_us: u64) -> Self {
        Self { heads: Box::new([END; SLOTS]), occupied: [0; WORDS], next: now_us >> SLOT_SHIFT, len: 0 }
    }

    /// True if no flow waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Flows that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a flow that may send at `at_us`.
    pub(crate) fn insert(&mut self, private: &mut [Private], flow: u32, at_us: u64) {
        // Rounded up, so that the flow is not looked at too early.
        let slot = (at_us + (1 << SLOT_SHIFT) - 1) >> SLOT_SHIFT;
        let slot = slot.clamp(self.next, self.next + SLOTS as u64 - 1) as usize & (SLOTS - 1);
        if let Some(entry) = private.get_mut(flow as usize) {
            entry.next = self.heads[slot];
            self.heads[slot] = flow;
            self.occupied[slot / 64] |= 1 << (slot % 64);
            self.len += 1;
        }
    }

    /// Calls `expired` with every flow whose time has come.
    pub(crate) fn advance(
        &mut self,
        now_us: u64,
        private: &mut [Private],
        mut expired: impl FnMut(u32, &mut Private),
    ) {
        let now = now_us >> SLOT_SHIFT;
        while self.len > 0 && self.next <= now {
            let Some(slot) = self.next_occupied() else {
                break;
            };
            if slot > now {
                break;
            }
            self.next = slot;
            let index = slot as usize & (SLOTS - 1);
            let mut flow = std::mem::replace(&mut self.heads[index], END);
            self.occupied[index / 64] &= !(1 << (index % 64));
            while let Some(entry) = private.get_mut(flow as usize) {
                let id = flow;
                flow = entry.next;
                self.len -= 1;
                expired(id, entry);
            }
        }
        self.next = self.next.max(now);
    }

    /// The first slot from `next` on that holds a flow.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.next as usize & (SLOTS - 1);
        for step in 0..=WORDS {
            let index = (start / 64 + step) % WORDS;
            let mut word = self.occupied[index];
            if step == 0 {
                word &= u64::MAX << (start % 64);
            } else if step == WORDS {
                word &= !(u64::MAX << (start % 64));
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                return Some(self.next + (slot.wrapping_sub(start) & (SLOTS - 1)) as u64);
            }
        }
        None
    }

    /// When [`Self::advance`] has something to do, TCP time in microseconds.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        self.next_occupied().map(|slot| slot << SLOT_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random insertions and steps: every flow comes out not early, and at most one slot late or at the horizon.
    #[test]
    fn expires_in_time() {
        let mut random = 0x1234_5678_9abc_def1u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut private = vec![Private::EMPTY; 500];
        let mut due = vec![None; 500];
        let mut now = 1_000_003u64;
        let mut wheel = Wheel::new(now);
        let mut seen = 0;
        for _ in 0..30_000 {
            let flow = (next() % 500) as usize;
            if due[flow].is_none() {
                let at = now + next() % 3_900;
                due[flow] = Some(at);
                wheel.insert(&mut private, flow as u32, at);
            }
            let before = now;
            now += next() % 40;
            wheel.advance(now, &mut private, |flow, _| {
                let at: u64 = due[flow as usize].take().expect("expired twice");
                assert!(at <= now, "flow {flow} early: {at} > {now}");
                assert!(at + 8 > before, "flow {flow} late: {at}, polled at {before}");
                seen += 1;
            });
            for at in due.iter().flatten() {
                assert!(at + 4 > now, "flow due at {at} forgotten at {now}");
            }
            let earliest = due.iter().flatten().min();
            assert_eq!(wheel.deadline_us().is_some(), earliest.is_some());
            if let (Some(deadline), Some(earliest)) = (wheel.deadline_us(), earliest) {
                assert!(deadline >= *earliest && deadline < earliest + 4);
            }
        }
        assert!(seen > 10_000);
    }

    #[test]
    fn a_long_pause_loses_nothing() {
        let mut private = vec![Private::EMPTY; 3];
        let mut wheel = Wheel::new(0);
        wheel.insert(&mut private, 0, 10);
        wheel.insert(&mut private, 1, 4_000);
        wheel.insert(&mut private, 2, 1_000_000);
        let mut out = Vec::new();
        wheel.advance(50_000, &mut private, |flow, _| out.push(flow));
        assert_eq!(out, [0, 1, 2], "the far one comes out at the horizon to be put back");
        assert!(wheel.is_empty() && wheel.deadline_us().is_none());
    }
}
