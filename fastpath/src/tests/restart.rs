// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path dies at any point and another takes over.

use super::{Random, World};
use crate::testing::*;
use abi::{
    flow::{slot_state, NONE},
    kernel_ring::to_slow,
};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn flows_go_on_after_a_restart() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"before"));
    world.write(1, b"in flight");
    let mut beyond = world.from_peer(1, b"out of order");
    beyond.seq += 100;
    beyond.ack = SND_START as u32;
    world.receive(&beyond);
    world.events();
    world.reports();
    world.restart();
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE);
    let sent = world.poll();
    assert_eq!(
        (sent.len(), sent[0].payload.as_slice()),
        (1, &b"in flight"[..]),
        "asks the peer what arrived"
    );
    let events = world.events();
    assert_eq!((events.len(), events[0].rx, events[0].tx), (1, RCV_START + 6, SND_START));
    assert_eq!(world.received(1, RCV_START, RCV_START + 6), b"before");
    world.receive(&world.from_peer(1, b" and after"));
    assert_eq!(world.received(1, RCV_START, RCV_START + 16), b"before and after");
    assert_eq!(world.hot(1).snd_una.load(Relaxed), SND_START + 9);
}

#[test]
fn an_owed_acknowledgement_is_still_owed() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"data"));
    world.restart();
    assert_eq!(world.after(100).len(), 1);
}

#[test]
fn chunks_with_unread_data_are_not_handed_out_again() {
    let mut world = World::with(40, crate::Config::default());
    for flow in 1..40 {
        world.install(flow);
        world.receive(&world.from_peer(flow, &[flow as u8; 20]));
        if flow % 2 == 0 {
            world.read_to(flow, RCV_START + 20);
        }
        // Left over in a map, but nothing unread is in it.
        world.receive_map(flow)[40].store(flow, Relaxed);
        world.events();
    }
    world.restart();
    assert_eq!(world.core.shared.free_chunks(APPLICATION), 256 - 2 * 20);
    for flow in 1..40 {
        world.receive(&world.from_peer(flow, &[100 + flow as u8; 1000]));
        world.events();
    }
    for flow in (1..40).step_by(2) {
        assert_eq!(world.received(flow, RCV_START, RCV_START + 20), [flow as u8; 20], "flow {flow}");
        assert_eq!(world.received(flow, RCV_START + 20, RCV_START + 1020), [100 + flow as u8; 1000]);
    }
}

#[test]
fn chunks_of_what_came_out_of_order_are_free_again_and_in_no_map() {
    let mut world = World::connected();
    let mut beyond = world.from_peer(1, b"out of order");
    beyond.seq += 5000;
    world.receive(&beyond);
    world.restart();
    assert!(world.receive_map(1).iter().take(64).all(|word| word.load(Relaxed) == 0));
    assert_eq!(world.core.shared.free_chunks(APPLICATION), 256);
}

/// Simulated world 9043: the next flow with the map shared chunks with others, and gave them back twice.
#[test]
fn a_flow_that_was_to_be_removed_leaves_an_empty_map() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"unread"));
    assert_ne!(world.receive_map(1)[(RCV_START >> 12) as usize % 64].load(Relaxed), 0);
    world.tables.cold[1].state.store(slot_state::REMOVING, Relaxed);
    world.restart();
    assert!(world.receive_map(1).iter().take(64).all(|word| word.load(Relaxed) == 0));
    assert_eq!(world.core.shared.free_chunks(APPLICATION), 256);
}

/// A transfer in both directions with a kill at random points: every byte arrives once and in order.
#[test]
fn no_byte_is_lost_or_doubled() {
    for seed in 1..=20u64 {
        let mut random = Random::new(seed);
        let mut world = World::connected();
        let hot = world.hot(1);
        let (mut received, mut wanted, mut echoed) = (Vec::<u8>::new(), Vec::<u8>::new(), Vec::<u8>::new());
        let (mut peer_got, mut peer_ack) = (Vec::<u8>::new(), SND_START);
        for step in 0..400 {
            if random.below(10) == 0 {
                world.restart();
            }
            // The peer sends what we have acknowledged last, so a lost acknowledgement only repeats data.
            let next = hot.rcv_nxt.load(Relaxed);
            let len = 1 + random.below(1000);
            while (wanted.len() as u64) < next - RCV_START + len {
                wanted.push(random.next() as u8);
            }
            let from = (next - RCV_START) as usize;
            let mut segment = world.from_peer(1, &wanted[from..from + len as usize]);
            segment.ack = peer_ack as u32;
            let mut sent = world.receive(&segment);
            let (from, to) = (hot.rcv_read.load(Relaxed), hot.rcv_nxt.load(Relaxed));
            let bytes = world.received(1, from, to);
            received.extend(&bytes);
            sent.extend(world.read_to(1, to));
            if hot.snd_end.load(Relaxed) - hot.snd_una.load(Relaxed) < 20_000 {
                echoed.extend(&bytes);
                sent.extend(world.write(1, &bytes));
            }
            sent.extend(world.after(200));
            for segment in sent {
                let start = abi::flow::extend(segment.seq, peer_ack);
                if start <= peer_ack && start + segment.payload.len() as u64 > peer_ack {
                    peer_got.extend(&segment.payload[(peer_ack - start) as usize..]);
                    peer_ack = start + segment.payload.len() as u64;
                }
            }
            world.events();
            assert!(world.report_ops().iter().all(|op| *op == to_slow::ACTIVE), "seed {seed} step {step}");
        }
        assert!(received == wanted[..received.len()], "seed {seed}");
        assert!(
            peer_got == echoed[..peer_got.len()] && peer_got.len() > 10_000,
            "seed {seed}: {}",
            peer_got.len()
        );
    }
}
