// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data out of order: kept, joined, acknowledged with SACK.

use super::{Random, World};
use crate::testing::*;
use abi::{
    core_status::Counter,
    flow::{hot_flags, NONE},
    kernel_ring::{to_fast, to_slow},
};
use std::sync::atomic::Ordering::Relaxed;

fn at(world: &World, offset: u64, payload: &[u8]) -> TestSegment {
    TestSegment { seq: (RCV_START + offset) as u32, ..world.from_peer(1, payload) }
}

#[test]
fn a_gap_is_answered_at_once_and_filled() {
    let mut world = World::connected();
    let sent = world.receive(&at(&world, 3, b"def"));
    assert_eq!((sent.len(), sent[0].ack), (1, RCV_START as u32), "a duplicate acknowledgement");
    assert!(world.events().is_empty());
    let sent = world.receive(&at(&world, 0, b"abc"));
    assert_eq!((sent.len(), sent[0].ack), (1, RCV_START as u32 + 6));
    assert_eq!(world.events()[0].rx, RCV_START + 6);
    assert_eq!(world.received(1, RCV_START, RCV_START + 6), b"abcdef");
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE, "the block is free again");
}

#[test]
fn a_fin_out_of_order_is_remembered() {
    let mut world = World::connected();
    let mut segment = at(&world, 3, b"def");
    segment.flags |= FIN;
    world.receive(&segment);
    assert!(world.report_ops().is_empty());
    let sent = world.receive(&at(&world, 0, b"abc"));
    assert_eq!(sent[0].ack, RCV_START as u32 + 7);
    assert_eq!(world.report_ops(), [to_slow::FIN_RECEIVED]);
    assert_eq!(world.events()[0].rx, RCV_START + 6);
    // A bare FIN beyond a gap.
    let mut world = World::connected();
    let mut segment = at(&world, 3, b"");
    segment.flags |= FIN;
    world.receive(&segment);
    let sent = world.receive(&at(&world, 0, b"abc"));
    assert_eq!(sent[0].ack, RCV_START as u32 + 4);
    assert_eq!(world.hot(1).recovery.load(Relaxed), NONE);
}

#[test]
fn sack_reports_the_latest_first() {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    world.receive(&at(&world, 10, b"aa"));
    world.receive(&at(&world, 30, b"bb"));
    let sent = world.receive(&at(&world, 20, b"cc"));
    let mut expected = TestSegment::timestamps(abi::clock::timestamp_value(world.now_us, 0), 1000);
    expected.extend([1, 1, 5, 26]);
    for start in [20u32, 30, 10] {
        expected.extend((RCV_START as u32 + start).to_be_bytes());
        expected.extend((RCV_START as u32 + start + 2).to_be_bytes());
    }
    assert_eq!(sent[0].options, expected);
    // With a port that fills in checksums.
    let mut world = World::new();
    world.core.offload = true;
    world.prepare(1);
    world.hot(1).flags.store(World::FAMILY_FLAG | hot_flags::SACK, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    let sent = world.receive(&at(&world, 10, b"aa"));
    assert_eq!(sent[0].options.len(), 12);
}

#[test]
fn one_interval_too_many_is_dropped_and_so_is_one_flow_too_many() {
    let mut world = World::connected();
    let most = abi::recovery::INTERVALS as u64;
    for n in 0..most {
        world.receive(&at(&world, 10 + n * 10, b"xx"));
    }
    assert_eq!(world.counter(Counter::OutOfOrder), most);
    let sent = world.receive(&at(&world, 10 + most * 10, b"xx"));
    assert_eq!(sent.len(), 1);
    assert_eq!(world.counter(Counter::OutOfOrderDropped), 1);
    // The test world has four recovery blocks.
    for flow in 2..=5 {
        world.install(flow);
        let mut segment = world.from_peer(flow, b"yy");
        segment.seq += 1;
        world.receive(&segment);
    }
    assert_eq!(world.counter(Counter::OutOfOrderDropped), 2);
    assert_eq!(world.hot(5).recovery.load(Relaxed), NONE);
}

/// A stream cut into segments that arrive in any order, repeated, lost and overlapping, over several chunks: the
/// application reads exactly the stream.
#[test]
fn any_order_gives_the_stream() {
    for seed in 1..=40u64 {
        let mut random = Random::new(seed);
        let stream: Vec<u8> = (0..20_000).map(|_| random.next() as u8).collect();
        let mut world = World::connected();
        let hot = world.hot(1);
        let mut read = Vec::new();
        for step in 0.. {
            assert!(step < 20_000, "seed {seed}: no progress");
            let next = hot.rcv_nxt.load(Relaxed) - RCV_START;
            if next as usize == stream.len() {
                break;
            }
            let start = (next + random.below(9000)).saturating_sub(random.below(4000)) as usize;
            let start = if random.below(3) == 0 { next as usize } else { start };
            let end = (start + 1 + random.below(1428) as usize).min(stream.len());
            if start < end {
                world.receive(&at(&world, start as u64, &stream[start..end]));
            }
            if random.below(4) == 0 {
                let from = hot.rcv_read.load(Relaxed);
                let to = from + random.below(hot.rcv_nxt.load(Relaxed) - from + 1);
                read.extend(world.received(1, from, to));
                world.read_to(1, to);
            }
        }
        let (from, to) = (hot.rcv_read.load(Relaxed), hot.rcv_nxt.load(Relaxed));
        read.extend(world.received(1, from, to));
        world.read_to(1, to);
        assert!(read == stream, "seed {seed}");
        assert_eq!(hot.recovery.load(Relaxed), NONE, "seed {seed}");
        assert_eq!(world.chunks_in_use(), 0, "seed {seed}: an idle flow holds no chunk");
        assert_eq!(world.core.port_mut().live(), 0);
        world.events();
    }
}
