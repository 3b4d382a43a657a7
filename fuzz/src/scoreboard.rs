// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sender's scoreboard against a model that knows each byte: its state, when it was sent again, when it is due.

use abi::recovery::{RecoveryBlock, RANGES};
use arbitrary::Arbitrary;
use fastpath::testing::parts::{Delivered, Scoreboard};
use std::sync::atomic::Ordering::Relaxed;

/// What the corpus covers.
pub const COVERS: &[&str] = &["fastpath/src/scoreboard.rs"];

/// Where the stream begins: around the wrap of the sequence numbers.
const BASE: u64 = 0x1_ffff_ff80;
/// Bytes sent.
const BYTES: usize = 256;
const MAX: u64 = BASE + BYTES as u64;
/// An operation needs at most so many more ranges.
const SPARE: usize = 4;

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    /// An acknowledgement with up to four blocks.
    Acknowledge {
        by: u8,
        blocks: Vec<(u8, u8)>,
        min_age: u8,
    },
    /// One block alone.
    Sack {
        start: u8,
        bytes: u8,
    },
    Overtake {
        window: u8,
    },
    Detect {
        at_once: bool,
    },
    /// The first lost bytes leave again.
    Resend {
        bytes: u8,
        behind: u8,
    },
    Lose {
        start: u8,
        bytes: u8,
    },
    LoseAll {
        forget: bool,
    },
    Forgive,
    Time(u8),
    /// Through the shared block.
    Reload,
    /// Somebody wrote into the shared block.
    Scribble {
        range: u8,
        word: u8,
        value: u32,
    },
}

/// States, numbered as in the shared block.
const FLIGHT: u32 = 0;
const OVERTAKEN: u32 = 1;
const SACKED: u32 = 2;
const LOST: u32 = 3;
const RESENT: u32 = 4;
const RESENT_OVERTAKEN: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Byte {
    state: u32,
    sent: u32,
    above: u32,
    due: u32,
}

impl Byte {
    fn is(state: u32) -> Self {
        Self { state, ..Self::default() }
    }
    fn is_resent(self) -> bool {
        matches!(self.state, RESENT | RESENT_OVERTAKEN)
    }
    /// As far as the state makes use of it.
    fn normal(self) -> Self {
        match self.state {
            OVERTAKEN => Self { due: self.due, ..Self::is(OVERTAKEN) },
            RESENT => Self { due: 0, ..self },
            RESENT_OVERTAKEN => self,
            state => Self::is(state),
        }
    }
}

struct Model {
    una: usize,
    bytes: [Byte; BYTES],
}

impl Model {
    /// What a block says of each byte.
    fn read(block: &RecoveryBlock, una: usize) -> Self {
        let mut model = Self { una, bytes: [Byte::default(); BYTES] };
        let mut start = una;
        for range in block.ranges.iter().take(block.ranges_used.load(Relaxed) as usize) {
            let end = (abi::flow::extend(range.end.load(Relaxed), BASE) - BASE) as usize;
            assert!(end > start && end <= BYTES, "ranges ascend within what was sent");
            let byte = Byte {
                state: range.state.load(Relaxed),
                sent: range.sent_us.load(Relaxed),
                above: range.above.load(Relaxed),
                due: range.due_us.load(Relaxed),
            };
            model.bytes[start..end].fill(byte.normal());
            start = end;
        }
        model
    }

    /// `start..end` was delivered.
    fn deliver(&mut self, start: usize, end: usize, now: u32, min_age: u32, delivered: &mut Delivered) {
        for position in start.max(self.una)..end {
            let byte = self.bytes[position];
            if byte.state == SACKED {
                continue;
            }
            delivered.bytes += 1;
            if !byte.is_resent() {
                delivered.once_end = delivered.once_end.max(BASE + position as u64 + 1);
            } else if now - byte.sent >= min_age {
                delivered.resent_us = delivered.resent_us.max(Some(byte.sent));
            }
            self.bytes[position] = Byte::is(SACKED);
        }
    }

    fn count(&self, state: u32) -> u64 {
        self.bytes[self.una..].iter().filter(|byte| byte.state == state).count() as u64
    }

    fn each(&mut self, range: std::ops::Range<usize>, change: impl Fn(&mut Byte)) {
        self.bytes[range].iter_mut().for_each(change);
    }
}

/// What an acknowledgement without news delivers.
const NOTHING: Delivered = Delivered { bytes: 0, once_end: 0, resent_us: None };

/// Runs the operations.
pub fn check(operations: &[Operation]) {
    let block = RecoveryBlock::default();
    let mut board = Scoreboard::empty(BASE);
    let mut model = Model::read(&block, 0);
    let mut last = NOTHING;
    let mut now = 1000u32;
    for operation in operations {
        let una = model.una;
        let position = |from: u8| (una + usize::from(from)).min(BYTES);
        board.store(&block);
        let tight = block.ranges_used.load(Relaxed) as usize + SPARE > RANGES;
        let mut wanted = None;
        let mut found = None;
        match operation {
            Operation::Acknowledge { by, blocks, min_age } => {
                let ack = position(*by);
                let blocks = &blocks[..blocks.len().min(4)];
                let blocks: Vec<_> = blocks
                    .iter()
                    .map(|(from, bytes)| (position(*from), position(from.saturating_add(*bytes))))
                    .collect();
                let min_age = u32::from(*min_age);
                let mut delivered = NOTHING;
                model.deliver(una, ack, now, min_age, &mut delivered);
                model.each(una..ack, |byte| *byte = Byte::default());
                model.una = ack;
                for (start, end) in &blocks {
                    model.deliver(*start, *end, now, min_age, &mut delivered);
                }
                let blocks: Vec<_> =
                    blocks.iter().map(|(start, end)| (BASE + *start as u64, BASE + *end as u64)).collect();
                last = board.acknowledge(BASE + ack as u64, &blocks, now, min_age);
                // Each block may need two more ranges.
                board.store(&block);
                if tight || block.ranges_used.load(Relaxed) as usize + 2 * SPARE > RANGES {
                    model = resynchronise(&board, &block, &model);
                    continue;
                }
                (wanted, found) = (Some(delivered), Some(last));
            }
            Operation::Sack { start, bytes } => {
                let (start, end) = (position(*start), position(start.saturating_add(*bytes)));
                let mut delivered = NOTHING;
                model.deliver(start, end, now, 0, &mut delivered);
                last =
                    board.acknowledge(BASE + una as u64, &[(BASE + start as u64, BASE + end as u64)], now, 0);
                (wanted, found) = (Some(delivered), Some(last));
            }
            Operation::Overtake { window } => {
                let due = now.wrapping_add((*window).into());
                let top = model.bytes.iter().rposition(|byte| byte.state == SACKED).unwrap_or(0);
                model.each(0..top, |byte| {
                    if byte.state == FLIGHT {
                        *byte = Byte { due, ..Byte::is(OVERTAKEN) };
                    }
                });
                model.each(0..una, |byte| *byte = Byte::default());
                model.each(una..BYTES, |byte| {
                    let later = last.resent_us.is_some_and(|sent| sent > byte.sent);
                    let above = abi::flow::extend(byte.above, BASE);
                    if byte.state == RESENT && (later || last.once_end > above) {
                        *byte = Byte { state: RESENT_OVERTAKEN, due, ..*byte };
                    }
                });
                board.overtake(now, (*window).into());
            }
            Operation::Detect { at_once } => {
                let before = model.count(LOST);
                model.each(una..BYTES, |byte| {
                    if matches!(byte.state, OVERTAKEN | RESENT_OVERTAKEN) && (*at_once || byte.due <= now) {
                        *byte = Byte::is(LOST);
                    }
                });
                assert_eq!(board.detect(now, *at_once), model.count(LOST) - before);
            }
            Operation::Resend { bytes, behind } => {
                let Some((start, end)) = board.first_lost() else {
                    assert_eq!(model.count(LOST), 0);
                    continue;
                };
                let end = end.min(start + u64::from(*bytes).max(1));
                let lost = model.bytes.iter().position(|byte| byte.state == LOST);
                assert_eq!(lost, Some((start - BASE) as usize), "the first that is lost");
                let again = (start - BASE) as usize..(end - BASE) as usize;
                assert!(model.bytes[again.clone()].iter().all(|byte| byte.state == LOST));
                // What had been sent by then.
                let max = (MAX - u64::from(*behind)).max(end);
                model.each(again, |byte| {
                    *byte = Byte { state: RESENT, sent: now, above: max as u32, due: 0 };
                });
                board.resend(start, end, now, max);
            }
            Operation::Lose { start, bytes } => {
                let (start, end) = (position(*start), position(start.saturating_add(*bytes)));
                let noted = board.lose(BASE + start as u64, BASE + end as u64);
                assert!(noted || tight, "room for it");
                if noted {
                    model.each(start..end, |byte| {
                        if byte.state != SACKED {
                            *byte = Byte::is(LOST);
                        }
                    });
                }
            }
            Operation::LoseAll { forget } => {
                model.each(una..BYTES, |byte| {
                    if *forget || byte.state != SACKED {
                        *byte = Byte::is(LOST);
                    }
                });
                board.lose_all(MAX, *forget);
            }
            Operation::Forgive => {
                model.each(una..BYTES, |byte| {
                    if byte.state != SACKED {
                        *byte = Byte::default();
                    }
                });
                board.forgive();
            }
            Operation::Time(us) => now = now.saturating_add((*us).into()),
            Operation::Reload => {
                board = Scoreboard::load(&block, BASE + una as u64, MAX);
                // What the last acknowledgement delivered is not in the block.
                last = NOTHING;
            }
            Operation::Scribble { range, word, value } => {
                let index = usize::from(*range);
                match (block.ranges.get(index), word % 5) {
                    (None, _) => block.ranges_used.store(*value, Relaxed),
                    (Some(range), 0) => range.end.store(*value, Relaxed),
                    (Some(range), 1) => range.state.store(*value, Relaxed),
                    // The time at which it was sent is not in the future.
                    (Some(range), 2) => range.sent_us.store(value % now, Relaxed),
                    (Some(range), 3) => range.above.store(*value, Relaxed),
                    (Some(range), _) => range.due_us.store(value % (now + 300), Relaxed),
                }
                board = Scoreboard::load(&block, BASE + una as u64, MAX);
                last = NOTHING;
                board.store(&block);
                model = Model::read(&block, una);
            }
        }
        if tight {
            model = resynchronise(&board, &block, &model);
            continue;
        }
        assert_eq!(found, wanted, "what was delivered");
        compare(&board, &block, &model, now);
    }
}

/// Without room the board may know less than the model, never more.
fn resynchronise(board: &Scoreboard, block: &RecoveryBlock, model: &Model) -> Model {
    board.store(block);
    let known = Model::read(block, model.una);
    for (said, truth) in known.bytes.iter().zip(&model.bytes) {
        assert!(said.state != SACKED || truth.state == SACKED, "the peer never said so");
    }
    known
}

fn compare(board: &Scoreboard, block: &RecoveryBlock, model: &Model, now: u32) {
    board.store(block);
    let said = Model::read(block, model.una);
    for (position, (said, truth)) in said.bytes.iter().zip(&model.bytes).enumerate() {
        assert_eq!(said, &truth.normal(), "byte {position}");
    }
    let (sacked, lost) = (model.count(SACKED), model.count(LOST));
    let flight = (BYTES - model.una) as u64 - sacked - lost;
    assert_eq!(board.bytes(MAX), (sacked, lost, flight));
    let runs =
        model.bytes.windows(2).filter(|pair| pair[1].state == SACKED && pair[0].state != SACKED).count();
    let first = model.bytes.get(model.una).is_some_and(|byte| byte.state == SACKED);
    let runs = runs + usize::from(first && model.una == 0);
    let pending = model.bytes[model.una..].iter().any(|byte| byte.state == LOST || byte.is_resent());
    let (ranges, reneged, losses) = board.facts();
    assert_eq!((ranges, reneged, losses), (runs, first, pending));
    let waiting =
        model.bytes[model.una..].iter().filter(|byte| matches!(byte.state, OVERTAKEN | RESENT_OVERTAKEN));
    assert_eq!(board.due_us(now), waiting.map(|byte| byte.due).min());
}
