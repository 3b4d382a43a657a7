// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scoreboard against a model that knows the state of every byte.

use super::*;

const BASE: u64 = 0x1_ffff_ff80;
const BYTES: usize = 256;
const NEW: (u32, u32) = (1000, 0);

fn states(board: &Board) -> Vec<State> {
    let mut states = vec![State::Flight; BYTES];
    let mut start = board.una;
    for range in board.ranges() {
        assert!(range.end > start, "ranges ascend");
        states[(start - BASE) as usize..(range.end - BASE) as usize].fill(range.state);
        start = range.end;
    }
    states
}

/// Random acknowledgements, SACK blocks, timeouts and retransmissions: what the board says of each byte is what a
/// model says, what it counts is the number of such bytes, and it survives the way through the shared block.
#[test]
fn agrees_with_a_model_of_every_byte() {
    for seed in 1..=300u64 {
        let mut random = crate::tests::Random::new(seed);
        let mut board = Board::empty(BASE);
        let mut model = vec![State::Flight; BYTES];
        let (mut una, max) = (0usize, BYTES);
        let block = RecoveryBlock::default();
        for step in 0..200u32 {
            let mut delivered = Delivered::default();
            let start = una + random.below((max - una) as u64) as usize;
            let end = (start + 1 + random.below(20) as usize).min(max);
            let fresh = |model: &[State], a: usize, b: usize| {
                model[a..b].iter().filter(|state| **state != State::Sacked).count() as u64
            };
            match random.below(12) {
                0 if una < 200 => {
                    let ack = una + random.below(10) as usize;
                    let wanted = fresh(&model, una, ack);
                    board.acknowledge(BASE + ack as u64, &mut delivered, NEW);
                    assert_eq!(delivered.bytes, wanted, "seed {seed} step {step}");
                    model[una..ack].fill(State::Flight);
                    una = ack;
                }
                1 => {
                    board.lose_all(BASE + max as u64, false);
                    model[una..].iter_mut().filter(|s| **s != State::Sacked).for_each(|s| *s = State::Lost);
                }
                2..=5 => {
                    if let Some((from, to)) = board.first_lost() {
                        let to = to.min(from + 7);
                        assert!(model[(from - BASE) as usize..(to - BASE) as usize]
                            .iter()
                            .all(|s| *s == State::Lost));
                        let top = board.top();
                        board.resend(from, to, step, BASE + max as u64);
                        model[(from - BASE) as usize..(to - BASE) as usize].fill(State::Resent);
                        // Without room the highest positions are forgotten.
                        assert!(board.top() == top || board.count >= RANGES - 2, "seed {seed} step {step}");
                        model[(board.top() - BASE) as usize..].fill(State::Flight);
                    }
                }
                6 => {
                    board.forgive();
                    model[una..].iter_mut().filter(|s| **s != State::Sacked).for_each(|s| *s = State::Flight);
                }
                _ => {
                    let before = states(&board);
                    board.sack(BASE + start as u64, BASE + end as u64, &mut delivered, NEW);
                    if states(&board) != before {
                        let wanted = fresh(&model, start, end);
                        assert_eq!(delivered.bytes, wanted, "seed {seed} step {step}");
                        model[start..end].fill(State::Sacked);
                    } else {
                        assert!(delivered.bytes == 0 || board.count >= RANGES - 2, "seed {seed} step {step}");
                    }
                }
            }
            assert_eq!(states(&board), model, "seed {seed} step {step}");
            let count = |of: State| model.iter().filter(|s| **s == of).count() as u64;
            assert_eq!(
                (board.sacked_bytes(), board.lost_bytes()),
                (count(State::Sacked), count(State::Lost))
            );
            let pipe = (max - una) as u64 - count(State::Sacked) - count(State::Lost);
            assert_eq!(board.pipe(BASE + max as u64), pipe);
            board.store(&block);
            assert_eq!(states(&Board::load(&block, BASE + una as u64, BASE + max as u64)), model);
        }
    }
}

#[test]
fn what_was_sent_once_is_overtaken_by_position_and_lost_when_due() {
    let mut board = Board::empty(BASE);
    let mut delivered = Delivered::default();
    board.sack(BASE + 20, BASE + 30, &mut delivered, NEW);
    assert_eq!((delivered.bytes, delivered.once_end), (10, BASE + 30));
    board.overtake(&delivered, 1000, 50);
    assert_eq!(board.due_us(1000), Some(1050));
    assert_eq!(board.detect(1049, false), 0);
    // More of the same does not put it off.
    board.sack(BASE + 30, BASE + 40, &mut delivered, NEW);
    board.overtake(&delivered, 1040, 50);
    assert_eq!(board.detect(1050, false), 20);
    assert_eq!((board.first_lost(), board.due_us(1050)), (Some((BASE, BASE + 20)), None));
    // It arrives after all.
    let mut late = Delivered::default();
    board.acknowledge(BASE + 40, &mut late, (1060, 0));
    assert!(late.needless && late.bytes == 20 && board.is_empty());
    // What arrives before it counts as lost tells that the path reorders.
    let mut board = Board::empty(BASE);
    board.sack(BASE + 20, BASE + 30, &mut delivered, NEW);
    board.overtake(&delivered, 1000, 50);
    let mut late = Delivered::default();
    board.sack(BASE, BASE + 10, &mut late, NEW);
    assert!(late.late && !late.needless);
}

#[test]
fn a_lost_retransmission_is_found_by_what_was_sent_after_it() {
    let lose = || {
        let mut board = Board::empty(BASE);
        let mut delivered = Delivered::default();
        board.sack(BASE + 20, BASE + 30, &mut delivered, NEW);
        board.overtake(&delivered, 1000, 0);
        assert_eq!(board.detect(1000, false), 20);
        board.resend(BASE, BASE + 10, 1000, BASE + 50);
        board.resend(BASE + 10, BASE + 20, 1100, BASE + 60);
        board
    };
    // By data sent before it: nothing follows.
    let mut board = lose();
    let mut delivered = Delivered::default();
    board.sack(BASE + 30, BASE + 50, &mut delivered, (1200, 0));
    board.overtake(&delivered, 1200, 0);
    assert_eq!(board.detect(1200, false), 0);
    // By data first sent after the first of the two.
    board.sack(BASE + 50, BASE + 55, &mut delivered, (1210, 0));
    board.overtake(&delivered, 1210, 0);
    assert_eq!(board.detect(1210, false), 10);
    assert_eq!(board.first_lost(), Some((BASE, BASE + 10)));
    // By the second retransmission.
    let mut board = lose();
    let mut delivered = Delivered::default();
    board.sack(BASE + 10, BASE + 20, &mut delivered, (1300, 100));
    assert_eq!(delivered.resent_us, Some(1100));
    board.overtake(&delivered, 1300, 0);
    assert_eq!(board.detect(1300, false), 10);
    // An answer that comes too soon is to the first copy.
    let mut board = lose();
    let mut delivered = Delivered::default();
    board.sack(BASE + 10, BASE + 20, &mut delivered, (1150, 100));
    assert!(delivered.resent_us.is_none() && delivered.late);
}

/// What the peer has counts once, whatever was lost around it or by whom the block was written.
#[test]
fn a_range_that_was_cut_counts_once() {
    let mut board = Board::empty(BASE);
    let mut delivered = Delivered::default();
    board.sack(BASE + 10, BASE + 40, &mut delivered, NEW);
    assert!(board.lose(BASE + 20, BASE + 60));
    assert_eq!((board.sacked_ranges(), board.sacked_bytes(), board.lost_bytes()), (1, 30, 20));
    assert_eq!(board.count, 3, "the cut is gone");
    board.sack(BASE + 50, BASE + 55, &mut delivered, NEW);
    assert_eq!(board.sacked_ranges(), 2);
    let block = RecoveryBlock::default();
    for (range, end) in block.ranges.iter().zip([10u32, 20, 30]) {
        range.end.set((BASE as u32).wrapping_add(end));
        range.state.set(State::Sacked as u32);
    }
    block.ranges_used.set(3);
    assert_eq!(Board::load(&block, BASE, BASE + 100).sacked_ranges(), 1);
}

#[test]
fn any_block_is_survived() {
    for seed in 1..=500u64 {
        let mut random = crate::tests::Random::new(seed);
        let block = RecoveryBlock::default();
        block.ranges_used.set(random.next() as u32);
        for range in &block.ranges {
            let near = random.below(2) == 0;
            range.end.set(if near {
                (BASE as u32).wrapping_add(random.below(300) as u32)
            } else {
                random.next() as u32
            });
            range.state.set(random.below(8) as u32);
            range.above.set(random.next() as u32);
            range.due_us.set(random.next() as u32);
        }
        let mut board = Board::load(&block, BASE, BASE + BYTES as u64);
        states(&board);
        let mut delivered = Delivered::default();
        board.sack(BASE + 100, BASE + 120, &mut delivered, NEW);
        board.overtake(&delivered, 5, 5);
        board.detect(5, false);
        board.lose_all(BASE + BYTES as u64, false);
        board.acknowledge(BASE + 101, &mut delivered, NEW);
        states(&board);
        assert!(board.pipe(BASE + BYTES as u64) <= BYTES as u64);
    }
}
