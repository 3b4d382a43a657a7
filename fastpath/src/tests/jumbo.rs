// SPDX-License-Identifier: MIT OR Apache-2.0
//! A port with an MTU of 9000.

use super::{Random, World};
use crate::testing::*;
use crate::Config;
use abi::{
    core_status::Counter,
    flow::{hot_flags, mss_scale},
    kernel_ring::{reason, to_fast, to_slow},
};
use std::sync::atomic::Ordering::Relaxed;

/// Full segments with timestamps and without.
const FULL: usize = World::MSS_MAX as usize + 7500;
const FULL_PLAIN: usize = FULL + 12;

fn world() -> World {
    World::with(8, Config { mtu_bytes: 9000, ..Config::default() })
}

/// Flow 1, whose MSS is what its frames hold.
fn connected(timestamps: bool) -> World {
    let mut world = world();
    world.prepare(1);
    let hot = world.hot(1);
    if !timestamps {
        hot.flags.fetch_and(!hot_flags::TIMESTAMPS, Relaxed);
    }
    hot.mss_scale.store(mss_scale(u16::MAX, 0, 0), Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    world.events();
    world
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(3);
    (0..bytes).map(|_| random.next() as u8).collect()
}

#[test]
fn full_segments_are_sent_over_several_chunks() {
    for (timestamps, full) in [(true, FULL), (false, FULL_PLAIN)] {
        let mut world = connected(timestamps);
        let stream = noise(3 * full + 100);
        let mut sent = world.write(1, &stream);
        sent.extend(world.poll());
        assert_eq!(sent.iter().map(|s| s.payload.len()).collect::<Vec<_>>(), [full, full, full, 100]);
        assert_eq!(sent.iter().flat_map(|s| s.payload.clone()).collect::<Vec<_>>(), stream);
        let frame = sent[0].encode();
        assert_eq!(frame.len(), 9014);
        // Lost, it is sent again as long.
        let again = world.ask(to_fast::RETRANSMIT, 1, 9000);
        assert_eq!((again[0].seq, again[0].payload.len()), (sent[0].seq, full));
    }
}

#[test]
fn full_segments_are_received() {
    for (timestamps, full) in [(true, FULL), (false, FULL_PLAIN)] {
        let mut world = connected(timestamps);
        let stream = noise(3 * full);
        for piece in stream.chunks(full) {
            let mut segment = world.from_peer(1, piece);
            if !timestamps {
                segment.options.clear();
            }
            world.receive(&segment);
        }
        assert_eq!(world.received(1, RCV_START, RCV_START + 3 * full as u64), stream);
        assert_eq!(world.counter(Counter::Malformed), 0);
        let read = world.read_to(1, RCV_START + 3 * full as u64);
        assert!(read.iter().chain(&world.after(1000)).all(|segment| segment.payload.is_empty()));
        assert_eq!(world.chunks_in_use(), 0);
    }
}

/// A segment of a flow that is not installed yet goes through the slow path, in a slot of its ring, and back.
#[test]
fn a_full_segment_takes_the_way_over_the_slow_path() {
    let mut world = world();
    world.prepare(1);
    let stream = noise(2 * FULL);
    let first = world.from_peer(1, &stream[..FULL]);
    world.receive(&first);
    let (entry, frame) = world.reports().pop().expect("handed to the slow path");
    assert_eq!((entry.op, entry.reason, &frame), (to_slow::PACKET, reason::NO_FLOW, &first.encode()));
    assert_eq!(frame.len(), 9014);
    world.ask(to_fast::INSTALL, 1, 0);
    world.ask_with_frame(to_fast::INJECT, &frame);
    // And the next on the fast path again.
    let next = world.from_peer(1, &stream[FULL..]);
    assert_eq!(u64::from(next.seq), (RCV_START + FULL as u64) & 0xffff_ffff);
    world.receive(&next);
    assert_eq!(world.received(1, RCV_START, RCV_START + 2 * FULL as u64), stream);
    // A frame that no slot holds is refused.
    for bytes in [9217, u64::MAX] {
        assert!(world.ask(to_fast::TRANSMIT, 0, bytes).is_empty());
    }
    assert_eq!(world.counter(Counter::Malformed), 2);
}

/// A probe for the path's MTU is as long as a frame, and no longer.
#[test]
fn probes_reach_up_to_the_mtu() {
    for (bytes, sent) in [(FULL, true), (FULL + 1, false)] {
        let mut world = connected(true);
        world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
        world.tables.cold[1].mss_bytes.store(1000, Relaxed);
        world.tables.cold[1].cwnd_bytes.store(20_000, Relaxed);
        world.ask(to_fast::UPDATE, 1, 0);
        let mut in_flight = world.write(1, &noise(60_000));
        (0..4).for_each(|_| in_flight.extend(world.poll()));
        assert_eq!(in_flight.len(), 20);
        world.ask(to_fast::PROBE_PATH, 1, bytes as u64);
        let half = TestSegment { ack: (SND_START + 10_000) as u32, ..world.from_peer(1, b"") };
        let mut next = world.receive(&half);
        next.extend(world.poll());
        assert_eq!(next[0].payload.len(), if sent { FULL } else { 1000 });
    }
}

/// A fast path on a port with a smaller MTU takes over.
#[test]
fn a_smaller_port_cuts_smaller_segments() {
    let mut world = connected(true);
    let stream = noise(2 * FULL);
    assert_eq!(world.write(1, &stream)[0].payload.len(), FULL);
    world.restart_with(Config { mtu_bytes: 1500, ..Config::default() });
    let sent: Vec<_> = world.ask(to_fast::RETRANSMIT, 1, 60_000);
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|segment| segment.payload.len() <= World::MSS_MAX as usize));
}
