// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sender's scoreboard: what is known of the data in flight (RFC 2018, 6675, 8985), as ranges that tile the
//! stream from `snd_una` on. Data behind the last range is simply in flight.
//!
//! RACK (RFC 8985) asks of every segment when it was sent. Here only what was sent again carries its time: data sent
//! once was sent in the order of its positions, so that it was overtaken as soon as anything behind it is delivered,
//! and what was sent again was overtaken by data first sent after it (above `snd_max` of that moment) or by a later
//! retransmission. What was overtaken is lost when the reordering window is over, counted from the moment when that
//! became known.

use crate::word::Word;
use abi::{
    flow::extend,
    recovery::{RecoveryBlock, RANGES},
};

/// What is known of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Sent once, nothing heard.
    #[default]
    Flight,
    /// Sent once, and something sent later was delivered.
    Overtaken,
    /// The peer has it (RFC 2018).
    Sacked,
    /// To be sent again.
    Lost,
    /// Sent again.
    Resent,
    /// Sent again, and something sent after that was delivered.
    ResentOvertaken,
}

impl State {
    fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Overtaken,
            2 => Self::Sacked,
            3 => Self::Lost,
            4 => Self::Resent,
            5 => Self::ResentOvertaken,
            _ => Self::Flight,
        }
    }
    fn is_resent(self) -> bool {
        matches!(self, Self::Resent | Self::ResentOvertaken)
    }
}

/// One range; it begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub(crate) end: u64,
    pub(crate) state: State,
    /// When it was sent again, µs.
    sent_us: u32,
    /// `snd_max` then.
    above: u64,
    /// When it counts as lost, µs, if it was overtaken.
    due_us: u32,
}

/// What an acknowledgement delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delivered {
    /// Bytes that were not known to be delivered before.
    pub(crate) bytes: u64,
    /// End of the last of them that were sent only once, or zero.
    pub(crate) once_end: u64,
    /// When the latest retransmission among them was sent.
    pub(crate) resent_us: Option<u32>,
    /// Data arrived that something sent later had overtaken: the path reorders.
    pub(crate) late: bool,
    /// Data arrived that was to be sent again, and was not yet.
    pub(crate) needless: bool,
}

/// The scoreboard, taken from a recovery block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Board {
    una: u64,
    ranges: [Range; RANGES],
    count: usize,
}

impl Board {
    /// Nothing known of what was sent from `una` on.
    pub(crate) fn empty(una: u64) -> Self {
        Self { una, ranges: [Range::default(); RANGES], count: 0 }
    }

    /// From a block. Whatever it holds, the ranges ascend and lie within `una..=max`.
    pub(crate) fn load(block: &RecoveryBlock, una: u64, max: u64) -> Self {
        let mut board = Self::empty(una);
        let used = (block.ranges_used.get() as usize).min(RANGES);
        let mut start = una;
        for from in block.ranges.iter().take(used) {
            let end = extend(from.end.get(), una);
            if end <= start || end > max {
                break;
            }
            board.ranges[board.count] = Range {
                end,
                state: State::from_word(from.state.get()),
                sent_us: from.sent_us.get(),
                above: extend(from.above.get(), una),
                due_us: from.due_us.get(),
            };
            board.count += 1;
            start = end;
        }
        board
    }

    pub(crate) fn store(&self, block: &RecoveryBlock) {
        for (range, to) in self.ranges().iter().zip(&block.ranges) {
            to.end.set(range.end as u32);
            to.state.set(range.state as u32);
            to.sent_us.set(range.sent_us);
            to.above.set(range.above as u32);
            to.due_us.set(range.due_us);
        }
        block.ranges_used.set(self.count as u32);
    }

    pub(crate) fn ranges(&self) -> &[Range] {
        self.ranges.get(..self.count).unwrap_or(&[])
    }

    fn ranges_mut(&mut self) -> &mut [Range] {
        self.ranges.get_mut(..self.count).unwrap_or(&mut [])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where the ranges end.
    fn top(&self) -> u64 {
        self.ranges().last().map_or(self.una, |range| range.end)
    }

    fn push(&mut self, range: Range) {
        if self.count < RANGES {
            self.ranges[self.count] = range;
            self.count += 1;
        }
    }

    /// Bytes of the ranges for which `of` holds.
    fn bytes(&self, of: impl Fn(State) -> bool) -> u64 {
        let mut start = self.una;
        let mut sum = 0;
        for range in self.ranges() {
            if of(range.state) {
                sum += range.end - start;
            }
            start = range.end;
        }
        sum
    }

    /// Bytes that the peer has.
    pub(crate) fn sacked_bytes(&self) -> u64 {
        self.bytes(|state| state == State::Sacked)
    }

    /// Bytes to be sent again.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.bytes(|state| state == State::Lost)
    }

    /// Bytes in flight (RFC 6675 §4, pipe) if everything up to `nxt` was sent.
    pub(crate) fn pipe(&self, nxt: u64) -> u64 {
        let gone = self.bytes(|state| matches!(state, State::Sacked | State::Lost));
        nxt.saturating_sub(self.una).saturating_sub(gone)
    }

    /// Something was sent again and is not known to be delivered, or is to be.
    pub(crate) fn has_losses(&self) -> bool {
        self.ranges().iter().any(|range| range.state == State::Lost || range.state.is_resent())
    }

    /// Something is to be sent again, and all of it lies within `start..end`.
    pub(crate) fn has_lost_only(&self, start: u64, end: u64) -> bool {
        let mut from = self.una;
        let mut any = false;
        for range in self.ranges() {
            if range.state == State::Lost {
                any = true;
                if from < start || range.end > end {
                    return false;
                }
            }
            from = range.end;
        }
        any
    }

    /// Separate ranges that the peer has: neighbours, which a cut or whoever wrote into the block may leave, count once.
    pub(crate) fn sacked_ranges(&self) -> usize {
        let mut before = State::Flight;
        let begins = |range: &&Range| {
            let last = core::mem::replace(&mut before, range.state);
            range.state == State::Sacked && last != State::Sacked
        };
        self.ranges().iter().filter(begins).count()
    }

    /// The peer took back what it had selectively acknowledged (RFC 2018 §8).
    pub(crate) fn is_reneged(&self) -> bool {
        self.ranges().first().is_some_and(|range| range.state == State::Sacked)
    }

    /// The first range to be sent again.
    pub(crate) fn first_lost(&self) -> Option<(u64, u64)> {
        let mut start = self.una;
        for range in self.ranges() {
            if range.state == State::Lost {
                return Some((start, range.end));
            }
            start = range.end;
        }
        None
    }

    /// Notes what the delivery of `start..end` in this range tells.
    fn note(range: &Range, start: u64, end: u64, delivered: &mut Delivered, min_age: (u32, u32)) {
        if range.state == State::Sacked {
            return;
        }
        delivered.bytes += end - start;
        delivered.late |= range.state == State::Overtaken;
        delivered.needless |= range.state == State::Lost;
        if !range.state.is_resent() {
            delivered.once_end = delivered.once_end.max(end);
            return;
        }
        // RFC 8985 §6.2 step 2: within less than the shortest RTT it is the first copy that arrived.
        let (now_us, min_rtt_us) = min_age;
        let newer = delivered.resent_us.is_none_or(|before| (range.sent_us.wrapping_sub(before) as i32) > 0);
        if now_us.wrapping_sub(range.sent_us) < min_rtt_us {
            delivered.late = true;
        } else if newer {
            delivered.resent_us = Some(range.sent_us);
        }
    }

    /// Everything before `ack` is acknowledged. `min_age`: the time and the shortest RTT, µs.
    pub(crate) fn acknowledge(&mut self, ack: u64, delivered: &mut Delivered, min_age: (u32, u32)) {
        if ack <= self.una {
            return;
        }
        let mut start = self.una;
        let mut gone = 0;
        for range in self.ranges() {
            if start >= ack {
                break;
            }
            Self::note(range, start, range.end.min(ack), delivered, min_age);
            start = range.end;
            gone += usize::from(range.end <= ack);
        }
        if start < ack {
            delivered.bytes += ack - start;
            delivered.once_end = delivered.once_end.max(ack);
        }
        self.una = ack;
        self.ranges.copy_within(gone..self.count, 0);
        self.count -= gone;
    }

    /// The peer has `start..end`, within `una` and what was sent.
    pub(crate) fn sack(&mut self, start: u64, end: u64, delivered: &mut Delivered, min_age: (u32, u32)) {
        let start = start.max(self.una);
        if start >= end {
            return;
        }
        let top = self.top();
        if start < top && !self.cover(start, end.min(top)) {
            // No room: as if it had not been said.
            return;
        }
        let mut from = self.una;
        for range in self.ranges_mut() {
            if from >= start && range.end <= end {
                Self::note(range, from, range.end, delivered, min_age);
                range.state = State::Sacked;
            }
            from = range.end;
        }
        let room = 1 + usize::from(start > top);
        if end > top && self.make_room(room) {
            if start > top {
                self.push(Range { end: start, ..Range::default() });
            }
            delivered.bytes += end - start.max(top);
            delivered.once_end = delivered.once_end.max(end);
            self.push(Range { end, state: State::Sacked, ..Range::default() });
        }
        self.merge(false);
    }

    /// Makes `start` and `end` boundaries of ranges. False: no room.
    fn cover(&mut self, start: u64, end: u64) -> bool {
        self.make_room(2) && self.split(start) && self.split(end)
    }

    /// Makes room for `more` ranges, by joining neighbours if need be.
    fn make_room(&mut self, more: usize) -> bool {
        if self.count + more > RANGES {
            self.merge(true);
        }
        self.count + more <= RANGES
    }

    /// Makes `at` a boundary.
    fn split(&mut self, at: u64) -> bool {
        if at <= self.una || at >= self.top() {
            return true;
        }
        let Some(index) = self.ranges().iter().position(|range| range.end >= at) else {
            return true;
        };
        if self.ranges[index].end == at {
            return true;
        }
        if self.count == RANGES {
            return false;
        }
        self.ranges.copy_within(index..self.count, index + 1);
        self.ranges[index].end = at;
        self.count += 1;
        true
    }

    /// Joins neighbours of which the same is known; if `roughly`, also those sent again at different times.
    fn merge(&mut self, roughly: bool) {
        let mut kept = 0;
        for index in 0..self.count {
            let range = self.ranges[index];
            let joined = kept > 0 && {
                let before = &mut self.ranges[kept - 1];
                let alike = match range.state {
                    State::Flight | State::Sacked | State::Lost => true,
                    State::Overtaken => roughly || range.due_us == before.due_us,
                    State::Resent | State::ResentOvertaken => {
                        roughly
                            || (range.sent_us, range.above, range.due_us)
                                == (before.sent_us, before.above, before.due_us)
                    }
                };
                let joins = before.state == range.state && alike;
                if joins {
                    // The later one's times: at worst a loss is found later.
                    *before = range;
                }
                joins
            };
            if !joined {
                self.ranges[kept] = range;
                kept += 1;
            }
        }
        self.count = kept;
    }

    /// Finds what was overtaken by what was delivered; it is due `window_us` from now.
    pub(crate) fn overtake(&mut self, delivered: &Delivered, now_us: u32, window_us: u32) {
        let due_us = now_us.wrapping_add(window_us);
        let mut behind = false;
        for range in self.ranges_mut().iter_mut().rev() {
            match range.state {
                State::Sacked => behind = true,
                State::Flight if behind => {
                    range.state = State::Overtaken;
                    range.due_us = due_us;
                }
                State::Resent => {
                    let later =
                        delivered.resent_us.is_some_and(|sent| (sent.wrapping_sub(range.sent_us) as i32) > 0);
                    if later || delivered.once_end > range.above {
                        range.state = State::ResentOvertaken;
                        range.due_us = due_us;
                    }
                }
                _ => {}
            }
        }
    }

    /// What was overtaken and is due counts as lost; all of it if `at_once`. Returns the bytes.
    pub(crate) fn detect(&mut self, now_us: u32, at_once: bool) -> u64 {
        let before = self.lost_bytes();
        for range in self.ranges_mut() {
            let overtaken = matches!(range.state, State::Overtaken | State::ResentOvertaken);
            if overtaken && (at_once || now_us.wrapping_sub(range.due_us) as i32 >= 0) {
                *range = Range { end: range.end, state: State::Lost, ..Range::default() };
            }
        }
        self.merge(false);
        self.lost_bytes() - before
    }

    /// When the next overtaken range is due, µs.
    pub(crate) fn due_us(&self, now_us: u32) -> Option<u32> {
        let waiting = |range: &&Range| matches!(range.state, State::Overtaken | State::ResentOvertaken);
        let due = self.ranges().iter().filter(waiting).map(|range| range.due_us);
        due.min_by_key(|due| due.wrapping_sub(now_us) as i32)
    }

    /// `start..end` was sent again.
    pub(crate) fn resend(&mut self, start: u64, end: u64, now_us: u32, max: u64) {
        while !self.cover(start, end) {
            // What is known of the highest positions is given up: they count as in flight.
            self.count -= 1;
        }
        let mut from = self.una;
        for range in self.ranges_mut() {
            if from >= start && range.end <= end {
                *range =
                    Range { end: range.end, state: State::Resent, sent_us: now_us, above: max, due_us: 0 };
            }
            from = range.end;
        }
        self.merge(false);
    }

    /// A timeout: everything up to `max` that the peer does not have counts as lost; if `forget`, what it said to have
    /// as well.
    pub(crate) fn lose_all(&mut self, max: u64, forget: bool) {
        if forget {
            self.count = 0;
        }
        for range in self.ranges_mut() {
            if range.state != State::Sacked {
                *range = Range { end: range.end, state: State::Lost, ..Range::default() };
            }
        }
        self.merge(false);
        self.lose_rest(max);
    }

    /// What is behind the ranges, up to `max`, counts as lost.
    pub(crate) fn lose_rest(&mut self, max: u64) {
        if self.top() >= max {
            return;
        }
        let lost = Range { end: max, state: State::Lost, ..Range::default() };
        let full = self.count == RANGES;
        match self.ranges_mut().last_mut() {
            // Without room for it, what the last range said is forgotten: sent once too often.
            Some(last) if full || last.state == State::Lost => *last = lost,
            _ => self.push(lost),
        }
    }

    /// Ranges up to `max`, so that the last bytes can be told from the rest.
    pub(crate) fn tile(&mut self, max: u64) -> bool {
        if self.top() >= max {
            return true;
        }
        let room = self.make_room(1);
        if room {
            self.push(Range { end: max, ..Range::default() });
            self.merge(false);
        }
        room
    }

    /// `start..end`, up to where the data in flight ends, is to be sent again. False: no room to note it.
    pub(crate) fn lose(&mut self, start: u64, end: u64) -> bool {
        if !self.tile(end) || !self.cover(start, end) {
            return false;
        }
        let mut from = self.una;
        for range in self.ranges_mut() {
            if from >= start && range.end <= end && range.state != State::Sacked {
                *range = Range { end: range.end, state: State::Lost, ..Range::default() };
            }
            from = range.end;
        }
        // What was cut and not lost, since the peer has it, is whole again.
        self.merge(false);
        true
    }

    /// Nothing had been lost: everything the peer is not known to have is in flight as before.
    pub(crate) fn forgive(&mut self) {
        for range in self.ranges_mut() {
            if range.state != State::Sacked {
                *range = Range { end: range.end, ..Range::default() };
            }
        }
        self.merge(false);
        while self.ranges().last().is_some_and(|range| range.state == State::Flight) {
            self.count -= 1;
        }
    }
}

#[cfg(test)]
#[path = "tests/scoreboard.rs"]
mod tests;
