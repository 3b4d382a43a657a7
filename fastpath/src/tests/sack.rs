// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss recovery with SACK: RFC 2018, 2883, 3522, 6675, 6937, 8985, as the peer and the slow path see it.

use super::World;
use crate::testing::*;
use abi::{
    clock::timestamp_value,
    core_status::Counter,
    flow::{extend, hot_flags, NONE},
    kernel_ring::{to_fast, to_slow},
};
use std::sync::atomic::Ordering::Relaxed;

const MSS: u64 = 1428;

/// Ten full segments are in flight, of a flow with SACK; the smoothed RTT is 4 ms.
fn in_flight() -> World {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
    world.tables.cold[1].cwnd_bytes.store(10 * MSS as u32, Relaxed);
    world.tables.cold[1].srtt_us.store(4000, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    let mut sent = world.write(1, &[7; 20 * MSS as usize]);
    for _ in 0..4 {
        sent.extend(world.poll());
    }
    assert_eq!(sent.len(), 10, "the congestion window holds");
    world.now_us += 4000;
    world.reports();
    world
}

/// An acknowledgement of `segments`, with blocks in segments, that answers something sent `age_us` ago.
fn sack(world: &World, segments: u64, blocks: &[(u64, u64)], age_us: u64) -> TestSegment {
    let mut segment = TestSegment { ack: (SND_START + segments * MSS) as u32, ..world.from_peer(1, b"") };
    let echo = timestamp_value(world.now_us - age_us, 0);
    segment.options = TestSegment::timestamps(world.hot(1).ts_recent.load(Relaxed), echo);
    if !blocks.is_empty() {
        segment.options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (start, end) in blocks {
            segment.options.extend(((SND_START + start * MSS) as u32).to_be_bytes());
            segment.options.extend(((SND_START + end * MSS) as u32).to_be_bytes());
        }
    }
    segment
}

fn seqs(sent: &[TestSegment]) -> Vec<u64> {
    sent.iter().map(|s| (extend(s.seq, SND_START) - SND_START) / MSS).collect()
}

fn recoveries(world: &World) -> u32 {
    world.hot(1).loss_counts.load(Relaxed) & 0xffff
}

#[test]
fn what_is_missing_is_sent_again_and_nothing_else() {
    let mut world = in_flight();
    // Segments 0 and 4 are lost. Each block lets one new segment out (RFC 3042, 6675).
    assert_eq!(seqs(&world.receive(&sack(&world, 0, &[(1, 2)], 4000))), [10]);
    assert_eq!(seqs(&world.receive(&sack(&world, 0, &[(1, 3)], 4000))), [11]);
    let sent = world.receive(&sack(&world, 0, &[(1, 4)], 4000));
    assert_eq!(seqs(&sent), [0], "more than two segments beyond the gap");
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (1, 5 * MSS as u32));
    let sent = world.receive(&sack(&world, 0, &[(5, 6), (1, 4)], 4000));
    assert!(!seqs(&sent).contains(&0), "once");
    let mut sent = sent;
    for end in 7..=12 {
        sent.extend(world.receive(&sack(&world, 0, &[(5, end), (1, 4)], 4000)));
    }
    assert_eq!(seqs(&sent).iter().filter(|s| **s < 10).collect::<Vec<_>>(), [&4]);
    assert!(sent.len() >= 4, "new data keeps the acknowledgements coming: {:?}", seqs(&sent));
    assert_eq!(recoveries(&world), 1, "one reduction");
    // Both arrive.
    world.now_us += 4000;
    world.receive(&sack(&world, 4, &[(5, 12)], 0));
    assert!(world.hot(1).flags.load(Relaxed) & hot_flags::RECOVERY != 0);
    world.receive(&sack(&world, 12, &[], 0));
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::RECOVERY, 0);
    assert_eq!(world.counter(Counter::Retransmits), 2);
    // The block is kept for a DSACK, not for ever.
    world.after(10_000);
    world.after(1);
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE);
    assert_eq!(world.hot(1).flags.load(Relaxed) & (hot_flags::SCOREBOARD | hot_flags::DISORDER), 0);
}

#[test]
fn the_rate_falls_in_proportion() {
    let mut world = in_flight();
    for end in 2..=4 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    // Nine segments and two new ones are acknowledged one by one: about half as many leave (RFC 6937).
    let sent: usize = (5..=12).map(|end| world.receive(&sack(&world, 0, &[(1, end)], 4000)).len()).sum();
    assert!((3..=6).contains(&sent), "{sent}");
}

#[test]
fn reordering_costs_nothing() {
    let mut world = in_flight();
    world.receive(&sack(&world, 0, &[(1, 2)], 4000));
    world.receive(&sack(&world, 0, &[(1, 3)], 4000));
    world.now_us += 100;
    world.receive(&sack(&world, 4, &[], 4100));
    assert_eq!((world.counter(Counter::Retransmits), recoveries(&world)), (0, 0));
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE, "the block went back");
    // From now on the path is known to reorder: any number of segments may overtake within a quarter of an RTT.
    world.receive(&sack(&world, 4, &[(5, 10)], 4100));
    assert_eq!(world.counter(Counter::Retransmits), 0);
    assert!(world.after(900).iter().all(|s| extend(s.seq, SND_START) >= SND_START + 10 * MSS));
    assert!(seqs(&world.after(200)).contains(&4), "then it is lost");
    assert_eq!(recoveries(&world), 1);
}

#[test]
fn a_single_block_is_enough_after_a_quarter_of_an_rtt() {
    let mut world = in_flight();
    world.receive(&sack(&world, 0, &[(1, 2)], 4000));
    let deadline = world.core.next_deadline_us().unwrap();
    assert!(deadline <= world.now_us + 1000, "the core wakes by itself");
    world.now_us = deadline;
    assert_eq!(seqs(&world.poll()), [0]);
}

#[test]
fn a_dsack_undoes_the_recovery_and_widens_the_window() {
    let mut world = in_flight();
    for end in 2..=4 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (1, 5 * MSS as u32));
    // The original arrives, then the copy: the timestamps are of one tick and tell nothing.
    world.receive(&sack(&world, 12, &[], 0));
    assert_eq!(recoveries(&world), 1);
    world.reports();
    world.receive(&sack(&world, 12, &[(0, 1)], 0));
    assert_eq!(recoveries(&world), 0, "the slow path sees that it was nothing");
    assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 10 * MSS as u32);
    assert_eq!(world.counter(Counter::SpuriousRecoveries), 1);
    assert!(world.report_ops().contains(&to_slow::ACTIVE), "asks to be sampled");
    assert_eq!(world.core.private[1].reordering_quarters(), 2);
}

#[test]
fn old_timestamps_undo_a_recovery() {
    let mut world = in_flight();
    for end in 2..=4 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    world.receive(&sack(&world, 4, &[], 4000));
    assert_eq!((recoveries(&world), world.hot(1).cwnd_bytes.load(Relaxed)), (0, 10 * MSS as u32));
}

#[test]
fn a_timeout_sends_again_what_the_peer_does_not_have() {
    let mut world = in_flight();
    world.receive(&sack(&world, 0, &[(3, 5)], 4000));
    world.tables.cold[1].cwnd_bytes.store(MSS as u32, Relaxed);
    assert_eq!(seqs(&world.ask(to_fast::RETRANSMIT, 1, MSS)), [0]);
    world.now_us += 4000;
    world.tables.cold[1].cwnd_bytes.store(20 * MSS as u32, Relaxed);
    let mut sent = world.ask(to_fast::UPDATE, 1, 0);
    for _ in 0..4 {
        sent.extend(world.poll());
    }
    assert_eq!(seqs(&sent)[..8], [1, 2, 5, 6, 7, 8, 9, 10], "3 and 4 are there");
    assert_eq!(world.hot(1).loss_counts.load(Relaxed) >> 24, 0);
}

#[test]
fn a_peer_that_takes_back_its_blocks_gets_everything_again() {
    let mut world = in_flight();
    world.receive(&sack(&world, 0, &[(1, 5)], 4000));
    // It acknowledges up to what it had said to have, and not that.
    world.receive(&sack(&world, 1, &[], 0));
    world.tables.cold[1].cwnd_bytes.store(20 * MSS as u32, Relaxed);
    let mut sent = world.ask(to_fast::RETRANSMIT, 1, 20 * MSS);
    for _ in 0..4 {
        sent.extend(world.poll());
    }
    assert_eq!(seqs(&sent)[..4], [1, 2, 3, 4]);
}

#[test]
fn a_spurious_timeout_is_undone() {
    for sack_permitted in [true, false] {
        let mut world = in_flight();
        if !sack_permitted {
            world.hot(1).flags.fetch_and(!hot_flags::SACK, Relaxed);
        }
        world.now_us += 50_000;
        world.tables.cold[1].cwnd_bytes.store(MSS as u32, Relaxed);
        assert_eq!(seqs(&world.ask(to_fast::RETRANSMIT, 1, MSS)), [0]);
        world.reports();
        // The acknowledgement of the original, late.
        let sent = world.receive(&sack(&world, 2, &[], 54_000));
        assert_eq!(world.hot(1).loss_counts.load(Relaxed) >> 24, 1, "the slow path sees it");
        assert!(seqs(&sent).iter().all(|s| *s >= 10), "nothing more is sent again: {:?}", seqs(&sent));
        assert!(world.report_ops().contains(&to_slow::ACTIVE));
        if sack_permitted {
            assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 10 * MSS as u32);
            assert_eq!(seqs(&sent), [10, 11]);
            assert!(
                world.hot(1).rtt_sample.load(Relaxed) & 0xff_ffff > 50_000,
                "the estimate learns of the delay"
            );
        }
        // A justified one is not.
        let mut world = in_flight();
        world.now_us += 50_000;
        world.ask(to_fast::RETRANSMIT, 1, MSS);
        world.now_us += 4000;
        world.receive(&sack(&world, 1, &[], 4000));
        assert_eq!(world.hot(1).loss_counts.load(Relaxed) >> 24, 0);
    }
}

#[test]
fn a_tail_probe_repairs_the_tail() {
    let mut world = in_flight();
    assert_eq!(seqs(&world.ask(to_fast::TAIL_PROBE, 1, 0)), [9]);
    assert_eq!((world.counter(Counter::TailProbes), recoveries(&world)), (1, 0));
    assert!(world.ask(to_fast::TAIL_PROBE, 1, 0).is_empty(), "one at a time");
    // More than the last was lost: the answer to the probe shows it.
    world.now_us += 4000;
    world.receive(&sack(&world, 6, &[(9, 10)], 0));
    let sent = world.after(1100);
    assert_eq!(seqs(&sent)[..1], [6]);
    assert_eq!(recoveries(&world), 1);
    // Only the last was lost: the window is halved when that is sure (RFC 8985 §7.4).
    let mut world = in_flight();
    world.ask(to_fast::TAIL_PROBE, 1, 0);
    world.now_us += 4000;
    world.receive(&sack(&world, 10, &[], 0));
    assert_eq!(recoveries(&world), 0, "perhaps a DSACK follows");
    world.receive(&sack(&world, 11, &[], 0));
    assert_eq!(recoveries(&world), 1);
    // It follows.
    let mut world = in_flight();
    world.ask(to_fast::TAIL_PROBE, 1, 0);
    world.now_us += 4000;
    world.receive(&sack(&world, 10, &[], 0));
    world.receive(&sack(&world, 10, &[(9, 10)], 0));
    world.receive(&sack(&world, 11, &[], 0));
    assert_eq!(recoveries(&world), 0);
}

#[test]
fn without_a_block_newreno_recovers() {
    let mut world = in_flight();
    // All blocks of the pool are in use.
    for flow in 2..=5 {
        world.install(flow);
        let mut segment = world.from_peer(flow, b"yy");
        segment.seq += 1;
        world.receive(&segment);
    }
    for end in 2..=3 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    assert_eq!(seqs(&world.receive(&sack(&world, 0, &[(1, 4)], 4000))), [0]);
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::SCOREBOARD, 0);
    assert_eq!((recoveries(&world), world.hot(1).recovery.load(Relaxed)), (1, NONE));
}

#[test]
fn recovery_goes_on_after_a_restart() {
    let mut world = in_flight();
    for end in 2..=4 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    assert!(world.hot(1).recovery.load(Relaxed) != NONE);
    world.restart();
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE);
    assert_eq!(
        world.hot(1).flags.load(Relaxed)
            & (hot_flags::SCOREBOARD | hot_flags::DISORDER | hot_flags::RECOVERY),
        0
    );
    assert_eq!(seqs(&world.poll())[0], 0, "asks what arrived");
    world.now_us += 4000;
    let sent = world.receive(&sack(&world, 5, &[(6, 12)], 0));
    assert!(seqs(&sent).contains(&5), "{:?}", seqs(&sent));
}

#[test]
fn the_window_of_the_slow_path_holds_after_recovery() {
    let mut world = in_flight();
    for end in 2..=4 {
        world.receive(&sack(&world, 0, &[(1, end)], 4000));
    }
    world.tables.cold[1].cwnd_bytes.store(8 * MSS as u32, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 5 * MSS as u32, "it may not know of the loss yet");
    world.now_us += 4000;
    world.receive(&sack(&world, 12, &[], 0));
    assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 8 * MSS as u32);
}

#[test]
fn what_was_received_twice_is_reported_first() {
    let mut world = in_flight();
    let blocks = |sent: &[TestSegment]| -> Vec<u32> {
        let pure = sent.iter().find(|s| s.payload.is_empty());
        let bytes = pure.map_or(&[][..], |s| s.options.get(16..).unwrap_or(&[]));
        bytes
            .chunks(4)
            .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]).wrapping_sub(RCV_START as u32))
            .collect()
    };
    let at = |world: &World, offset: u64, payload: &[u8]| TestSegment {
        seq: (RCV_START + offset) as u32,
        ..world.from_peer(1, payload)
    };
    world.receive(&at(&world, 0, b"0123456789"));
    let sent = world.receive(&at(&world, 2, b"2345"));
    assert_eq!(blocks(&sent), [2, 6], "RFC 2883 §4.1");
    let sent = world.receive(&at(&world, 8, b"89ab"));
    assert_eq!(blocks(&sent), [8, 10], "the part that is old");
    world.receive(&at(&world, 20, b"kkkkkkkk"));
    let sent = world.receive(&at(&world, 22, b"kk"));
    assert_eq!(blocks(&sent), [22, 24, 20, 28], "RFC 2883 §4.3: with the block it lies in");
    let sent = world.receive(&at(&world, 30, b"mm"));
    assert_eq!(blocks(&sent), [30, 32, 20, 28], "said once");
}

/// Found by a simulated world: what a flow received twice was kept beyond its end, and the next one said it.
#[test]
fn a_slot_that_is_used_again_reports_nothing_of_its_last_flow() {
    let mut world = in_flight();
    world.core.twice = (1, RCV_START, RCV_START + 6);
    world.ask(to_fast::REMOVE, 1, 0);
    world.prepare(1);
    world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    let mut beyond = world.from_peer(1, b"beyond");
    beyond.seq += 100;
    let sent = world.receive(&beyond);
    // Timestamps, then one block with its head.
    assert_eq!(sent.last().map(|ack| ack.options.len()), Some(12 + 4 + 8));
}
