// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss: fast retransmit and NewReno (RFC 5681, 6582), retransmission timeout.

use super::World;
use crate::testing::*;
use abi::{core_status::Counter, flow::hot_flags, kernel_ring::to_fast};
use std::sync::atomic::Ordering::Relaxed;

const MSS: u64 = 1428;

/// Ten full segments are in flight.
fn in_flight() -> World {
    let mut world = World::connected();
    world.tables.cold[1].cwnd_bytes.store(10 * MSS as u32, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let mut sent = world.write(1, &[7; 20 * MSS as usize]);
    for _ in 0..4 {
        sent.extend(world.poll());
    }
    assert_eq!(sent.len(), 10, "the congestion window holds");
    world
}

fn ack(world: &World, segments: u64) -> TestSegment {
    TestSegment { ack: (SND_START + segments * MSS) as u32, ..world.from_peer(1, b"") }
}

fn seqs(sent: &[TestSegment]) -> Vec<u64> {
    sent.iter().map(|s| (abi::flow::extend(s.seq, SND_START) - SND_START) / MSS).collect()
}

#[test]
fn three_duplicates_retransmit_one_segment() {
    let mut world = in_flight();
    let duplicate = ack(&world, 2);
    assert_eq!(seqs(&world.receive(&duplicate)), [10, 11], "progress first");
    // Limited transmit (RFC 3042): the first two let new data out.
    assert_eq!(seqs(&world.receive(&duplicate)), [12]);
    assert_eq!(seqs(&world.receive(&duplicate)), [13]);
    assert_eq!(world.counter(Counter::FastRetransmits), 0);
    assert_eq!(seqs(&world.receive(&duplicate)), [2]);
    assert_eq!(world.counter(Counter::FastRetransmits), 1);
    assert_eq!(world.hot(1).loss_counts.load(Relaxed) & 0xffff, 1);
    assert_eq!(world.hot(1).cwnd_bytes.load(Relaxed), 5 * MSS as u32, "halved");
    assert!(world.hot(1).flags.load(Relaxed) & hot_flags::RECOVERY != 0);
    // Further duplicates: no second retransmission; new data once enough has left the network.
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.extend(world.receive(&duplicate));
    }
    assert_eq!(seqs(&sent), [14, 15, 16, 17], "window 5 + 11 duplicates, from segment 2");
}

#[test]
fn a_partial_acknowledgement_retransmits_the_next_and_a_full_one_ends_recovery() {
    let mut world = in_flight();
    for _ in 0..4 {
        world.receive(&ack(&world, 0));
    }
    let recover = world.hot(1).snd_max.load(Relaxed);
    let sent = world.receive(&ack(&world, 4));
    assert_eq!(seqs(&sent)[0], 4, "the next hole");
    assert!(world.hot(1).flags.load(Relaxed) & hot_flags::RECOVERY != 0);
    assert_eq!(world.counter(Counter::FastRetransmits), 1);
    let mut full = ack(&world, 0);
    full.ack = recover as u32;
    world.receive(&full);
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::RECOVERY, 0);
    assert_eq!((world.hot(1).loss_counts.load(Relaxed) >> 16) & 0xff, 0);
}

#[test]
fn what_is_no_duplicate() {
    let mut world = in_flight();
    let plain = ack(&world, 0);
    for round in 0..6u16 {
        // Data, a changed window, and an acknowledgement with nothing outstanding do not count.
        world.receive(&TestSegment {
            payload: b"data".to_vec(),
            seq: world.hot(1).rcv_nxt.load(Relaxed) as u32,
            ..plain.clone()
        });
        world.receive(&TestSegment {
            seq: world.hot(1).rcv_nxt.load(Relaxed) as u32,
            window: 50_000 - round,
            ..plain.clone()
        });
    }
    assert_eq!(world.counter(Counter::FastRetransmits), 0);
    let mut world = World::connected();
    for _ in 0..6 {
        world.receive(&world.from_peer(1, b""));
    }
    assert_eq!(world.counter(Counter::FastRetransmits), 0);
}

#[test]
fn a_timeout_goes_back_and_starts_small() {
    let mut world = in_flight();
    world.hot(1).rtt_sample.store(0, Relaxed);
    let sent = world.ask(to_fast::RETRANSMIT, 1, MSS);
    assert_eq!(seqs(&sent), [0]);
    assert_eq!(world.counter(Counter::TimeoutRetransmits), 1);
    assert_eq!(world.hot(1).snd_max.load(Relaxed), SND_START + 10 * MSS);
    // The window grows again: everything is sent again from there, then new data.
    world.tables.cold[1].cwnd_bytes.store(4 * MSS as u32, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let sent = world.receive(&ack(&world, 1));
    assert_eq!(seqs(&sent), [4], "segments 1 to 3 went out with UPDATE");
    // The peer had everything.
    let sent = world.receive(&ack(&world, 10));
    assert_eq!(seqs(&sent), [10, 11, 12, 13]);
    assert_eq!(world.hot(1).rtt_sample.load(Relaxed) >> 24, 0, "no RTT from what was sent twice (Karn)");
    // Duplicates of before the timeout do not cause a fast retransmit (RFC 6582 §4).
    let mut world = in_flight();
    world.ask(to_fast::RETRANSMIT, 1, MSS);
    for _ in 0..5 {
        world.receive(&ack(&world, 0));
    }
    assert_eq!(world.counter(Counter::FastRetransmits), 0);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut world = World::connected();
    world.write(1, b"data");
    world.finish(1);
    let mut data = world.from_peer(1, b"");
    data.ack -= 1;
    world.receive(&data);
    let sent = world.ask(to_fast::RETRANSMIT, 1, MSS);
    assert_eq!((sent.len(), sent[0].flags, sent[0].seq), (1, ACK | FIN, SND_START as u32 + 4));
    // Data and FIN both lost: one segment again.
    let mut world = World::connected();
    world.write(1, b"data");
    world.finish(1);
    let sent = world.ask(to_fast::RETRANSMIT, 1, MSS);
    assert_eq!((sent.len(), sent[0].flags, sent[0].payload.len()), (1, ACK | FIN | PSH, 4));
    assert_eq!(world.hot(1).snd_max.load(Relaxed), SND_START + 5);
}

#[test]
fn a_timeout_with_nothing_outstanding_does_nothing() {
    let mut world = World::connected();
    assert!(world.ask(to_fast::RETRANSMIT, 1, MSS).is_empty());
    assert_eq!(world.counter(Counter::TimeoutRetransmits), 0);
}

#[test]
fn acknowledgements_after_a_timeout_carry_an_acceptable_sequence_number() {
    let mut world = in_flight();
    world.ask(to_fast::RETRANSMIT, 1, MSS);
    let sent = world.ask(to_fast::ACKNOWLEDGE, 1, 0);
    assert_eq!(sent[0].seq, (SND_START + 10 * MSS) as u32);
}

#[test]
fn duplicates_with_sack_count_although_the_window_changes() {
    for (sack, retransmits) in [(true, 1), (false, 0)] {
        let mut world = in_flight();
        for round in 0..4u16 {
            let mut duplicate = ack(&world, 0);
            duplicate.window = 50_000 - round;
            if sack {
                let block = SND_START as u32 + MSS as u32;
                duplicate.options.extend([1, 1, 5, 10]);
                duplicate.options.extend(block.to_be_bytes());
                duplicate.options.extend((block + 9).to_be_bytes());
            }
            world.receive(&duplicate);
        }
        assert_eq!(world.counter(Counter::FastRetransmits), retransmits);
    }
}
